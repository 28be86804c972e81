"""The parts of one run side by side: each counted from its own first epoch, with a name that says what it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing.assessing import Assessment, assess
from gradcam_callbacks.reviewing.report import read_steps
from gradcam_callbacks.reviewing.verdict import Verdict, most_serious


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a run that was read and measured.

    Attributes:
        journal: of the part.
        found: what can be said of it. Its steps are those of the run less the first one of the part.
        title: what people call it in a sentence, such as "Part 2 (conv2d_3, 7 × 7)".
        name: what people call it on the page, such as "part 2: conv2d_3, 7 × 7, epochs 3–5", with the steps of the run.
            Both are "" where the run has one part.
    """

    journal: Journal
    found: Assessment
    title: str
    name: str

    @property
    def page(self) -> int:
        """The first part on its page."""
        return self.journal.manifest.page


def assessed(journals: Iterable[Journal]) -> list[Part]:
    """Reads and measures the parts of a run, in their order; those without a step that can be read are left out.

    Part 1 keeps the steps of the run. A later part begins at epoch 0, beside the first epoch of part 1.

    Args:
        journals: of all parts of a run.

    Raises:
        GradCAMError: if the regions of one are damaged.
    """
    read = [(journal, read_steps(journal)) for journal in sorted(journals, key=lambda one: one.manifest.part)]
    read = [(journal, steps) for journal, steps in read if steps]
    is_alone = len(read) == 1 and read[0][0].manifest.part == 1
    return [_part(journal, steps, is_alone=is_alone) for journal, steps in read]


def verdict_of(parts: Sequence[Part]) -> Verdict:
    """What a run comes to: the most serious verdict of its parts, whose summary says which part; of equals the last.

    Args:
        parts: at least one.
    """
    return most_serious([(part.title, part.found.verdict) for part in parts])


def _part(journal: Journal, steps: Sequence[Step], *, is_alone: bool) -> Part:
    manifest = journal.manifest
    trained = [step.step for step in steps if step.step >= 0]
    first = trained[0] if trained and manifest.part > 1 else 0
    found = assess(journal, steps, first=first)
    if is_alone:
        return Part(journal, found, "", "")
    what = f"{manifest.layer}, {' × '.join(map(str, steps[-1].maps.shape[2:]))}"
    when = f"{manifest.unit} {trained[0]}" if len(trained) == 1 else "before training"
    if len(trained) > 1:
        when = f"{manifest.unit}{'es' if manifest.unit == 'batch' else 's'} {trained[0]}–{trained[-1]}"
    number = manifest.part
    return Part(journal, found, f"Part {number} ({what})", f"part {number}: {what}, {when}")

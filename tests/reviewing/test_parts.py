"""The parts of a run as the review tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.journals import jumping, make_journal

from gradcam_callbacks.record.parts import part_folder
from gradcam_callbacks.reviewing.parts import assessed, verdict_of
from gradcam_callbacks.reviewing.verdict import MOST_SUMMARY, Verdict, most_serious


def test_a_later_part_begins_at_its_own_epoch_0() -> None:
    """Its steps, events and tests are counted from there; its name says the steps of the run."""
    first = make_journal(Path("kept"), steps=range(-1, 3))
    maps = {number + 3: of_step for number, of_step in jumping(range(8), 5, kinds=2, count=2).items()}
    second = make_journal(part_folder(Path("kept"), 2), part=2, steps=range(3, 11), maps=maps, layer="conv2d_3")
    parts = assessed([second, first])
    assert [[step.step for step in part.found.steps] for part in parts] == [[-1, 0, 1, 2], [*range(8)]]
    assert [part.name for part in parts] == [
        "part 1: top_conv, 7 × 7, epochs 0–2",
        "part 2: conv2d_3, 7 × 7, epochs 3–10",
    ]
    assert {event.step for event in parts[1].found.events if event.kind == "moved"} == {5}
    assert list(parts[1].found.measures.steps) == [*range(8)]


def test_one_part_is_the_run() -> None:
    """It has no name of its own, and its steps stay; a part without a step is left out."""
    alone = make_journal(Path("alone"), steps=range(4, 7))
    empty = make_journal(part_folder(Path("alone"), 2), part=2, steps=())
    (part,) = assessed([alone, empty])
    assert (part.name, [step.step for step in part.found.steps]) == ("", [4, 5, 6])
    assert verdict_of([part]) == part.found.verdict


@pytest.mark.parametrize(
    ("steps", "when"), [((-1,), "before training"), ((-1, 4), "epoch 4"), ((2, 3, 9), "epochs 2–9")]
)
def test_the_name_says_when(steps: tuple[int, ...], when: str) -> None:
    """In the steps of the run."""
    (part,) = assessed([make_journal(Path("kept"), part=2, steps=steps)])
    assert part.name == f"part 2: top_conv, 7 × 7, {when}"


def test_the_most_serious_verdict_is_that_of_the_run() -> None:
    """With the part that it is of, in a summary that is not too long; of equals the last."""
    verdicts = [("Part 1", Verdict("ok", "All is well.")), ("Part 2", Verdict("moved", "It jumped. " * 60))]
    found = most_serious([*verdicts, ("Part 3", Verdict("ok", "Well, too."))])
    assert found.name == "moved"
    assert found.summary.startswith("Part 2: It jumped. It")
    assert len(found.summary) <= MOST_SUMMARY
    assert found.sentence == "Part 2: It jumped."
    assert most_serious([verdicts[0], ("Part 3", Verdict("ok", "Well, too."))]).summary == "Part 3: Well, too."

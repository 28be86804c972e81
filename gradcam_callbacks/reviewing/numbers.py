"""The numbers of runs as a table: a row each run, step, probe and target."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.measures import MEASURES
from gradcam_callbacks.reviewing.assessing import Assessment

_COLUMNS = {"scores": "score", "probabilities": "probability"}  # of measures; others have their own names


def as_csv(names: Sequence[str], journals: Sequence[Journal], assessments: Sequence[Assessment]) -> str:
    """All that was measured, as CSV (RFC 4180): what the review page saves, of every step and in full.

    The columns are run, epoch (or batch), probe, target, label, the class that is explained, the one that is predicted,
    score, probability, the other measures of `MEASURES`, and health. Step -1 is before training; what is not known is
    empty.

    Args:
        names: of the runs.
        journals: one a run, of any probes.
        assessments: of the journals.
    """
    units = {journal.manifest.unit for journal in journals}
    unit = units.pop() if len(units) == 1 else "step"
    head = ["run", unit, "probe", "target", "label", "explained", "predicted"]
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow([*head, *(_COLUMNS.get(name, name) for name in MEASURES), "health"])
    for name, journal, found in zip(names, journals, assessments, strict=True):
        table.writerows(_rows(name, journal, found))
    return file.getvalue()


def _rows(name: str, journal: Journal, found: Assessment) -> Iterator[list[str | int | float]]:
    manifest = journal.manifest

    def class_name(index: int) -> str:
        return "" if index < 0 else manifest.class_name(index)

    for s, step in enumerate(found.steps):
        for n, probe in enumerate(manifest.names):
            label = "" if manifest.labels is None else class_name(manifest.labels[n])
            predicted = class_name(int(step.predicted[n]))
            for k, target in enumerate(manifest.targets):
                values = [float(found.measures[measure][s, n, k]) for measure in MEASURES]
                yield [
                    *(name, step.step, probe, target, label, class_name(int(step.explained[n, k])), predicted),
                    *(value if math.isfinite(value) else "" for value in values),
                    str(step.health[n, k]),
                ]

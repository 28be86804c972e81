"""write_report(): the review page of journals and of runs in MLflow; and what it says, as JSON takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.reliance import COUNTS
from gradcam_callbacks.reviewing.assessing import assess
from gradcam_callbacks.reviewing.findings import last_test, text
from gradcam_callbacks.reviewing.report import read_steps, write


def write_report(
    sources: str | Path | Sequence[str | Path],
    out: str | Path = "report.html",
    *,
    names: Sequence[str] | None = None,
    tracking_uri: str | None = None,
) -> Path:
    """Writes the review page of one training, or of several side by side, aligned by probe and step.

    Args:
        sources: a journal's folder, a run as "runs:/ID", or a list of these; all of the same probes.
        out: the file of the page, an HTML file that loads nothing else; one that is there is replaced.
        names: of the trainings on the page; by default those of the runs, or of the folders.
        tracking_uri: where the runs are; by default MLflow's own tracking URI.

    Returns:
        The path of the page.

    Raises:
        GradCAMError: if a source is no journal, holds no step, or has other probes than the first.
        mlflow.MlflowException: if there is no such run, or no tracking server.
        OSError: if the page cannot be written.
    """
    with opened(sources, tracking_uri) as trainings:
        return write(
            [training.journal for training in trainings],
            out,
            names=[training.name for training in trainings] if names is None else names,
            links=[training.link for training in trainings],
        )


def told(sources: str | Path | Sequence[str | Path], *, tracking_uri: str | None = None) -> list[dict[str, Any]]:
    """What the review says of trainings, as JSON takes it.

    Args:
        sources: see `write_report`; of any probes.
        tracking_uri: see `write_report`.

    Returns:
        For each its name, verdict, summary, events, and the findings of its last test of reliance. A count is how many
        answers or pictures changed, and of how many.

    Raises:
        Exception: see `write_report`.
    """
    with opened(sources, tracking_uri) as trainings:
        return [_of(training.name, training.journal) for training in trainings]


def _of(name: str, journal: Journal) -> dict[str, Any]:
    found = assess(journal, read_steps(journal))
    when, test = last_test(found.tests)
    return {
        "name": name,
        "verdict": found.verdict.name,
        "summary": found.verdict.summary,
        "events": [dataclasses.asdict(event) for event in found.events],
        "findings": [
            {
                "step": when,
                "class": journal.manifest.class_name(finding.answer),
                "text": text(finding, journal.manifest),
            }
            | {key: getattr(finding, key) for key in ("answer", "kind", "outcome", "alike", "in_place", *COUNTS)}
            | {key: [journal.manifest.names[n] for n in getattr(finding, key)] for key in ("probes", "decisive")}
            for finding in test.findings
        ],
    }


@dataclasses.dataclass(frozen=True)
class Training:
    """A source that was opened.

    Attributes:
        journal: what was recorded.
        name: what people call it.
        link: the address of its run, or None.
    """

    journal: Journal
    name: str
    link: str | None


@contextmanager
def opened(
    sources: str | Path | Sequence[str | Path], tracking_uri: str | None, *, argument: str = "sources"
) -> Iterator[list[Training]]:
    """Opens journals and runs; what is downloaded is there as long as the context.

    Args:
        sources: see `write_report`.
        tracking_uri: see `write_report`.
        argument: what the caller calls the sources, for errors.

    Raises:
        Exception: see `write_report`.
    """
    with TemporaryDirectory(prefix="gradcam-") as temporary:
        listed = [sources] if isinstance(sources, str | Path) else sources
        yield [_open(str(source), Path(temporary, str(n)), tracking_uri, argument) for n, source in enumerate(listed)]


def _open(source: str, directory: Path, tracking_uri: str | None, argument: str) -> Training:
    """A journal or a run; `directory` is for what is downloaded."""
    if source.startswith("runs:/"):
        from gradcam_callbacks.publishing import mlflow_store

        run = mlflow_store.find_run(source.removeprefix("runs:/"), tracking_uri or mlflow_store.default_uri())
        return Training(mlflow_store.fetch_journal(run, directory), run.name, run.link())
    if not Path(source, "manifest.json").is_file():
        raise GradCAMError(
            f"'{source}' is no journal: it holds no manifest.json. A run is written runs:/ID.", argument=argument
        )
    journal = Journal(source)
    return Training(journal, journal.manifest.run_name or Path(source).name, None)

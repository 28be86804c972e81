"""The review page of journals and of runs in MLflow, in a file or a notebook; and what it says, as JSON takes it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from gradcam_callbacks import notebook
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.files import write_whole
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.parts import journals_in
from gradcam_callbacks.record.reliance import COUNTS
from gradcam_callbacks.reviewing.film import film as drawn_film
from gradcam_callbacks.reviewing.findings import last_test, text
from gradcam_callbacks.reviewing.numbers import as_csv
from gradcam_callbacks.reviewing.parts import Part, assessed, verdict_of
from gradcam_callbacks.reviewing.report import build, distinct, write

logger = logging.getLogger(__name__)


def write_report(
    sources: str | Path | Sequence[str | Path],
    out: str | Path = "report.html",
    *,
    names: Sequence[str] | None = None,
    tracking_uri: str | None = None,
) -> Path:
    """Writes the review page of one training, or of several side by side, aligned by probe and step.

    A run with several parts, such as trainings of two architectures, is shown with all that have the probes of the
    first one, each counted from its own epoch 0. A later part of other probes is left out, which is said; its own
    folder, "parts/2" in that of the run's journal, is a source, too.

    Args:
        sources: a journal's folder, a run as "runs:/ID", or a list of these; all of the same probes.
        out: the file of the page, an HTML file that loads nothing else; one that is there is replaced.
        names: of the sources on the page; by default those of the runs, or of the folders. Where one has several parts
            it stands before the name of each, if there are other sources.
        tracking_uri: where the runs are; by default MLflow's own tracking URI.

    Returns:
        The path of the page.

    Raises:
        GradCAMError: if a source is no journal, holds no step, or has other probes than the first.
        mlflow.MlflowException: if there is no such run, or no tracking server.
        OSError: if the page cannot be written.
    """
    with opened(sources, tracking_uri) as trainings:
        called = _names(trainings, names)
        return write(path=out, **_page(_shown(trainings, called), ", ".join(called)))


class Report:
    """A review page. A notebook shows it where it is the last expression of a cell, and with `show()` anywhere.

    Attributes:
        html: the page, which loads nothing else.
        title: of it.
    """

    def __init__(self, html: str, title: str) -> None:
        """Takes the page."""
        self.html = html
        self.title = title

    def show(self, *, height: int = 720) -> None:
        """Shows the page in the cell that runs now, in a frame of its own.

        Args:
            height: of the frame, in pixels.

        Raises:
            GradCAMError: if there is no notebook.
        """
        if notebook.cell() is None:
            raise GradCAMError(
                "There is no notebook that could show the page.",
                "Write it to a file with `write_report`, and open that.",
            )
        notebook.display(notebook.page(self.html, height=height))

    def __repr__(self) -> str:
        return f"Report({self.title!r}, {len(self.html) / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        return notebook.page(self.html, height=720)


def report(
    sources: str | Path | Sequence[str | Path],
    *,
    names: Sequence[str] | None = None,
    tracking_uri: str | None = None,
) -> Report:
    """The review page of one training, or of several side by side, for a notebook: `report("runs:/ID").show()`.

    Args:
        sources: see `write_report`.
        names: see `write_report`.
        tracking_uri: see `write_report`.

    Returns:
        The page, with `show()` and its `html`.

    Raises:
        Exception: see `write_report`.
    """
    with opened(sources, tracking_uri) as trainings:
        called = _names(trainings, names)
        title = ", ".join(called)
        return Report(build(**_page(_shown(trainings, called), title)), title)


def write_files(
    sources: str | Path | Sequence[str | Path],
    *,
    page: str | Path | None = None,
    numbers: str | Path | None = None,
    film: str | Path | None = None,
    tracking_uri: str | None = None,
) -> list[Path]:
    """Writes what is asked for of trainings, which are opened once; files that are there are replaced.

    Args:
        sources: see `write_report`. Only of numbers alone the probes may differ.
        page: the file of the review page.
        numbers: the file of all numbers, as CSV; see `reviewing.numbers.as_csv`.
        film: the file of a picture of the maps over time, as PNG; see `reviewing.film.film`.
        tracking_uri: see `write_report`.

    Returns:
        What was written, in this order.

    Raises:
        Exception: see `write_report`.
    """
    written = []
    with opened(sources, tracking_uri) as trainings:
        called = [training.name for training in trainings]
        shown = _shown(trainings, called)
        names, parts = distinct([one.name for one in shown]), [one.part for one in shown]
        table = names, [part.journal for part in parts], [part.found for part in parts]
        if page is not None:
            written.append(write(path=page, **_page(shown, ", ".join(called))))
        if numbers is not None:
            written.append(_write(numbers, as_csv(*table).encode()))
        if film is not None:
            content = BytesIO()
            Image.fromarray(drawn_film(*table)).save(content, "PNG")
            written.append(_write(film, content.getvalue()))
    return written


def _write(path: str | Path, content: bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, is_durable=False)
    return path


def told(sources: str | Path | Sequence[str | Path], *, tracking_uri: str | None = None) -> list[dict[str, Any]]:
    """What the review says of trainings, as JSON takes it.

    Args:
        sources: see `write_report`; of any probes.
        tracking_uri: see `write_report`.

    Returns:
        For each its name, verdict, summary, events, and the findings of its last test of reliance. A count is how many
        answers or pictures changed, and of how many. Of a run with several parts, the verdict is the most serious one;
        each event and each finding has the name of its part, whose first epoch is 0, and "parts" has the verdict of
        each.

    Raises:
        Exception: see `write_report`.
    """
    with opened(sources, tracking_uri) as trainings:
        return [_of(training) for training in trainings]


@dataclasses.dataclass(frozen=True)
class _Shown:
    """A part of a training that is shown, with its name there."""

    name: str
    training: Training
    part: Part


def _shown(trainings: Sequence[Training], called: Sequence[str]) -> list[_Shown]:
    """All parts that are shown; `called` has the names of the trainings."""
    return [
        _Shown(_called(name, part, is_one=len(trainings) == 1), training, part)
        for training, name in zip(trainings, called, strict=True)
        for part in _on_page(training)
    ]


def _names(trainings: Sequence[Training], names: Sequence[str] | None) -> list[str]:
    """What trainings are called.

    Raises:
        GradCAMError: if there are not as many names as trainings.
    """
    if names is not None and len(names) != len(trainings):
        raise GradCAMError(f"{len(trainings)} sources, but {len(names)} names; pass one each.", argument="names")
    return [training.name for training in trainings] if names is None else list(names)


def _page(shown: Sequence[_Shown], title: str) -> dict[str, Any]:
    """What a page is made of, as `build` takes it."""
    return {
        "journals": [one.part.journal for one in shown],
        "names": [one.name for one in shown],
        "links": [one.training.link for one in shown],
        "assessments": [one.part.found for one in shown],
        "title": title,
    }


def _on_page(training: Training) -> list[Part]:
    """The parts of a source that are shown together: those that have the probes of its first one.

    Raises:
        GradCAMError: if no part has a step that can be read.
    """
    parts = training.parts()
    others = [part for part in parts if part.page != parts[0].page]
    if others:
        numbers = ", ".join(str(part.journal.manifest.part) for part in others)
        logger.warning(
            "'%s' has parts of other probes, which have reviews of their own and are left out: %s.",
            training.name,
            numbers,
        )
    return [part for part in parts if part.page == parts[0].page]


def _called(name: str, part: Part, *, is_one: bool) -> str:
    """What a part is called on a page."""
    if not part.name:
        return name
    return part.name if is_one else f"{name}, {part.name}"


def _of(training: Training) -> dict[str, Any]:
    parts = training.parts()
    verdict = verdict_of(parts)
    told = {"name": training.name, "verdict": verdict.name, "summary": verdict.summary}
    events = [
        dataclasses.asdict(event) | ({"part": part.name} if part.name else {})
        for part in parts
        for event in part.found.events
    ]
    findings = [finding for part in parts for finding in _findings(part)]
    each = [
        {"name": part.name, "verdict": part.found.verdict.name, "summary": part.found.verdict.summary} for part in parts
    ]
    return told | {"events": events, "findings": findings} | ({"parts": each} if parts[0].name else {})


def _findings(part: Part) -> list[dict[str, Any]]:
    """Those of the last test of a part."""
    when, test = last_test(part.found.tests)
    manifest = part.journal.manifest
    return [
        {"step": when, "class": manifest.class_name(finding.answer), "text": text(finding, manifest)}
        | {key: getattr(finding, key) for key in ("answer", "kind", "outcome", "alike", "in_place", *COUNTS)}
        | {key: [manifest.names[n] for n in getattr(finding, key)] for key in ("probes", "decisive")}
        | ({"part": part.name} if part.name else {})
        for finding in test.findings
    ]


@dataclasses.dataclass(frozen=True)
class Training:
    """A source that was opened.

    Attributes:
        journals: what was recorded, of each part.
        name: what people call it.
        link: the address of its run, or None.
    """

    journals: Sequence[Journal]
    name: str
    link: str | None

    def parts(self) -> list[Part]:
        """What can be said of its parts, at least one.

        Raises:
            GradCAMError: if no part has a step that can be read.
        """
        parts = assessed(self.journals)
        if not parts:
            raise GradCAMError(
                f"Journal '{self.journals[0].directory}' has no step that can be read: nothing to report."
            )
        return parts


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
        mlflow_store.fetch_journal(run, directory)
        return Training([*journals_in(directory / "journal").values()], run.name, run.link())
    journals = [*journals_in(source).values()]
    if not journals:
        raise GradCAMError(
            f"'{source}' is no journal: it holds no manifest.json. A run is written runs:/ID.", argument=argument
        )
    return Training(journals, journals[0].manifest.run_name or Path(source).name, None)

"""write_report(): the review page of journals and of runs in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing.report import write


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
    with TemporaryDirectory(prefix="gradcam-") as temporary:
        listed = [sources] if isinstance(sources, str | Path) else sources
        opened = [_open(str(source), Path(temporary, str(n)), tracking_uri) for n, source in enumerate(listed)]
        return write(
            [journal for journal, _, _ in opened],
            out,
            names=[name for _, name, _ in opened] if names is None else names,
            links=[link for _, _, link in opened],
        )


def _open(source: str, directory: Path, tracking_uri: str | None) -> tuple[Journal, str, str | None]:
    """The journal of a source, its name, and the address of its run; `directory` is for what is downloaded."""
    if source.startswith("runs:/"):
        from gradcam_callbacks.publishing import mlflow_store

        run = mlflow_store.find_run(source.removeprefix("runs:/"), tracking_uri or mlflow_store.default_uri())
        return mlflow_store.fetch_journal(run, directory), run.name, run.link()
    if not Path(source, "manifest.json").is_file():
        raise GradCAMError(
            f"'{source}' is no journal: it holds no manifest.json. A run is written runs:/ID.", argument="sources"
        )
    journal = Journal(source)
    return journal, journal.manifest.run_name or Path(source).name, None

"""The command `gradcam`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

import gradcam_callbacks


class _OneLineErrors(click.Group):
    """Says what went wrong in one line on stderr and exits with 1; `--debug` shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            first_line = str(error).strip().partition("\n")[0] or type(error).__name__
            raise click.ClickException(first_line) from error


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(gradcam_callbacks.__version__, prog_name="gradcam")
def main(debug: bool) -> None:
    """Watch where a Keras model looks while it learns."""
    del debug  # read by _OneLineErrors
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # nobody who typed `gradcam` wants to read about CUDA stubs


@main.command()
@click.option(
    "--out",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("gradcam-demo"),
    show_default=True,
    help="Where the MLflow store and the pictures go.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the pictures and the weights.")
def demo(directory: Path, seed: int) -> None:
    """Catch a network that looks at a watermark.

    Trains one small network twice on drawn pictures, once with a watermark on every sailboat, logs where it looks to
    a local MLflow experiment, and says where to see it. Takes about a minute; nothing is downloaded.

    \b
    Example:
      gradcam demo
    """  # noqa: D301 (click reads a backspace as: keep these lines)
    from gradcam_callbacks.demo import run_demo

    run_demo(directory, seed=seed)


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--output", metavar="NAME", help="The head of a model with several outputs.")
@click.option("--image-size", type=(int, int), metavar="H W", help="For a model that takes pictures of any size.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def layers(model: Path, output: str | None, image_size: tuple[int, int] | None, as_json: bool) -> None:
    """List the layers of MODEL that can be explained.

    MODEL is a saved Keras model (.keras or .h5). The list is in the order in which the model calls its layers, with
    their paths as `layer=` takes them, and marks the one that is explained when no layer is named.

    \b
    Examples:
      gradcam layers model.keras
      gradcam layers model.keras --json
    """  # noqa: D301
    import keras
    import numpy as np

    from gradcam_callbacks.heatmap import Explainer

    network = keras.saving.load_model(model, compile=False)
    probes = None
    if image_size is not None:
        probes = np.random.default_rng(0).random((1, *image_size, network.input_shape[-1] or 3), dtype=np.float32)
    found = Explainer(network, output=output).layers(probes)
    if as_json:
        entries = [{"path": i.path, "type": i.kind, "shape": i.shape, "picked": i.picked} for i in found]
        click.echo(json.dumps(entries, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"The layers of '{network.name}' that can be explained", title_justify="left")
    for column in ("layer", "type", "output shape", ""):
        table.add_column(column, overflow="fold")
    for info in found:
        shape = ", ".join("None" if side is None else str(side) for side in info.shape)
        mark, style = ("picked", "bold green") if info.picked else ("", None)
        table.add_row(info.path, info.kind, f"({shape})", mark, style=style)
    Console().print(table)


@main.command()
@click.argument("journal", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--run", "run_id", metavar="ID", help="The MLflow run; by default the one that the journal names.")
@click.option("--tracking-uri", metavar="URI", help="Of the MLflow server; by default the one that the journal names.")
def upload(journal: Path, run_id: str | None, tracking_uri: str | None) -> None:
    """Send what JOURNAL holds and its MLflow run lacks.

    For trainings that ended before everything had arrived. Safe to repeat, and from another machine too: what the run
    holds already is not sent again.

    \b
    Examples:
      gradcam upload .gradcam/1f0c2d
      gradcam upload .gradcam/1f0c2d --tracking-uri http://mlflow.example:5000
    """  # noqa: D301
    from rich.console import Console
    from rich.progress import Progress

    from gradcam_callbacks import tracking
    from gradcam_callbacks.journal import Journal

    console = Console(stderr=True)
    opened = Journal(journal)
    run_id, tracking_uri = run_id or opened.manifest["run_id"], tracking_uri or opened.manifest["tracking_uri"]
    with tracking.bounded_requests(tracking.REQUEST_TIMEOUT):
        run = tracking.find_run(run_id, tracking_uri)
        sending = tracking.Upload(opened, run.client(), run_id)
        missing = len(sending.missing())
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("Uploading", total=missing)
            arrived = sending.send(on_item=lambda item: progress.advance(task))
            sending.tidy()
    if not arrived:
        left = len(sending.missing())
        raise click.ClickException(f"{left} of {missing} items have not arrived: {sending.error}. Try again later.")
    click.echo(f"All {len(opened.steps())} steps are in run {run_id}: {run.where_to_look()}")

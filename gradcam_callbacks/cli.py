"""The command `gradcam`."""

from __future__ import annotations

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
    r"""Catch a network that looks at a watermark.

    Trains one small network twice on drawn pictures, once with a watermark on every sailboat, logs where it looks to
    a local MLflow experiment, and says where to see it. Takes about a minute; nothing is downloaded.

    \b
    Example:
      gradcam demo
    """
    from gradcam_callbacks.demo import run_demo

    run_demo(directory, seed=seed)

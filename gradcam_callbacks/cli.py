"""The command `gradcam`."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import gradcam_callbacks
from gradcam_callbacks.native_log import native_log_muted


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
            raise click.ClickException(_with_options(first_line)) from error


_OPTIONS = {
    "class_names": "--classes",
    "custom_objects": "--import MODULE",
    "image_size": "--image-size",
    "layer": "--layer",
    "method": "--method",
    "model": "--model",
    "output": "--output",
    "overwrite": "--overwrite",
    "run_id": "--run",
    "safe_mode": "--unsafe",
    "step_from": "--step-from",
    "tracking_uri": "--tracking-uri",
}


def _with_options(message: str) -> str:
    """A message that names arguments of Python, with the options of the command in their place."""

    def option(match: re.Match[str]) -> str:
        value = {"": "", "True": "", "False": "", "None": " away"}.get(match[2], f" {match[2]}")
        return _OPTIONS[match[1]] + value

    # overwrite=True, layer=None, step_from='at', output=: and model=,
    message = re.sub(rf"\b({'|'.join(_OPTIONS)})=(\w+|'[^']*'|\"[^\"]*\"|)", option, message)
    return message.replace("class_names", "--classes")  # 3 class_names, but


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
@click.option("--seed", type=int, default=0, show_default=True, help="Another draw of the pictures and the weights.")
def demo(directory: Path, seed: int) -> None:
    """Catch a network that looks at a watermark.

    Trains one small network twice on drawn pictures, once with a watermark on every sailboat, logs where it looks to
    a local MLflow experiment, and says where to see it. Takes about a minute; nothing is downloaded.

    \b
    Examples:
      gradcam demo
      gradcam demo --out /tmp/sailboats --seed 3
    """  # noqa: D301 (click reads a backspace as: keep these lines)
    _import_keras()
    from gradcam_callbacks.demo.run import run_demo

    run_demo(directory, seed=seed)


_MODEL = click.argument("model", type=click.Path(exists=True, path_type=Path))
_LAYER = click.option(
    "--layer",
    "layers_named",
    multiple=True,
    metavar="PATH",
    help="The layer to explain, as `gradcam layers` lists them. Repeat it to fuse maps. [default: the last map]",
)
_METHOD = click.option(
    "--method",
    metavar="NAME",
    default="gradcam",
    show_default=True,
    help="Or gradcam++, hirescam, xgradcam, layercam, eigencam, scorecam.",
)
_OUTPUT = click.option("--output", metavar="NAME", help="The head of a model with several outputs.")
_CLASSES = click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The names of the classes: one a line, or a JSON list, or ImageNet's JSON.",
)
_PREPROCESS = click.option(
    "--preprocess",
    metavar="NAME",
    help="What the pictures need: a module of keras.applications, such as xception, or module:function.",
)
_UNSAFE = click.option(
    "--unsafe",
    is_flag=True,
    help="Load a file with a Lambda layer, whose code then runs. Only if you trust its author.",
)
_IMPORT = click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Python code that registers layers of your own with Keras, such as my_layers for ./my_layers.py. Repeat it.",
)


@main.command()
@_MODEL
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS",
    help="A class by index or name, `predicted`, or A:B for A rather than B. Repeat it. [default: predicted]",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="A folder for the overlays.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier explanation left in the folder.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many classes to list.")
@click.option("--image-size", type=(int, int), metavar="H W", help="For a model that takes pictures of any size.")
@_CLASSES
@_PREPROCESS
@_LAYER
@_METHOD
@_OUTPUT
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def explain(
    model: Path,
    images: tuple[Path, ...],
    targets: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    top: int,
    image_size: tuple[int, int] | None,
    classes: Path | None,
    preprocess: str | None,
    layers_named: tuple[str, ...],
    method: str,
    output: str | None,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """Ask MODEL what in the IMAGES speaks for a class.

    Prints what the model takes each picture for, and writes to --out, at the picture's own size, one overlay a target,
    one sheet of titled panels a picture, and the raw maps.

    \b
    Examples:
      gradcam explain model.keras cat.jpg --out looks/
      gradcam explain xception.keras dog_and_cat.jpg --preprocess xception --target 243 --target 281 --out looks/
    """  # noqa: D301
    from gradcam_callbacks.explaining.explain import explain as explain_pictures
    from gradcam_callbacks.explaining.explain import read_pictures, save_panels

    _import_keras()
    _import_own(modules)
    prepare = _preprocess(preprocess)
    network = _load(model, unsafe=unsafe)
    _check_size(network, image_size)
    named = _class_names(classes, preprocess, network)
    probes = read_pictures(
        network,
        images,
        targets=_targets(targets, has_names=named is not None, no_label="pictures that are named one by one have none"),
        class_names=named,
        preprocess=prepare,
        image_size=image_size,
    )
    explanation = explain_pictures(network, probes, layer=_layer(layers_named), method=method, output=output)
    written = [] if out is None else save_panels(explanation, images, out, overwrite=overwrite)
    guesses = [[]] * len(images) if explanation.outputs is None else explanation.predictions(top)
    measure = "score" if explanation.probabilities is None else "probability"
    if as_json:
        entries = [
            {
                "image": str(image),
                "predictions": [{"class": c, "name": name, measure: _number(value)} for c, name, value in guesses[n]],
                "targets": [
                    {"target": target, "score": _number(explanation.scores[n, k]), "health": explanation.health[n, k]}
                    for k, target in enumerate(explanation.target_names)
                ],
            }
            for n, image in enumerate(images)
        ]
        click.echo(
            json.dumps(
                {
                    "layer": explanation.layer,
                    "method": explanation.method,
                    "images": entries,
                    "files": [str(f) for f in written],
                },
                indent=2,
            )
        )
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for image, classes_of_it in zip(images, guesses, strict=True):
        if classes_of_it:
            table = Table(title=escape(str(image)), title_justify="left")
            for column in ("class", "name"):
                table.add_column(column, overflow="fold")
            table.add_column(measure, justify="right")
            for index, name, value in classes_of_it:
                table.add_row(str(index), escape(name), f"{value:.1%}" if measure == "probability" else f"{value:.3g}")
            console.print(table)
    click.echo(f"Explained: layer {explanation.layer}, method {explanation.method}.")
    for file in written:
        click.echo(file)


@main.command()
@click.argument("sources", metavar="CHECKPOINTS...", nargs=-1, required=True)
@click.option(
    "--probes",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures, or of one sub-folder a class.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS",
    help="A class by index or name, `predicted`, `label` (the sub-folder), or A:B. Repeat it. [default: predicted]",
)
@click.option(
    "--regions",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of masks, <name of the picture>.png, white where the object is.",
)
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="For checkpoints that hold weights alone.")
@click.option("--image-size", type=(int, int), metavar="H W", help="By default what the model takes.")
@_CLASSES
@_PREPROCESS
@_LAYER
@_METHOD
@_OUTPUT
@click.option("--run", "run_id", metavar="ID", help="Log to this MLflow run.")
@click.option("--experiment", metavar="NAME", help="Log to a new run of this experiment.")
@click.option(
    "--journal",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the record in this folder, and go on with it. [default: .gradcam/<run>, until all has arrived]",
)
@click.option(
    "--step-from", metavar="REGEX", help="Where the 0-based step is in a path: its first group, as in 'step_(\\d+)'."
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes on this machine; -1 for all cores.")
@click.option("--backend", type=click.Choice(["loky", "dask", "ray"]), help="Where they run.")
@click.option("--scheduler", metavar="ADDRESS", help="Of the Dask or Ray cluster; by default one on this machine.")
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def checkpoints(
    sources: tuple[str, ...],
    probes: Path,
    targets: tuple[str, ...],
    regions: Path | None,
    model: Path | None,
    image_size: tuple[int, int] | None,
    classes: Path | None,
    preprocess: str | None,
    layers_named: tuple[str, ...],
    method: str,
    output: str | None,
    run_id: str | None,
    experiment: str | None,
    journal: Path | None,
    step_from: str | None,
    jobs: int,
    backend: str | None,
    scheduler: str | None,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """Explain saved CHECKPOINTS, as if the callback had been there.

    CHECKPOINTS are files, folders, globs in quotes, runs:/ID/checkpoints, or models:/NAME/VERSION. What the run holds
    already is not explained again; an interrupted sweep goes on where it was.

    \b
    Examples:
      gradcam checkpoints 'ckpt/*.keras' --probes probes/ --preprocess resnet
      gradcam checkpoints runs:/1f0c2d/checkpoints --probes probes/ --run 1f0c2d
      gradcam checkpoints ckpt/ --probes probes/ --jobs 4
    """  # noqa: D301
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress
    from rich.table import Table

    from gradcam_callbacks.probes.probe_set import ProbeSet
    from gradcam_callbacks.probes.reading import PICTURE_SUFFIXES
    from gradcam_callbacks.sweeping.sweep import explain_checkpoints

    if scheduler is not None and backend is None:
        raise click.UsageError(
            "--scheduler is the address of a cluster: say which with --backend dask or --backend ray."
        )
    if run_id is not None and experiment is not None:
        raise click.UsageError("--run names a run that is there, --experiment asks for a new one: pass one of them.")
    if jobs == 0:
        raise click.UsageError("--jobs is a number of processes, or -1 for one a core, not 0.")
    console = Console(stderr=True)
    children = [child for child in probes.iterdir() if not child.name.startswith(".")]
    has_pictures = any(child.suffix.lower() in PICTURE_SUFFIXES for child in children)
    by_folder = not has_pictures and any(child.is_dir() for child in children)
    _import_keras()
    own_objects = _import_own(modules)
    prepare = _preprocess(preprocess)
    network = _load(model, unsafe=unsafe) if model is not None else None

    def probes_for(network: Any) -> ProbeSet:
        _check_size(network, image_size)
        named = _class_names(classes, preprocess, network)
        height, width, channels = _input_size(network, image_size)
        return ProbeSet.from_directory(
            probes,
            image_size=(height, width),
            color_mode="grayscale" if channels == 1 else "rgb",
            labels="folder" if by_folder else None,
            targets=_targets(
                targets, has_names=by_folder or named is not None, no_label=None if by_folder else "--probes has none"
            ),
            class_names=named,
            regions=regions,
            preprocess=prepare,
        )

    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("Explaining", total=None)
        with _cluster(backend, scheduler), redirect_stdout(sys.stderr if as_json else sys.stdout):  # MLflow prints, too
            sweep = explain_checkpoints(
                list(sources),
                probes_for,
                model=network,
                layer=_layer(layers_named),
                method=method,
                output=output,
                run_id=run_id,
                experiment=experiment,
                journal_dir=journal,
                jobs=jobs,
                step_from=step_from,
                custom_objects=own_objects,
                safe_mode=not unsafe,
                verbose=not as_json,
                on_start=lambda total: bar.update(task, total=total),
                on_checkpoint=lambda checkpoint, problem: bar.advance(task),
            )
    if as_json:
        click.echo(json.dumps(asdict(sweep), indent=2))
    else:
        were = "was" if len(sweep.skipped) == 1 else "were"
        skipped = f", {len(sweep.skipped)} {were} there already" if sweep.skipped else ""
        counted = "1 checkpoint" if len(sweep.recorded) == 1 else f"{len(sweep.recorded)} checkpoints"
        click.echo(f"{counted} explained{skipped}.")
        if sweep.gaps:
            click.echo(f"No checkpoint for steps {', '.join(map(str, sweep.gaps))}.")
    if sweep.problems:
        table = Table(title="Not explained", title_justify="left")
        table.add_column("checkpoint", overflow="fold")
        table.add_column("why", overflow="fold")
        for path, problem in sweep.problems.items():
            table.add_row(escape(path), escape(_with_options(problem)))
        console.print(table)
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--output", metavar="NAME", help="The head of a model with several outputs.")
@click.option("--image-size", type=(int, int), metavar="H W", help="For a model that takes pictures of any size.")
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def layers(
    model: Path,
    output: str | None,
    image_size: tuple[int, int] | None,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """List the layers of MODEL that can be explained.

    MODEL is a saved Keras model (.keras or .h5). The list is in the order in which the model calls its layers, with
    their paths as `layer=` takes them, and marks the one that is explained when no layer is named.

    \b
    Examples:
      gradcam layers model.keras
      gradcam layers model.keras --json
    """  # noqa: D301
    import numpy as np

    from gradcam_callbacks.explaining.explainer import Explainer

    _import_keras()
    _import_own(modules)
    network = _load(model, unsafe=unsafe)
    _check_size(network, image_size)
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

    from gradcam_callbacks.publishing import mlflow_store
    from gradcam_callbacks.publishing.uploader import Uploader
    from gradcam_callbacks.record.journal import Journal

    console = Console(stderr=True)
    if not (journal / "manifest.json").is_file():
        raise click.BadParameter(f"'{journal}' is no journal: it holds no manifest.json.", param_hint="JOURNAL")
    opened = Journal(journal)
    run = mlflow_store.find_run(run_id or opened.manifest.run_id, tracking_uri or opened.manifest.tracking_uri)
    sending = Uploader(opened, run)
    missing = len(sending.missing())
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Uploading", total=missing)
        arrived = sending.send(on_item=lambda item: progress.advance(task))
        sending.tidy()
    if not arrived:
        left = len(sending.missing())
        raise click.ClickException(f"{left} of {missing} items have not arrived: {sending.error}. Try again later.")
    count = len([step for step in opened.steps() if step >= 0])
    click.echo(f"Run {run.run_id} holds all {count} steps:\n{run.where_to_look()}")


@main.command()
@click.argument("sources", metavar="JOURNAL_OR_RUN...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    help="The file of the page; one that is there is replaced.",
)
@click.option("--tracking-uri", metavar="URI", help="Where the runs are; by default MLflow's own.")
def report(sources: tuple[str, ...], out: Path, tracking_uri: str | None) -> None:
    """Write the review page of journals and runs.

    Several are shown side by side, aligned by probe and epoch.

    A journal is a folder, a run is written runs:/ID. Runs that are compared must have the same probes.

    \b
    Examples:
      gradcam report .gradcam/1f0c2d
      gradcam report runs:/1f0c2d runs:/77ab10 --out compare.html
    """  # noqa: D301
    from tempfile import TemporaryDirectory

    from gradcam_callbacks.record.journal import Journal
    from gradcam_callbacks.reviewing.report import write

    with TemporaryDirectory(prefix="gradcam-") as temporary:
        journals, names, links = [], [], []
        for number, source in enumerate(sources):
            if source.startswith("runs:/"):
                from gradcam_callbacks.publishing import mlflow_store

                run = mlflow_store.find_run(source.removeprefix("runs:/"), tracking_uri or mlflow_store.default_uri())
                journals.append(mlflow_store.fetch_journal(run, Path(temporary, str(number))))
                names.append(run.name)
                links.append(run.link())
            else:
                if not Path(source, "manifest.json").is_file():
                    raise click.BadParameter(
                        f"'{source}' is no journal: it holds no manifest.json. A run is written runs:/ID.",
                        param_hint="JOURNAL_OR_RUN...",
                    )
                journals.append(Journal(source))
                names.append(journals[-1].manifest.run_name or Path(source).name)
                links.append(None)
        write(journals, out, names=names, links=links)
    click.echo(f"{out.resolve().as_uri()}")


# ---- What several commands need ----


def _import_keras() -> None:
    """Imports Keras without what TensorFlow's libraries then write to stderr, TF_CPP_MIN_LOG_LEVEL or not."""
    if "keras" in sys.modules or click.get_current_context().find_root().params["debug"]:
        return
    with native_log_muted():
        import keras  # noqa: F401


def _load(model: Path, *, unsafe: bool) -> Any:
    """The model in a file.

    Raises:
        ValueError: if it cannot be loaded; the message says why in one line.
    """
    import keras

    from gradcam_callbacks.sweeping.formats import why_not_loaded

    if model.suffix == ".keras" and model.is_file() and not zipfile.is_zipfile(model):  # Keras: "File not found"
        raise ValueError(f"'{model}' is damaged or truncated, or it is no model that Keras saved.")
    try:
        return keras.saving.load_model(model, compile=False, safe_mode=not unsafe)
    except Exception as error:  # whatever Keras, h5py and zipfile raise at a file that is not theirs
        raise ValueError(f"'{model}' could not be loaded: {why_not_loaded(error)}") from error


def _check_size(network: Any, image_size: tuple[int, int] | None) -> None:
    """Asks for a size where the model takes any."""
    if image_size is None and any(None in tensor.shape[1:] for tensor in getattr(network, "inputs", None) or []):
        raise click.UsageError(
            f"Model '{network.name}' takes pictures of any size; say which with --image-size HEIGHT WIDTH."
        )


def _layer(named: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return named[0] if len(named) == 1 else named or None


def _targets(texts: Sequence[str], *, has_names: bool, no_label: str | None) -> list[Any]:
    """Targets as a person types them: 281, tabby, predicted, 281:243.

    Args:
        texts: what was typed; nothing is "predicted".
        has_names: whether the classes have names.
        no_label: why "label" cannot be asked for, or None.
    """
    targets: list[Any] = []
    for text in texts or ["predicted"]:
        parts = [int(part) if part.isdecimal() else part for part in text.split(":")]
        if len(parts) > 2 or "" in parts:
            raise click.BadParameter(f"'{text}' is no target; expected a class, or A:B.", param_hint="--target")
        if text == "label" and no_label is not None:
            raise click.BadParameter(
                f"'label' is the sub-folder of a picture, and {no_label}; name a class.", param_hint="--target"
            )
        names = [] if text in ("predicted", "label") else [part for part in parts if isinstance(part, str)]
        if names and not has_names:
            raise click.BadParameter(
                f"'{names[0]}' is the name of a class, but the classes have no names here: pass --classes FILE, or "
                "give the class by its index.",
                param_hint="--target",
            )
        targets.append(parts[0] if len(parts) == 1 else tuple(parts))
    return targets


def _import(module: str) -> Any:
    """A module, also one in the working directory, as for `python -m`."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return import_module(module)


def _import_own(modules: Sequence[str]) -> dict[str, Any] | None:
    """What these modules register with Keras, for processes that do not import them."""
    import keras

    for module in modules:
        try:
            _import(module)
        except Exception as error:  # whatever its code raises
            raise click.BadParameter(
                f"'{module}' could not be imported ({type(error).__name__}: {error}).", param_hint="--import"
            ) from error
    return dict(keras.saving.get_custom_objects()) if modules else None


def _preprocess(name: str | None) -> Any:
    """The function that `--preprocess` names."""
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        if function:
            found = getattr(_import(module), function)
        else:
            found = import_module(f"keras.applications.{module}").preprocess_input
        if not callable(found):
            raise AttributeError(f"{function} is no function")
        return found
    except (ImportError, AttributeError, ValueError) as error:
        raise click.BadParameter(
            f"'{name}' is neither a module of keras.applications nor module:function ({error}).",
            param_hint="--preprocess",
        ) from error


def _class_names(file: Path | None, preprocess: str | None, network: Any) -> list[str] | None:
    """The names in a file; without one those of ImageNet, for a network of keras.applications with 1000 classes."""
    if file is not None:
        try:
            return _names_in(file)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise click.BadParameter(
                f"'{file}' holds no names of classes: expected one a line, or in a .json a list, or the classes by "
                f'number as in {{"0": "tench"}} ({type(error).__name__}: {error}).',
                param_hint="--classes",
            ) from error
    if preprocess is None or ":" in preprocess or getattr(network, "output_shape", (0,))[-1] != 1000:
        return None
    import numpy as np
    from keras.applications import imagenet_utils

    try:
        best = imagenet_utils.decode_predictions(np.eye(1000), top=1)  # downloads the names once
    except Exception:  # whatever the network says
        click.echo("The names of ImageNet's classes could not be downloaded; --classes FILE gives them.", err=True)
        return None
    return [entry[0][1].replace("_", " ") for entry in best]


def _names_in(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    loaded = json.loads(text)
    entries = [loaded[str(index)] for index in range(len(loaded))] if isinstance(loaded, dict) else list(loaded)
    # ImageNet's entries are ["n02123394", "Persian_cat"]
    return [entry[-1].replace("_", " ") if isinstance(entry, list) else str(entry) for entry in entries]


def _input_size(network: Any, image_size: tuple[int, int] | None) -> tuple[int, int, int | None]:
    """The (height, width, channels) of the pictures to read."""
    from gradcam_callbacks.explaining.explain import input_size

    return input_size(network) if image_size is None else (*image_size, network.input_shape[-1])


def _number(value: float) -> float | None:
    """As JSON takes it, which knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


@contextmanager
def _cluster(backend: str | None, scheduler: str | None) -> Iterator[None]:
    """Runs what joblib runs on a cluster."""
    if backend is None:
        yield
        return
    import joblib

    with ExitStack() as stack:
        if backend == "dask":
            from distributed import Client

            stack.enter_context(Client(scheduler))
        elif backend == "ray":
            import ray
            from ray.util.joblib import register_ray

            if not ray.is_initialized():
                ray.init(address=scheduler)
                stack.callback(ray.shutdown)
            register_ray()
        stack.enter_context(joblib.parallel_config(backend=backend))
        yield

"""The command `gradcam`."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import math
import os
import platform
import shlex
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gradcam_callbacks
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.backend import ENGINES, chosen_backend
from gradcam_callbacks.explaining.methods import METHODS
from gradcam_callbacks.native_log import native_log_muted
from gradcam_callbacks.record.verdicts import VERDICTS

if TYPE_CHECKING:
    from gradcam_callbacks.explaining.explanation import Explanation
    from gradcam_callbacks.probes.probe_set import ProbeSet
    from gradcam_callbacks.sweeping.sweep import Sweep


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
            raise click.ClickException(_worded(error)) from error


# The options by the arguments of Python that errors name.
_OPTIONS = {
    "against": "--against",
    "cards": "--cards",
    "class_names": "--classes",
    "custom_objects": "--import MODULE",
    "experiment": "--experiment",
    "grid": "--grid",
    "image_size": "--image-size",
    "jobs": "--jobs",
    "journal_dir": "--journal",
    "layer": "--layer",
    "metrics": "--metrics",
    "method": "--method",
    "model": "--model",
    "output": "--output",
    "overwrite": "--overwrite",
    "regions": "--regions",
    "run_id": "--run",
    "safe_mode": "--unsafe",
    "smooth": "--smooth",
    "step_from": "--step-from",
    "targets": "--target",
    "tracking_uri": "--tracking-uri",
}


def _worded(error: Exception) -> str:
    """The first line of an error, which names the options of the command where it names arguments of Python."""
    text = str(error)
    if isinstance(error, GradCAMError):
        names_argument = error.argument is not None and "{argument}" in error.remedy
        # What the command cannot be told is no remedy here.
        text = error.problem if names_argument and not _has_option(error.argument) else error.worded(_option)
    return text.strip().partition("\n")[0] or type(error).__name__


def _has_option(argument: str | None) -> bool:
    """Whether the command that runs takes what Python calls so."""
    context = click.get_current_context()
    command = context.command
    if isinstance(command, click.Group) and context.invoked_subcommand is not None:
        command = command.commands[context.invoked_subcommand]
    option = _OPTIONS.get(argument or "", "").partition(" ")[0]
    return any(option in parameter.opts for parameter in command.params)


def _option(argument: str, *values: Any) -> str:
    """What a person types for an argument: --layer conv for layer='conv', --output away for output=None."""
    words = [_OPTIONS[argument]]
    for value in values:
        if value is None:
            words.append("away")
        elif not isinstance(value, bool):
            words += [shlex.quote(str(part)) for part in (value if isinstance(value, tuple) else [value])]
    return " ".join(words)


def _say_versions(context: click.Context, parameter: click.Parameter, is_asked: bool) -> None:
    """Prints what a report of a fault needs, and exits; loads nothing."""
    del parameter
    if not is_asked:
        return
    engine = chosen_backend()

    def installed(package: str) -> str:
        with suppress(PackageNotFoundError):
            return version(package)
        return "not installed"

    click.echo(f"gradcam, version {gradcam_callbacks.__version__}")
    click.echo(
        f"Python {platform.python_version()}, Keras {installed('keras')} on {ENGINES.get(engine, engine)} "
        f"{installed(engine)}, MLflow {installed('mlflow')}"
    )
    context.exit()


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_versions,
    help="Show the version, and what it runs on, and exit.",
)
def main(debug: bool) -> None:
    """Watch where a Keras model looks while it learns."""
    del debug  # read by _OneLineErrors
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it would write about missing drivers
    # Where tqdm is installed MLflow draws a bar a file, also into a log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


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
_LAYER = click.option(
    "--layer",
    "layers_named",
    multiple=True,
    metavar="PATH",
    help="The layer to explain, as `gradcam layers` lists them. Repeat it to fuse maps. [default: the last map]",
)
_METHOD = click.option(
    "--method", metavar="NAME", default="gradcam", show_default=True, help=f"Or {', '.join([*METHODS][1:])}."
)
_OUTPUT = click.option("--output", metavar="NAME", help="The head of a model with several outputs.")
_SIDES = (click.IntRange(min=1), click.IntRange(min=1))
_ANY_SIZE = click.option(
    "--image-size", type=_SIDES, metavar="H W", help="For a model that takes pictures of any size."
)
_SHARE = click.FloatRange(0, 1)
_GRID = click.option(
    "--grid",
    type=_SIDES,
    metavar="H W",
    help="Rows and columns of a transformer's tokens, where nothing says them.",
)
_IMPORT = click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Python code that registers layers of your own with Keras, such as my_layers for ./my_layers.py. Repeat it.",
)
_UNSAFE = click.option(
    "--unsafe",
    is_flag=True,
    help="Load a file with a Lambda layer, whose code then runs. Only if you trust its author.",
)


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_TARGETS = click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS",
    help="A class by index or name, `predicted`, `label` (the sub-folder), or A:B. Repeat it. [default: predicted]",
)
_REGIONS_HELP = "A folder of masks, <name of the picture>.png, white where the object is."


@dataclass(frozen=True)
class _Asked:
    """What `explain`, `checkpoints`, `reliance` and `evaluate` share, as typed; the options of `Explainer` in one."""

    targets: tuple[str, ...]
    image_size: tuple[int, int] | None
    classes: Path | None
    preprocess: str | None
    explainer: Mapping[str, Any]


def _asking(command: Callable[..., None], method_option: Callable[[Any], Any] = _METHOD) -> Callable[..., None]:
    """Adds the options that several commands share, and hands them to the command as one `_Asked`.

    --target and --image-size, of which each has its own help, go into it too.
    """

    @functools.wraps(command)
    def with_asked(
        *,
        layers_named: tuple[str, ...],
        method: str | tuple[str, ...],
        output: str | None,
        grid: tuple[int, int] | None,
        **options: Any,
    ) -> None:
        layer = layers_named[0] if len(layers_named) == 1 else layers_named or None
        explainer = {"layer": layer, "method": method, "output": output, "grid": grid}
        others = {name: options.pop(name) for name in ("image_size", "classes", "preprocess")}
        others["targets"] = options.pop("targets", ())  # `reliance` asks for none
        command(asked=_Asked(explainer=explainer, **others), **options)

    for option in (
        _OUTPUT,
        _GRID,
        method_option,
        _LAYER,
        _PREPROCESS,
        _CLASSES,
    ):  # the help lists them the other way round
        with_asked = option(with_asked)
    return with_asked


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
@click.option(
    "--gradients", is_flag=True, help="Also draw what each map is made of, and say whether its gradients are well."
)
@click.option(
    "--smooth", type=click.IntRange(min=0), default=0, metavar="N", help="Explain the mean of N noisy copies of each."
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many classes to list.")
@_ANY_SIZE
@_asking
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def explain(
    model: Path,
    images: tuple[Path, ...],
    out: Path | None,
    overwrite: bool,
    gradients: bool,
    smooth: int,
    top: int,
    asked: _Asked,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """Ask MODEL what in the IMAGES speaks for a class.

    Prints what the model takes each picture for, and writes to --out, at the picture's own size, one overlay a target,
    one sheet of titled panels a picture, and the raw maps. Overlays have at most 4096 pixels a side, also of larger
    pictures; pictures of more than 100 million pixels are not read.

    \b
    Examples:
      gradcam explain model.keras cat.jpg --out looks/
      gradcam explain xception.keras dog_and_cat.jpg --preprocess xception --target 243 --target 281 --out looks/
      gradcam explain model.keras cat.jpg --target tabby --classes names.txt --gradients --out looks/
    """  # noqa: D301
    from gradcam_callbacks.explaining.explain import explain as explain_pictures
    from gradcam_callbacks.explaining.explain import save_panels

    if gradients and out is None:
        raise click.UsageError("--gradients draws figures; say where with --out.")
    _import_own(modules)
    prepare = _preprocess(asked.preprocess)
    network = _load(model, unsafe=unsafe)
    probes = _probes_of_files(network, images, asked, prepare)
    explanation = explain_pictures(network, probes, smooth=smooth, keep_gradients=gradients, **asked.explainer)
    written = [] if out is None else save_panels(explanation, images, out, overwrite=overwrite)
    guesses = [[]] * len(images) if explanation.outputs is None else explanation.predictions(top)
    measure = "score" if explanation.probabilities is None else "probability"
    if as_json:
        content = _for_json(explanation, images, guesses, measure) | {"files": [str(file) for file in written]}
        click.echo(json.dumps(content, indent=2))
        return
    for image, best in zip(images, guesses, strict=True):
        if best:
            form = ".1%" if measure == "probability" else ".3g"
            rows = [(str(index), name, format(value, form)) for index, name, value in best]
            _print_table(str(image), ("class", "name", measure), rows)
    click.echo(f"Explained: layer {explanation.layer}, method {explanation.method}.")
    for n, name in enumerate(explanation.names if gradients else ()):
        for k, target in enumerate(explanation.target_names):
            click.echo(f"{name}, {target}: {explanation.gradient_summary(n, k)}")
    for file in written:
        click.echo(file)


def _for_json(
    explanation: Explanation,
    images: Sequence[Path],
    guesses: Sequence[Sequence[tuple[int, str, float]]],
    measure: str,
) -> dict[str, Any]:
    """What is said of each picture; `guesses` are its likeliest classes: index, name, and what `measure` names."""
    entries = [
        {
            "image": str(image),
            "predictions": [{"class": c, "name": name, measure: _number(value)} for c, name, value in guesses[n]],
            "targets": [
                {"target": target, "score": _number(explanation.scores[n, k]), "health": explanation.health[n, k]}
                | ({} if explanation.gradients is None else {"gradients": explanation.gradient_summary(n, k)})
                for k, target in enumerate(explanation.target_names)
            ],
        }
        for n, image in enumerate(images)
    ]
    return {"layer": explanation.layer, "method": explanation.method, "images": entries}


def _number(value: float) -> float | None:
    """As JSON takes it, which knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


@main.command()
@click.argument("sources", metavar="CHECKPOINTS...", nargs=-1, required=True)
@click.option("--probes", required=True, type=_FOLDER, help="A folder of pictures, or of one sub-folder a class.")
@_TARGETS
@click.option("--regions", type=_FOLDER, help=_REGIONS_HELP)
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="For checkpoints that hold weights alone.")
@click.option("--image-size", type=_SIDES, metavar="H W", help="By default what the model takes.")
@_asking
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
@click.option(
    "--cards",
    metavar="N|all|moved|flagged",
    help="Which probes get an image card in MLflow. [default: all up to 32; of more 16, and 16 with something to see]",
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes on this machine; -1 for all cores.")
@click.option("--backend", type=click.Choice(["loky", "dask", "ray"]), help="Where they run.")
@click.option(
    "--metrics",
    type=click.Choice(["means", "all", "none"]),
    default="means",
    show_default=True,
    help="Means over all pictures and over those of each class, or one metric a picture and target too, or none.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of the Dask or Ray cluster; by default one on this machine.")
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def checkpoints(
    sources: tuple[str, ...],
    probes: Path,
    regions: Path | None,
    model: Path | None,
    asked: _Asked,
    run_id: str | None,
    experiment: str | None,
    journal: Path | None,
    step_from: str | None,
    cards: str | None,
    jobs: int,
    backend: str | None,
    scheduler: str | None,
    metrics: str,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """Explain saved CHECKPOINTS, as if the callback had been there.

    CHECKPOINTS are files, folders, globs in quotes, runs:/ID/checkpoints, models:/NAME/VERSION, models:/ID of a logged
    model, or runs:/ID/models, all logged models of a run, which get the metrics of their steps as their own. What the
    run holds already is not explained again; an interrupted sweep goes on where it was.

    \b
    Examples:
      gradcam checkpoints 'ckpt/*.keras' --probes probes/ --preprocess resnet
      gradcam checkpoints runs:/1f0c2d/checkpoints --probes probes/ --run 1f0c2d
      gradcam checkpoints runs:/1f0c2d/models --probes probes/
      gradcam checkpoints ckpt/ --probes probes/ --jobs 4
    """  # noqa: D301
    from gradcam_callbacks.sweeping.sweep import explain_checkpoints

    if scheduler is not None and backend is None:
        raise click.UsageError(
            "--scheduler is the address of a cluster: say which with --backend dask or --backend ray."
        )
    if run_id is not None and experiment is not None:
        raise click.UsageError("--run names a run that is there, --experiment asks for a new one: pass one of them.")
    if jobs == 0:
        raise click.UsageError("--jobs is a number of processes, or -1 for one a core, not 0.")
    own_objects = _import_own(modules)
    prepare = _preprocess(asked.preprocess)
    network = _load(model, unsafe=unsafe) if model is not None else None
    with (
        _bar_of_checkpoints() as (on_start, on_checkpoint),
        _cluster(backend, scheduler),
        redirect_stdout(sys.stderr if as_json else sys.stdout),  # MLflow prints to stdout, too
    ):
        sweep = explain_checkpoints(
            list(sources),
            lambda network: _probes_in_folder(network, probes, regions, asked, prepare),
            model=network,
            run_id=run_id,
            experiment=experiment,
            journal_dir=journal,
            jobs=jobs,
            step_from=step_from,
            cards=cards,
            custom_objects=own_objects,
            safe_mode=not unsafe,
            metrics=() if metrics == "none" else metrics,
            verbose=not as_json,
            on_start=on_start,
            on_checkpoint=on_checkpoint,
            **asked.explainer,
        )
    if as_json:
        fields = ("run_id", "recorded", "skipped", "problems", "gaps", "verdict", "summary")
        click.echo(json.dumps({name: getattr(sweep, name) for name in fields}, indent=2))
    else:
        _print_sweep(sweep)
    if sweep.errors:
        rows = [(path, _worded(error)) for path, error in sweep.errors.items()]
        _print_table("Not explained", ("checkpoint", "why"), rows, on_stderr=True)
        raise click.exceptions.Exit(1)


@contextmanager
def _bar_of_checkpoints() -> Iterator[tuple[Callable[[int], None], Callable[[Any, str], None]]]:
    """Shows a bar on a terminal; gives what moves it, `on_start` and `on_checkpoint` of `explain_checkpoints`."""
    from rich.progress import MofNCompleteColumn

    with _shown_bar("Explaining", MofNCompleteColumn()) as (bar, task):
        yield lambda total: bar.update(task, total=total), lambda checkpoint, problem: bar.advance(task)


def _print_sweep(sweep: Sweep) -> None:
    were = "was" if len(sweep.skipped) == 1 else "were"
    skipped = f", {len(sweep.skipped)} {were} there already" if sweep.skipped else ""
    counted = "1 checkpoint" if len(sweep.recorded) == 1 else f"{len(sweep.recorded)} checkpoints"
    click.echo(f"{counted} explained{skipped}.")
    if sweep.gaps:
        click.echo(f"No checkpoint for steps {', '.join(map(str, sweep.gaps))}.")


@main.command()
@_MODEL
@_OUTPUT
@_GRID
@_ANY_SIZE
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def layers(
    model: Path,
    output: str | None,
    grid: tuple[int, int] | None,
    image_size: tuple[int, int] | None,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """List the layers of MODEL that can be explained.

    MODEL is a saved Keras model (.keras or .h5). The list is in the order in which the model calls its layers, with
    their paths as --layer takes them, and marks the one that is explained when no layer is named. Any model is listed:
    the list needs no class, and several inputs or outputs are no obstacle.

    \b
    Examples:
      gradcam layers model.keras
      gradcam layers model.keras --json
    """  # noqa: D301
    from gradcam_callbacks.explaining.explainer import Explainer, stand_in

    _import_own(modules)
    network = _load(model, unsafe=unsafe)
    _check_can_be_made_up(network)
    _check_size(network, image_size)
    found = Explainer(network, output=output, grid=grid).layers(stand_in(network, image_size))
    if as_json:
        entries = [{"path": i.path, "type": i.kind, "shape": i.shape, "picked": i.picked} for i in found]
        click.echo(json.dumps(entries, indent=2))
        return
    rows = []
    for info in found:
        shape = ", ".join("None" if side is None else str(side) for side in info.shape)
        rows.append((info.path, info.kind, f"({shape})", "picked" if info.picked else ""))
    title = f"The layers of '{network.name}' that can be explained"
    _print_table(title, ("layer", "type", "output shape", ""), rows, marked="picked")


@main.command()
@_MODEL
@click.option("--probes", required=True, type=_FOLDER, help="A folder of pictures, or of one sub-folder a class.")
@click.option("--regions", type=_FOLDER, help=_REGIONS_HELP)
@click.option("--image-size", type=_SIDES, metavar="H W", help="By default what the model takes.")
@_asking
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def reliance(
    model: Path,
    probes: Path,
    regions: Path | None,
    asked: _Asked,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """Test what the answers of MODEL rest on, by pictures that are changed.

    MODEL is a saved Keras model (.keras or .h5). Areas of the pictures are covered, and pasted on pictures of other
    classes: an answer rests on a watermark where it changes without it, and where other pictures become that class
    with it. Give a few pictures of each class, and masks of the objects where there are some.

    \b
    Examples:
      gradcam reliance model.keras --probes probes/ --preprocess resnet
      gradcam reliance model.keras --probes probes/ --regions masks/ --json
    """  # noqa: D301
    from gradcam_callbacks.explaining.explainer import Explainer
    from gradcam_callbacks.explaining.reliance import measure_reliance
    from gradcam_callbacks.record.manifest import Manifest
    from gradcam_callbacks.reviewing import findings

    _import_own(modules)
    network = _load(model, unsafe=unsafe)
    chosen = _probes_in_folder(network, probes, regions, asked, _preprocess(asked.preprocess))
    found = measure_reliance(Explainer(network, **asked.explainer), chosen)
    manifest = Manifest(**chosen.description())
    sentences = [findings.text(finding, manifest) for finding in found.findings]
    if as_json:
        entries = [
            {
                "class": manifest.class_name(finding.answer),
                "kind": finding.kind,
                "outcome": finding.outcome,
                "decisive": [manifest.names[probe] for probe in finding.decisive],
                "text": text,
            }
            for finding, text in zip(found.findings, sentences, strict=True)
        ]
        click.echo(json.dumps({"passes": found.passes, "reason": found.reason, "findings": entries}, indent=2))
        return
    nothing = found.reason or "No area was found on which the answers of a class rest."
    for text in sentences or [nothing]:
        click.echo(text)
    click.echo(f"{found.passes} changed pictures went through the model.")


_METHODS = click.option(
    "--method",
    multiple=True,
    default=["gradcam"],
    metavar="NAME",
    help=f"gradcam, the default, {', '.join([*METHODS][1:])}. Repeat it to compare methods.",
)


@main.command()
@_MODEL
@click.argument("probes", type=_FOLDER)
@functools.partial(_asking, method_option=_METHODS)
@_TARGETS
@click.option("--regions", type=_FOLDER, help=_REGIONS_HELP)
@_ANY_SIZE
@click.option(
    "--steps", type=click.IntRange(min=1), default=28, show_default=True, help="Of a deletion or insertion curve."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="A PNG file for the curves.")
@_IMPORT
@_UNSAFE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables: means, and their intervals.")
def evaluate(
    model: Path,
    probes: Path,
    regions: Path | None,
    asked: _Asked,
    steps: int,
    plot: Path | None,
    modules: tuple[str, ...],
    unsafe: bool,
    as_json: bool,
) -> None:
    """Measure how faithful maps are to MODEL on the pictures in the folder PROBES.

    Beside each method stand maps that know nothing: a random one, a Gaussian in the middle, the edges of the picture,
    and the method itself on the model with all weights shuffled. A method that does not beat them is told so. Of
    several methods one is recommended, where the pictures tell.

    \b
    Examples:
      gradcam evaluate model.keras probes/ --preprocess resnet
      gradcam evaluate model.keras probes/ --method gradcam --method layercam --plot curves.png
    """  # noqa: D301
    if plot is not None and (plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir()):
        wrong = "is no PNG file" if plot.suffix.lower() != ".png" else "lies in a folder that does not exist"
        raise click.BadParameter(f"'{plot}' {wrong}.", param_hint="--plot")
    _import_own(modules)
    from gradcam_callbacks.explaining.evaluating.evaluate import evaluate as evaluate_maps
    from gradcam_callbacks.explaining.explainer import Explainer

    prepare = _preprocess(asked.preprocess)
    network = _load(model, unsafe=unsafe)
    chosen = _probes_in_folder(network, probes, regions, asked, prepare)
    methods = dict.fromkeys(asked.explainer["method"])  # each once
    explainers = [Explainer(network, **{**asked.explainer, "method": method}) for method in methods]
    with _bar("Measuring") as on_progress:
        found = evaluate_maps(explainers, chosen, steps=steps, randomise="whole", on_progress=on_progress)
    if plot is not None:
        plot.write_bytes(found.plot().png())
    if as_json:
        click.echo(json.dumps(found.description() | {"plot": None if plot is None else str(plot)}, indent=2))
        return
    click.echo(found.title())
    for heads, rows in found.tables():
        _print_numbers(heads, rows, of={each.name for each in found})
    for note in found.notes():
        click.echo(note)
    if plot is not None:
        click.echo(plot)


@main.command()
@click.argument("journal", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--run", "run_id", metavar="ID", help="The MLflow run; by default the one that the journal names.")
@click.option(
    "--tracking-uri",
    metavar="URI",
    help="Of the MLflow server; by default the one that the journal names, if MLflow is set to that or you say yes.",
)
def upload(journal: Path, run_id: str | None, tracking_uri: str | None) -> None:
    """Send what JOURNAL holds and its MLflow run lacks.

    For trainings that ended before everything had arrived. Safe to repeat, and from another machine too: what the run
    holds already is not sent again. All parts of the run that the journal holds are sent.

    Where only the journal names the address, you are asked before anything goes there, and without a terminal it is
    refused. Name the address with --tracking-uri, or set MLFLOW_TRACKING_URI to it, to say yes.

    \b
    Examples:
      gradcam upload .gradcam/1f0c2d
      gradcam upload .gradcam/1f0c2d --tracking-uri http://mlflow.example:5000
    """  # noqa: D301
    from gradcam_callbacks.publishing import mlflow_store
    from gradcam_callbacks.publishing.uploader import of_parts
    from gradcam_callbacks.record.parts import journals_in, run_folder

    journals = journals_in(run_folder(journal))
    if not journals:
        raise click.BadParameter(f"'{journal}' is no journal: it holds no manifest.json.", param_hint="JOURNAL")
    opened = next(iter(journals.values()))
    if not tracking_uri and not opened.manifest.tracking_uri:
        raise click.UsageError(
            f"The run of '{journal}' is not in MLflow. To send it there, name a run with --run and --tracking-uri."
        )
    run = mlflow_store.find_run_of(opened, run_id, tracking_uri, argument="tracking_uri", is_trusted=_is_trusted)
    sending = of_parts(journals, run)
    missing = len(sending.missing())
    with _shown_bar("Uploading", total=missing) as (bar, task):
        arrived = sending.send(on_item=lambda item: bar.advance(task))
        sending.tidy()
        sending.close()
    if not arrived:
        left = len(sending.missing())
        raise click.ClickException(f"{left} of {missing} items have not arrived: {sending.error}. Try again later.")
    count = len([step for each in journals.values() for step in each.steps() if step >= 0])
    click.echo(f"Run {run.run_id} holds all {count} steps:\n{run.where_to_look()}")


def _is_trusted(address: str) -> bool:
    """Asks a person about an address that only a journal names; where there is none to ask, it is not trusted."""
    return (
        sys.stdin.isatty()
        and sys.stderr.isatty()
        and click.confirm(
            f"The journal is to be sent to {address!r}, which MLflow is not set to. Credentials of yours may go there, "
            "or a database be made. Do you trust it?",
            err=True,
        )
    )


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
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print name, verdict, summary, events and findings of each run as JSON. The page is written only with --out.",
)
@click.option(
    "--csv",
    "numbers",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all numbers there as CSV, a row each run, step, probe and target. The page is written only with --out.",
)
@click.option(
    "--png",
    "film",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the maps over time there as PNG, a row each probe, target and run. The page is written only with --out.",
)
@click.pass_context
def report(
    context: click.Context,
    sources: tuple[str, ...],
    out: Path,
    tracking_uri: str | None,
    as_json: bool,
    numbers: Path | None,
    film: Path | None,
) -> None:
    """Write the review page of journals and runs.

    Several are shown side by side, aligned by probe and epoch.

    A journal is a folder, a run is written runs:/ID. Runs that are compared must have the same probes.

    \b
    Examples:
      gradcam report .gradcam/1f0c2d
      gradcam report runs:/1f0c2d runs:/77ab10 --out compare.html
      gradcam report runs:/1f0c2d --json
      gradcam report runs:/1f0c2d --csv numbers.csv --png maps.png
    """  # noqa: D301
    from gradcam_callbacks.publishing.reports import told, write_files

    is_named = context.get_parameter_source("out") is not click.core.ParameterSource.DEFAULT
    page = out if is_named or not (as_json or numbers or film) else None
    with _named_journals({"sources": "JOURNAL_OR_RUN..."}), redirect_stdout(sys.stderr if as_json else sys.stdout):
        asked = {"page": page, "numbers": numbers, "film": film}
        written = write_files(sources, **asked, tracking_uri=tracking_uri) if any(asked.values()) else []
        content = told(sources, tracking_uri=tracking_uri) if as_json else []
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    for path in written:
        click.echo(path.resolve().as_uri())


@main.command()
@click.argument("source", metavar="JOURNAL_OR_RUN")
@click.option("--against", metavar="JOURNAL_OR_RUN", help="Compare with this one, such as the model in production.")
@click.option("--min-focus", type=_SHARE, metavar="SHARE", help="The least focus at the last step, from 0 to 1.")
@click.option(
    "--max-drift",
    type=_SHARE,
    metavar="SHARE",
    help="The largest drift to the last step, from 0 to 1; with --against, from its last step.",
)
@click.option(
    "--max-fall",
    type=_SHARE,
    metavar="SHARE",
    default=0.1,
    show_default=True,
    help="How much lower than that of --against the focus may be.",
)
@click.option(
    "--fail-on",
    type=click.Choice([*VERDICTS[:-1], "never"]),
    default="suspect",
    show_default=True,
    help="The least serious verdict that fails; they are listed from the most serious on.",
)
@click.option("--tracking-uri", metavar="URI", help="Where the runs are; by default MLflow's own.")
def check(
    source: str,
    against: str | None,
    min_focus: float | None,
    max_drift: float | None,
    max_fall: float,
    fail_on: str,
    tracking_uri: str | None,
) -> None:
    """Fail where the attention of a training is not as it should be.

    A gate for pipelines: exits with 1, and says on stderr, in a line each, what does not hold; with 0 where all holds.
    A journal is a folder, a run is written runs:/ID. With --against, the verdict must be no more serious, too.

    \b
    Examples:
      gradcam check runs:/1f0c2d
      gradcam check .gradcam/1f0c2d --min-focus 0.5 --fail-on shortcut
      gradcam check runs:/1f0c2d --against runs:/77ab10 --max-drift 0.3
    """  # noqa: D301
    from gradcam_callbacks.publishing.checks import check as check_training

    hints = {"source": "JOURNAL_OR_RUN", "against": "--against"}
    with _named_journals(hints), redirect_stdout(sys.stderr):
        wrong = check_training(
            source,
            against=against,
            min_focus=min_focus,
            max_drift=max_drift,
            max_fall=max_fall,
            fail_on=None if fail_on == "never" else fail_on,
            tracking_uri=tracking_uri,
        )
    for line in wrong:
        click.echo(f"Error: {line}", err=True)
    if wrong:
        raise click.exceptions.Exit(1)
    click.echo("All that was asked holds.")


@contextmanager
def _named_journals(hints: Mapping[str, str]) -> Iterator[None]:
    """Makes wrong usage of what is wrong with the name of a journal or a run; `hints` are what was typed for it."""
    try:
        yield
    except GradCAMError as error:
        if error.argument is not None and error.argument in hints and not error.remedy:
            raise click.BadParameter(_worded(error), param_hint=hints[error.argument]) from error
        raise


# ---- What several commands need ----


def _print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    marked: str | None = None,
    on_stderr: bool = False,
) -> None:
    """Prints a table; numbers stand on the right, and the row that ends in `marked` is green."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in ("probability", "score") else "left")
    for row in rows:
        table.add_row(*map(escape, row), style="bold green" if row[-1] == marked else None)
    Console(stderr=on_stderr).print(table)


def _print_numbers(heads: Sequence[str], rows: Sequence[Sequence[str]], *, of: Collection[str]) -> None:
    """Prints a table of a name and numbers in each row; rows of other names than these are dim."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)  # seven measures fit into 80 columns
    table.add_column("", no_wrap=True, min_width=max(len(row[0]) for row in rows))
    for head in heads:
        table.add_column(head.replace(" ", "\n"), justify="right", overflow="fold")
    for name, *cells in rows:
        aligned = [cell if cell.endswith("*") else f"{cell} " for cell in cells]
        table.add_row(escape(name), *aligned, style=None if name in of else "dim")
    Console().print(table)


@contextmanager
def _bar(task: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar on a terminal; gives what moves it: how much is done, and of how much."""
    with _shown_bar(task) as (bar, number):
        yield lambda done, total: bar.update(number, completed=done, total=total)


@contextmanager
def _shown_bar(name: str, *more: Any, total: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Shows a bar of rich on a terminal; gives it and its task.

    Args:
        name: what is done.
        more: columns that it has beside the default ones.
        total: how much there is to do, if that is known.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(*Progress.get_default_columns(), *more, console=console, disable=not console.is_terminal)
    # Up to rich 14 a bar that is not shown ends with an empty line.
    with bar if console.is_terminal else nullcontext():
        yield bar, bar.add_task(name, total=total)


def _import_keras() -> None:
    """Imports Keras without what TensorFlow's libraries then write to stderr, TF_CPP_MIN_LOG_LEVEL or not."""
    if "keras" in sys.modules or click.get_current_context().find_root().params["debug"]:
        return
    from gradcam_callbacks.explaining.backend import import_keras

    with native_log_muted():
        import_keras()


def _import_own(modules: Sequence[str]) -> dict[str, Any] | None:
    """Imports Keras and these modules; gives what they register, for processes that do not import them."""
    _import_keras()
    import keras

    for module in modules:
        try:
            _import(module)
        except Exception as error:  # whatever its code raises
            raise click.BadParameter(
                f"'{module}' could not be imported ({type(error).__name__}: {error}).", param_hint="--import"
            ) from error
    return dict(keras.saving.get_custom_objects()) if modules else None


def _import(module: str) -> Any:
    """A module, also one in the working directory, as for `python -m`."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return import_module(module)


def _load(model: Path, *, unsafe: bool) -> Any:
    """The model in a file.

    Raises:
        GradCAMError: if it cannot be loaded.
    """
    import keras

    from gradcam_callbacks.sweeping.failures import why_not_loaded

    if model.suffix == ".keras" and model.is_file() and not zipfile.is_zipfile(model):  # Keras says "File not found"
        raise GradCAMError(f"'{model}' is damaged or truncated, or it is no model that Keras saved.")
    try:
        return keras.saving.load_model(model, compile=False, safe_mode=not unsafe)
    except Exception as error:  # Keras, h5py and zipfile raise a dozen kinds at damaged files
        raise why_not_loaded(error, model).within(f"'{model}' could not be loaded:") from error


def _probes_of_files(network: Any, files: Sequence[Path], asked: _Asked, prepare: Any) -> ProbeSet:
    """Pictures that are named one by one, as probes of a network; `prepare` is its preprocessing."""
    from gradcam_callbacks.explaining.explain import read_pictures

    _check_takes_one_picture(network, can_make_channels=prepare is not None)
    _check_size(network, asked.image_size)
    names = _class_names(asked.classes, asked.preprocess, network)
    no_label = "pictures that are named one by one have none"
    return read_pictures(
        network,
        files,
        targets=_targets(asked.targets, has_names=names is not None, no_label=no_label),
        class_names=names,
        preprocess=prepare,
        image_size=asked.image_size,
    )


def _probes_in_folder(network: Any, folder: Path, regions: Path | None, asked: _Asked, prepare: Any) -> ProbeSet:
    """The pictures in a folder, or else in its sub-folders, which are their labels then."""
    from gradcam_callbacks.explaining.explain import input_size
    from gradcam_callbacks.probes.probe_set import ProbeSet
    from gradcam_callbacks.probes.reading import PICTURE_SUFFIXES, pictures_in
    from gradcam_callbacks.probes.regions import read_masks

    _check_takes_one_picture(network, can_make_channels=prepare is not None)
    _check_size(network, asked.image_size)
    names = _class_names(asked.classes, asked.preprocess, network)
    children = [child for child in folder.iterdir() if not child.name.startswith(".")]
    has_pictures = any(child.suffix.lower() in PICTURE_SUFFIXES for child in children)
    folders = [] if has_pictures else sorted(child.name for child in children if child.is_dir())
    classes = _number_of_classes(network)
    are_labels = bool(folders) and (names is not None or classes in (len(folders), None))
    if are_labels:
        no_label = None
    elif folders:
        no_label = "those in --probes are not the classes of the model"
        click.echo(
            f"The {len(folders)} sub-folders of '{folder}' ({_shortened(folders)}) are not used as labels: model "
            f"'{network.name}' has {classes} classes. To use them, pass --classes FILE with the names of all classes, "
            "in the order of the model's output.",
            err=True,
        )
    else:
        no_label = "--probes has none"
    height, width, channels = input_size(network, asked.image_size)
    settings: dict[str, Any] = {
        "image_size": (height, width),
        "color_mode": "grayscale" if channels == 1 else "rgb",
        "targets": _targets(asked.targets, has_names=are_labels or names is not None, no_label=no_label),
        "class_names": names,
        "preprocess": prepare,
    }
    if not folders or are_labels:
        return ProbeSet.from_directory(folder, labels="folder" if are_labels else None, regions=regions, **settings)
    files = pictures_in(folder, in_folders=True)
    inside = [file.relative_to(folder) for file in files]
    masks = None
    if regions is not None:
        masks = read_masks(regions, [path.with_suffix(".png") for path in inside], (height, width))
    return ProbeSet.from_files(files, names=[str(path.with_suffix("")) for path in inside], regions=masks, **settings)


def _number_of_classes(network: Any) -> int | None:
    """How many classes a model of one output has; None where it does not say."""
    answers = getattr(network, "output_shape", None)
    is_one = isinstance(answers, tuple) and bool(answers) and isinstance(answers[-1], int)
    return answers[-1] if is_one and answers is not None else None


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_takes_one_picture(network: Any, *, can_make_channels: bool) -> None:
    """Says what to do instead where pictures in files cannot be fed to a model.

    Args:
        network: the model.
        can_make_channels: whether a preprocessing may give pictures other channels.

    Raises:
        GradCAMError: if the model takes anything but one picture.
    """
    inputs = [tensor.name for tensor in getattr(network, "inputs", None) or []] or _arguments_of_call(network)
    if len(inputs) > 1:
        raise GradCAMError(
            f"Model '{network.name}' takes {len(inputs)} inputs; the command explains models of one picture: use "
            f"explain() with a dict of arrays, by their names: {', '.join(map(repr, inputs))}."
        )
    shape = next(iter(_shapes(network)), (None, None, None))
    if len(shape) != 3:
        is_text = len(shape) == 1 and "int" in str(network.inputs[0].dtype)  # words have no places to draw on
        raise GradCAMError(
            f"Model '{network.name}' takes arrays {shape}; the command explains models of one picture (height, width, "
            f"channels){'' if is_text else ': use explain() with an array'}."
        )
    is_channels_first = shape[0] in (1, 3) and shape[2] not in (1, 3)
    if shape[2] not in (1, 3, None) and not is_channels_first and not can_make_channels:
        raise GradCAMError(
            f"Model '{network.name}' takes pictures of {shape[2]} channels, and files are read with 1 or 3: name a "
            "function that makes the others with --preprocess module:function, or use explain() with an array."
        )


def _check_can_be_made_up(network: Any) -> None:
    """Says what to do instead where the command cannot make up what a model takes.

    Raises:
        GradCAMError: if it leaves open more than the size of pictures.
    """
    open_ones = [shape for shape in _shapes(network) if len(shape) != 3 and None in shape]
    arguments = [] if _shapes(network) else _arguments_of_call(network)
    if open_ones or len(arguments) > 1:
        takes = f"arrays {_listed(open_ones)}, whose size is open" if open_ones else " and ".join(map(repr, arguments))
        raise GradCAMError(
            f"Model '{network.name}' takes {takes}; the command can make up pictures only: use "
            "Explainer(model).layers() with arrays of yours."
        )


def _check_size(network: Any, image_size: tuple[int, int] | None) -> None:
    """Asks for a size where the model takes any, and refuses one where it says its own."""
    shapes = _shapes(network)
    is_open = any(len(shape) == 3 and None in shape for shape in shapes)
    if image_size is None and (is_open or not shapes):
        takes = "takes pictures of any size" if shapes else "does not say what size of picture it takes"
        raise click.UsageError(f"Model '{network.name}' {takes}; say which with --image-size HEIGHT WIDTH.")
    takes_it = is_open or not shapes or any(image_size in (shape[:2], shape[1:]) for shape in shapes if len(shape) == 3)
    if image_size is not None and not takes_it:
        raise click.UsageError(f"Model '{network.name}' takes {_listed(shapes)}: leave --image-size away.")


def _shapes(network: Any) -> list[tuple[int | None, ...]]:
    """Of what a model takes, without the batch; none where it does not say them."""
    return [tuple(tensor.shape[1:]) for tensor in getattr(network, "inputs", None) or []]


def _arguments_of_call(network: Any) -> list[str]:
    """What must be given to a model that does not say what its inputs are."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in inspect.signature(network.call).parameters.values() if p.default is p.empty]
    return [p.name for p in needed if p.kind in kinds and p.name not in ("training", "mask")]


def _listed(shapes: Sequence[tuple[int | None, ...]]) -> str:
    return ", ".join(map(str, shapes))


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
        close = [] if function else difflib.get_close_matches(module, _applications())
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise click.BadParameter(
            f"'{name}' is neither a module of keras.applications nor module:function ({error}).{hint}",
            param_hint="--preprocess",
        ) from error


def _applications() -> list[str]:
    """The modules of `keras.applications` that have a preprocessing."""
    import keras

    return [name for name, value in vars(keras.applications).items() if hasattr(value, "preprocess_input")]


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
    answers = getattr(network, "output_shape", None)
    if preprocess is None or ":" in preprocess or not isinstance(answers, tuple) or answers[-1] != 1000:
        return None
    import numpy as np
    from keras.applications import imagenet_utils

    try:
        best = imagenet_utils.decode_predictions(np.eye(1000), top=1)  # downloads the names once
    except Exception:  # the download raises many kinds
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

"""What a person types and what comes back: `gradcam explain`, `report` and `checkpoints`."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner, Result
from keras.applications import imagenet_utils, mobilenet_v2
from mlflow import MlflowClient
from PIL import Image
from support.journals import make_journal
from support.lanes import at_night
from support.manifests import a_manifest
from support.models import pictures, small_model
from support.reliance import a_test
from support.seeds import same_weights

from gradcam_callbacks import Explainer, GradCAMCallback, ProbeSet, explain
from gradcam_callbacks import evaluate as measure_faithfulness
from gradcam_callbacks.cli import main
from gradcam_callbacks.explaining.methods import METHODS
from gradcam_callbacks.probes.reading import read_picture
from gradcam_callbacks.publishing.mlflow_store import find_run
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import report

Array = np.ndarray[Any, np.dtype[Any]]

NAMES = ("tench", "tabby", "cup", "[b]oat")


def gradcam(*arguments: object, **environment: str) -> Result:
    """Runs the command in this process; rich takes 200 columns."""
    typed = [str(argument) for argument in arguments]
    return CliRunner().invoke(main, typed, prog_name="gradcam", env={"COLUMNS": "200"} | environment)


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, as a shell would."""
    code = "from gradcam_callbacks.cli import main; main(prog_name='gradcam')"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"COLUMNS": "200", "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def fails(*arguments: object) -> str:
    """The one line on stderr of a command that fails."""
    result = gradcam(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def refuses(*arguments: object) -> str:
    """The last line on stderr of a command that was typed wrong; before it is the usage."""
    result = gradcam(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: gradcam")
    return result.stderr.splitlines()[-1]


def rows(output: str) -> list[list[str]]:
    """The cells of the tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]


def strict_json(text: str) -> Any:
    """What the text says, which is JSON and nothing else."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def photograph(height: int, width: int, seed: int = 0) -> Array:
    """(height, width, 3) uint8 with something different in each corner."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def maps_of(folder: str) -> Array:
    with np.load(Path(folder, "maps.npz")) as numbers:
        return numbers["maps"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four classes for pictures of 16 × 16 in 0..255."""
    file = tmp_path_factory.mktemp("model") / "small.keras"
    network = same_weights(small_model(), 4)
    network.get_layer("head").kernel.assign(0.05 * network.get_layer("head").kernel)  # not sure of itself
    network.save(file)
    return file


@pytest.fixture(autouse=True)
def photographs(own_place: None) -> None:
    """Two photographs of different sizes, and names."""
    Image.fromarray(photograph(40, 60, 1)).save("cat.png")
    Image.fromarray(photograph(50, 30, 2)).save("cup.png")
    Path("names.txt").write_text("\n".join(NAMES), encoding="utf-8")


def own_size(path: str) -> Array:
    return np.asarray(read_picture(Path(path)))


# ---- gradcam explain ----


def test_the_files_are_those_of_explain_on_each_photograph_at_its_own_size(model: Path) -> None:
    """Maps are Python's bit for bit; each overlay is that map on the photograph as it is; each file is listed."""
    result = gradcam("explain", model, "cat.png", "cup.png", "--target", 2, "--target", "predicted", "--out", "looks")
    assert (result.exit_code, result.stderr) == (0, "")
    expected = explain(keras.saving.load_model(model), ["cat.png", "cup.png"], targets=[2, "predicted"])
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    assert (expected.maps[0, 0] != expected.maps[1, 0]).any()
    for n, name in enumerate(("cat", "cup")):
        for k, target in enumerate(("class_2", "predicted")):
            overlay = np.asarray(Image.open(f"looks/{name}.{target}.png"))
            np.testing.assert_array_equal(overlay, expected.overlays_on(n, own_size(f"{name}.png"))[k])
            assert overlay.shape == own_size(f"{name}.png").shape
        with Image.open(f"looks/{name}.panels.png") as sheet:
            sheet.load()
            assert sheet.width > 3 * sheet.height / 2 / (1 + n)  # three panels beside each other
    manifest = strict_json(Path("looks/manifest.json").read_text(encoding="utf-8"))
    assert (manifest["names"], manifest["targets"]) == (["cat", "cup"], ["class_2", "predicted"])
    assert (manifest["layer"], manifest["method"], manifest["score_kind"]) == ("conv", "gradcam", "logit")
    listed = [Path(line) for line in result.stdout.splitlines() if line.startswith("looks/")]
    assert sorted(listed) == sorted(Path("looks").iterdir())
    assert len(listed) == 8
    assert "Explained: layer conv, method gradcam." in result.stdout.splitlines()


def test_the_classes_are_printed_with_names_and_probabilities(model: Path) -> None:
    """A table a photograph, the likeliest first, as many as --top; brackets in names are no markup."""
    Image.fromarray(photograph(20, 20)).save("[red]cat.png")
    result = gradcam("explain", model, "[red]cat.png", "cup.png", "--classes", "names.txt")
    expected = explain(keras.saving.load_model(model), ["[red]cat.png", "cup.png"], class_names=NAMES)
    told = rows(result.stdout)
    assert told[:4] + told[4:] == [
        [str(index), NAMES[index], f"{probability:.1%}"]
        for best in expected.predictions(4)
        for index, _, probability in best
    ]
    assert "[b]oat" in result.stdout
    assert [line.strip() for line in result.stdout.splitlines() if line.strip().endswith(".png")] == [
        "[red]cat.png",
        "cup.png",
    ]
    assert rows(gradcam("explain", model, "cup.png", "--top", 2, "--classes", "names.txt").stdout) == told[4:6]
    assert rows(gradcam("explain", model, "cup.png", "--top", 1).stdout)[0][1] == f"class_{told[4][0]}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("names.txt", "\ufeffgoldfish\r\ngreat white shark\n\n  cock \nhen\n"),
        ("names.json", '["goldfish", "great white shark", "cock", "hen"]'),
        (
            "imagenet_class_index.json",
            '{"0": ["n01443537", "goldfish"], "1": ["n01484850", "great_white_shark"], "3": ["n1", "hen"], '
            '"2": ["n01514668", "cock"]}',
        ),
    ],
)
def test_names_of_classes_come_from_any_usual_file_and_are_targets(model: Path, file: str, text: str) -> None:
    """One a line, a JSON list, or ImageNet's dict; a target is a name, an index, or one class rather than another."""
    Path(file).write_text(text, encoding="utf-8")
    asked = ("--target", "great white shark", "--target", 2, "--target", "great white shark:3", "--target", "2:cock")
    result = gradcam("explain", model, "cat.png", *asked, "--classes", file, "--out", "looks", "--json")
    names = ["goldfish", "great white shark", "cock", "hen"]
    targets = [1, 2, (1, 3), (2, 2)]
    expected = explain(keras.saving.load_model(model), ["cat.png"], targets=targets, class_names=names)
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    (entry,) = strict_json(result.stdout)["images"]
    assert sorted(prediction["name"] for prediction in entry["predictions"]) == sorted(names)
    assert [target["target"] for target in entry["targets"]] == [
        "great white shark",
        "cock",
        "great white shark − hen",
        "cock − cock",
    ]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_network_for_imagenet_has_its_names(monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    """Keras has them once it has downloaded them; where it cannot, that is said, and classes are numbers."""
    names = {str(index): [f"n{index:08}", f"kind_of_{index}"] for index in range(1000)}
    module = sys.modules[imagenet_utils.decode_predictions.__module__]
    monkeypatch.setattr(module, "CLASS_INDEX", names if is_there else None)

    def away(*_: object, **__: object) -> None:
        raise OSError("URL fetch failure: nobody answers")

    monkeypatch.setattr(module.file_utils, "get_file", away)
    small_model(classes=1000).save("thousand.keras")
    result = gradcam("explain", "thousand.keras", "cat.png", "--preprocess", "mobilenet_v2", "--out", "looks")
    assert result.exit_code == 0
    best = explain(keras.saving.load_model("thousand.keras"), ["cat.png"], preprocess=mobilenet_v2.preprocess_input)
    number = str(best.predictions(1)[0][0][0])
    (row,) = [row for row in rows(result.stdout) if row[0] == number]
    assert row[1] == (f"kind of {number}" if is_there else f"class_{number}")
    said = "The names of ImageNet's classes could not be downloaded; --classes FILE gives them."
    assert (said in result.stderr) == (not is_there)


def test_names_that_do_not_fit_are_refused(model: Path) -> None:
    """A file without names exits with 2 and says what was expected, a wrong number of names with 1."""
    for text in ('{"tench": 0}', "[1", "3"):
        Path("wrong.json").write_text(text, encoding="utf-8")
        line = refuses("explain", model, "cat.png", "--classes", "wrong.json")
        assert "'wrong.json' holds no names of classes: expected one a line, or in a .json a list" in line
    Path("three.txt").write_text("a\nb\nc", encoding="utf-8")
    line = fails("explain", model, "cat.png", "--classes", "three.txt")
    assert line.startswith("Error: There are 3 class names, but model 'small' has 4 classes. Give --classes one name")


def test_targets_that_are_none_are_refused(model: Path) -> None:
    """Wrong usage exits with 2, a class that the model does not have with 1; the message says what to do."""
    line = refuses("explain", model, "cat.png", "--target", "tabby")
    assert "'tabby' is the name of a class, but the classes have no names here: pass --classes FILE" in line
    assert "'1:2:3' is no target; expected a class, or A:B." in refuses(
        "explain", model, "cat.png", "--target", "1:2:3"
    )
    assert "'label' is the sub-folder of a picture" in refuses("explain", model, "cat.png", "--target", "label")
    line = fails("explain", model, "cat.png", "--target", "tabbi", "--classes", "names.txt")
    assert line == "Error: No class 'tabbi' among the 4 class names. Did you mean 'tabby'?"
    line = fails("explain", model, "cat.png", "--target", 4)
    assert line == "Error: Class 4 is out of range: model 'small' has 4 classes, 0 to 3."


def test_a_contrast_is_the_difference_of_the_scores(model: Path) -> None:
    """--target 2:1 explains score 2 minus score 1."""
    asked = ("--target", 2, "--target", 1, "--target", "2:1", "--out", "looks", "--json")
    (entry,) = strict_json(gradcam("explain", model, "cat.png", *asked).stdout)["images"]
    two, one, contrast = (target["score"] for target in entry["targets"])
    assert contrast == pytest.approx(two - one, rel=1e-5)
    expected = explain(keras.saving.load_model(model), ["cat.png"], targets=[2, 1, (2, 1)])
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    assert Path("looks/cat.class_2_class_1.png").exists()


def test_a_photograph_that_was_taken_sideways_is_upright(model: Path) -> None:
    """The orientation in a JPEG turns what the model sees, and the overlay."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90°
    Image.fromarray(photograph(40, 60)).save("sideways.jpg", exif=exif)
    with Image.open("sideways.jpg") as stored:
        upright = np.rot90(np.asarray(stored), -1)
    Image.fromarray(upright).save("upright.png")
    gradcam("explain", model, "sideways.jpg", "--target", 1, "--out", "looks")
    expected = explain(keras.saving.load_model(model), ["upright.png"], targets=[1])
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    overlay = np.asarray(Image.open("looks/sideways.class_1.png"))
    np.testing.assert_array_equal(overlay, expected.overlays_on(0, upright)[0])
    assert overlay.shape == (60, 40, 3)


def test_every_kind_of_png_is_read(model: Path) -> None:
    """Palette, alpha, grey and 16 bits are what they look like."""
    colours = photograph(20, 30)
    grey = colours[..., 0]
    palette = Image.fromarray(colours).quantize(8)
    palette.save("palette.png")
    Image.fromarray(np.dstack([colours, np.full((20, 30), 90, np.uint8)])).save("alpha.png")
    Image.fromarray(grey).save("grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("deep.png")
    with Image.open("deep.png") as deep:
        assert deep.mode.startswith("I")
    files = ("palette.png", "alpha.png", "grey.png", "deep.png")
    result = gradcam("explain", model, *files, "--target", 1, "--out", "looks")
    assert (result.exit_code, result.stderr) == (0, "")
    looks_like = [np.asarray(palette.convert("RGB")), colours, *2 * [np.repeat(grey[..., None], 3, axis=-1)]]
    for n, seen in enumerate(looks_like):
        Image.fromarray(seen).save(f"rgb{n}.png")
    expected = explain(keras.saving.load_model(model), [f"rgb{n}.png" for n in range(4)], targets=[1])
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    for n, file in enumerate(files):
        overlay = np.asarray(Image.open(f"looks/{Path(file).stem}.class_1.png"))
        np.testing.assert_array_equal(overlay, expected.overlays_on(n, looks_like[n])[0])


def test_a_grey_model_gets_grey_pictures() -> None:
    """One channel is asked for, one channel is fed."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))).save("grey.keras")
    network = keras.saving.load_model("grey.keras")
    shown = Image.open("cat.png").resize((16, 16), Image.Resampling.BILINEAR).convert("L")
    expected = Explainer(network)(ProbeSet(np.asarray(shown, np.float32)[None, ..., None], targets=[1]))
    for size in ((), ("--image-size", 16, 16)):
        result = gradcam("explain", "grey.keras", "cat.png", "--target", 1, *size, "--out", "looks", "--overwrite")
        assert (result.exit_code, result.stderr) == (0, "")
        np.testing.assert_array_equal(maps_of("looks"), expected.maps)


@pytest.mark.usefixtures("long")
def test_nothing_is_overwritten_unless_asked(model: Path) -> None:
    """Where any of the files is there, nothing is written, in one line; --overwrite replaces them."""
    call = ("explain", model, "cat.png", "--target", 1, "--out", "looks")
    for name in ("cat.panels.png", "cat.class_1.png", "maps.npz", "manifest.json"):
        Path("looks").mkdir(exist_ok=True)
        mine = Path("looks", name)
        mine.write_text("mine")
        line = fails(*call)
        assert line == f"Error: '{mine}' is there already; choose another folder or pass --overwrite."
        assert (mine.read_text(), list(Path("looks").iterdir())) == ("mine", [mine])
        mine.unlink()
    Path("looks/maps.npz").write_text("mine")
    assert gradcam(*call, "--overwrite").exit_code == 0
    assert maps_of("looks").max() > 0


@pytest.mark.parametrize("preprocess", ["mobilenet_v2", "halving:halved"])
def test_preprocess_is_what_the_model_is_fed(model: Path, preprocess: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of keras.applications, or a function of a module in the working directory."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    Path("halving.py").write_text("def halved(images):\n    return images / 2 - 3\n", encoding="utf-8")
    call = ("explain", model, "cat.png", "--target", 1, "--preprocess", preprocess, "--out", "looks")
    result = gradcam(*call)
    assert (result.exit_code, result.stderr) == (0, "")
    function = keras.applications.mobilenet_v2.preprocess_input if ":" not in preprocess else lambda x: x / 2 - 3
    expected = explain(keras.saving.load_model(model), ["cat.png"], targets=[1], preprocess=function)
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    unprepared = explain(keras.saving.load_model(model), ["cat.png"], targets=[1])
    assert (maps_of("looks") != unprepared.maps).any()
    sys.modules.pop("halving", None)


@pytest.mark.parametrize(
    ("preprocess", "reason"),
    [
        ("xceptoin", "No module named 'keras.applications.xceptoin'"),
        ("no_such_module:function", "No module named 'no_such_module'"),
        ("json:prepare", "module 'json' has no attribute 'prepare'"),
        ("sys:maxsize", "maxsize is no function"),
        (":f", "Empty module name"),
    ],
)
def test_a_wrong_preprocess_is_refused(model: Path, preprocess: str, reason: str) -> None:
    """Exit 2, with what a right one is and why this is none."""
    line = refuses("explain", model, "cat.png", "--preprocess", preprocess)
    assert f"'{preprocess}' is neither a module of keras.applications nor module:function ({reason})." in line


def test_a_preprocess_that_is_spelt_otherwise_is_suggested(model: Path) -> None:
    """The module that was meant comes first; for a function of one's own there is no guess."""
    line = refuses("explain", model, "cat.png", "--preprocess", "mobilenetv2")
    assert "Did you mean mobilenet_v2 or " in line
    assert "Did you mean" not in refuses("explain", model, "cat.png", "--preprocess", "resnte:f")


def test_a_picture_that_is_none_is_said_in_one_line(model: Path) -> None:
    """Damaged, or no picture: exit 1 with its name; nothing is written. A missing one is wrong usage."""
    Image.fromarray(photograph(90, 90)).save("damaged.jpg")
    whole = Path("damaged.jpg").read_bytes()
    Path("damaged.jpg").write_bytes(whole[: len(whole) // 2])
    Path("letter.jpg").write_text("Dear picture")
    line = fails("explain", model, "cat.png", "damaged.jpg", "--out", "looks")
    assert line.startswith("Error: Picture 'damaged.jpg' is damaged or truncated: ")
    line = fails("explain", model, "letter.jpg", "--out", "looks")
    assert line == "Error: 'letter.jpg' is not a picture that Pillow can read."
    assert not Path("looks").exists()
    assert "'missing.jpg' does not exist" in refuses("explain", model, "missing.jpg")


@pytest.mark.parametrize("verb", ["explain", "layers"])
def test_a_model_that_is_none_is_said_in_one_line(model: Path, verb: str) -> None:
    """Truncated, another file, broken inside, weights alone: exit 1 with its name; --debug shows the traceback."""
    pictures_of = ("cat.png",) * (verb == "explain")
    whole = model.read_bytes()
    Path("half.keras").write_bytes(whole[: len(whole) // 2])
    Path("letter.keras").write_text("Dear model")
    place = whole.index(b"model.weights.h5") + 200
    flipped = bytes(255 - byte for byte in whole[place : place + 200])
    Path("flipped.keras").write_bytes(whole[:place] + flipped + whole[place + 200 :])
    for name in ("half.keras", "letter.keras"):
        line = fails(verb, name, *pictures_of)
        assert line == f"Error: '{name}' is damaged or truncated, or it is no model that Keras saved."
    Path("half.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    small_model().save_weights("small.weights.h5")
    for name in ("flipped.keras", "half.h5", "small.weights.h5"):
        line = fails(verb, name, *pictures_of)
        assert re.match(rf"Error: '{re.escape(name)}' could not be loaded: \w.{{10,}}", line)
    debugged = CliRunner().invoke(main, ["--debug", verb, "half.keras", *pictures_of])
    assert isinstance(debugged.exception, ValueError)  # Python shows its traceback
    assert debugged.exit_code == 1


def test_a_lambda_layer_is_refused_unless_its_author_is_trusted() -> None:
    """The sentence says that code would run, and names --unsafe, which loads it."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.Lambda(lambda value: value * 2)(x)
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    network.save("lambda.keras")
    for verb, *pictures_of in (("explain", "cat.png"), ("layers",)):
        line = fails(verb, "lambda.keras", *pictures_of)
        assert line == (
            "Error: 'lambda.keras' could not be loaded: It has a Lambda layer, whose code would be run from the file. "
            "If you trust its author, pass --unsafe."
        )
    assert gradcam("layers", "lambda.keras", "--unsafe").exit_code == 0
    gradcam("explain", "lambda.keras", "cat.png", "--target", 1, "--unsafe", "--out", "looks")
    np.testing.assert_array_equal(maps_of("looks"), explain(network, ["cat.png"], targets=[1]).maps)


@pytest.mark.usefixtures("client", "process")
def test_layers_of_your_own_come_from_a_module_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verb says that --import is missing; with it the model is loaded, in other processes too."""
    Path("own_layers.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable()\nclass Twice(keras.layers.Layer):\n"
        "    def call(self, inputs):\n        return 2 * inputs\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path.cwd())])
    inputs = keras.Input((16, 16, 3))
    x = importlib.import_module("own_layers").Twice()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    network.save("own-1.keras")
    network.save("own-2.keras")
    monkeypatch.delitem(sys.modules, "own_layers")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "Custom>Twice")
    Path("probes").mkdir()
    Path("cat.png").rename("probes/cat.png")
    sweep = ("checkpoints", "own-*.keras", "--probes", "probes", "--journal", "post")
    said = "It needs 'Twice', which Keras does not know: pass --import MODULE."
    assert fails("layers", "own-1.keras") == f"Error: 'own-1.keras' could not be loaded: {said}"
    assert fails("explain", "own-1.keras", "cup.png") == f"Error: 'own-1.keras' could not be loaded: {said}"
    assert said in fails(*sweep)
    assert "'no_such' could not be imported (ModuleNotFoundError" in refuses(
        "layers", "own-1.keras", "--import", "no_such"
    )
    own = ("--import", "own_layers")
    assert gradcam("layers", "own-1.keras", *own).exit_code == 0
    assert gradcam("explain", "own-1.keras", "cup.png", *own).exit_code == 0
    # In a process of its own: it hands over what is registered with Keras, here also layers of other test files.
    finished = process(*sweep, *own, "--jobs", 2)
    assert (finished.returncode, finished.stdout.splitlines()[-1]) == (0, "2 checkpoints explained.")


def test_a_model_of_any_size_asks_for_one() -> None:
    """Exit 2 naming --image-size, which decides what the model sees."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)), name="open")
    network.save("open.keras")
    Path("probes").mkdir()
    Image.open("cat.png").save("probes/cat.png")
    asks = "Error: Model 'open' takes pictures of any size; say which with --image-size HEIGHT WIDTH."
    assert refuses("explain", "open.keras", "cat.png") == asks
    assert refuses("layers", "open.keras") == asks
    assert refuses("checkpoints", "open.keras", "--probes", "probes") == asks
    size = ("--image-size", 12, 20)
    gradcam("explain", "open.keras", "cat.png", "--target", 1, *size, "--out", "looks")
    probes = ProbeSet.from_files(["cat.png"], image_size=(12, 20), targets=[1])
    np.testing.assert_array_equal(maps_of("looks"), explain(network, probes).maps)
    assert gradcam("layers", "open.keras", *size).exit_code == 0


def test_a_size_that_the_model_does_not_take_is_refused(model: Path) -> None:
    """Every verb says what the model takes, before anything is read; its own size may be named."""
    Path("probes").mkdir()
    Image.open("cat.png").save("probes/cat.png")
    says = "Error: Model 'small' takes (16, 16, 3): leave --image-size away."
    for verb, *rest in (("layers", model), ("explain", model, "cat.png"), ("checkpoints", model, "--probes", "probes")):
        assert refuses(verb, *rest, "--image-size", 20, 16) == says
    assert gradcam("layers", model, "--image-size", 16, 16).exit_code == 0


# ---- Models of other kinds: what is listed, and what is said instead ----


@keras.saving.register_keras_serializable("test_cli")
class _OfTwo(keras.Model):
    """A subclassed model whose `call` takes two arrays."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.encoder = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()])

    def call(self, image: Any, meta: Any) -> Any:
        return self.encoder(image) + meta


def _pooled(inputs: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs))


def _two_heads(x: Any) -> list[Any]:
    return [keras.layers.Dense(4, activation="softmax", name="kind")(x), keras.layers.Dense(1, name="age")(x)]


def saved(kind: str) -> str:
    """A file with a model of a kind that has no class as a target, or is no model of one picture."""
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    open_image, meta = keras.Input((None, None, 3), name="image"), keras.Input((2,), name="meta")
    signal = [layers.Conv1D(6, 5, name="conv"), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    made: dict[str, Any] = {
        "segmentation": lambda: keras.Model(
            image, layers.Conv2D(2, 1, activation="softmax")(layers.Conv2D(6, 3, activation="relu", name="conv")(image))
        ),
        "outputs": lambda: keras.Model(image, _two_heads(_pooled(image)), name="network"),
        "detector": lambda: keras.Model(
            image,
            {
                "boxes": layers.Reshape((-1, 4))(layers.Conv2D(4, 1)(layers.Conv2D(6, 3, name="conv")(image))),
                "found": layers.Reshape((-1, 1))(layers.Conv2D(1, 1, activation="sigmoid")(image)),
            },
        ),
        "two inputs": lambda: keras.Model(
            [image, meta], layers.Dense(2)(layers.Concatenate()([_pooled(image), meta])), name="network"
        ),
        "two inputs of any size": lambda: keras.Model(
            {"image": open_image, "meta": meta},
            layers.Dense(2)(layers.Concatenate()([_pooled(open_image), meta])),
            name="network",
        ),
        "a dict of one": lambda: keras.Model({"image": image}, layers.Dense(2)(_pooled(image))),
        "signal": lambda: keras.Sequential([keras.Input((64, 2)), *signal], name="network"),
        "signal of any length": lambda: keras.Sequential([keras.Input((None, 2)), *signal], name="network"),
        "volume": lambda: keras.Sequential(
            [keras.Input((8, 16, 16, 1)), layers.Conv3D(6, 3, name="conv"), layers.GlobalAveragePooling3D()],
            name="network",
        ),
        "text": lambda: keras.Sequential(
            [keras.Input((20,), dtype="int32"), layers.Embedding(50, 8), *signal], name="network"
        ),
        "four channels": lambda: keras.Model(
            four := keras.Input((16, 16, 4)), layers.Dense(2)(_pooled(four)), name="network"
        ),
        "argmax": lambda: keras.Model(
            image, keras.ops.argmax(layers.Dense(2)(_pooled(image)), axis=-1), name="network"
        ),
    }
    made[kind]().save("network.keras")
    return "network.keras"


@pytest.mark.parametrize(
    "kind",
    [
        "segmentation",
        "outputs",
        "detector",
        "two inputs",
        "a dict of one",
        "signal",
        "volume",
        "four channels",
    ],
)
def test_any_model_is_listed(kind: str) -> None:
    """A list needs no target, and no picture of one kind: the convolution is there, and one layer is picked."""
    result = gradcam("layers", saved(kind), "--json")
    assert result.exit_code == 0, result.output
    entries = strict_json(result.stdout)
    assert "conv" in [entry["path"] for entry in entries]
    assert sum(entry["picked"] for entry in entries) >= 1


def test_a_list_of_two_inputs_takes_the_size_of_the_open_one() -> None:
    """--image-size is that of the picture; the numbers beside it keep their shape."""
    result = gradcam("layers", saved("two inputs of any size"), "--image-size", 20, 12, "--json")
    assert strict_json(result.stdout) == [
        {"path": "conv", "type": "Conv2D", "shape": [None, 18, 10, 6], "picked": True}
    ]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("two inputs", "Model 'network' takes 2 inputs; the command explains models of one picture: use explain() with "
         "a dict of arrays, by their names: 'image', 'meta'."),
        ("two inputs of any size", "Model 'network' takes 2 inputs; the command explains models of one picture: use "
         "explain() with a dict of arrays, by their names: 'image', 'meta'."),
        ("signal", "Model 'network' takes arrays (64, 2); the command explains models of one picture (height, width, "
         "channels): use explain() with an array."),
        ("signal of any length", "Model 'network' takes arrays (None, 2); the command explains models of one picture "
         "(height, width, channels): use explain() with an array."),
        ("volume", "Model 'network' takes arrays (8, 16, 16, 1); the command explains models of one picture (height, "
         "width, channels): use explain() with an array."),
        ("text", "Model 'network' takes arrays (20,); the command explains models of one picture (height, width, "
         "channels)."),
        ("four channels", "Model 'network' takes pictures of 4 channels, and files are read with 1 or 3: name a "
         "function that makes the others with --preprocess module:function, or use explain() with an array."),
    ],
)  # fmt: skip
def test_what_the_command_cannot_feed_is_said_with_what_to_do_instead(kind: str, says: str) -> None:
    """One true sentence, the same of both verbs that explain, with and without a size."""
    file = saved(kind)
    Path("probes").mkdir()
    Image.open("cat.png").save("probes/cat.png")
    assert fails("explain", file, "cat.png") == f"Error: {says}"
    assert fails("explain", file, "cat.png", "--image-size", 16, 16) == f"Error: {says}"
    assert fails("checkpoints", file, "--probes", "probes") == f"Error: {says}"


def test_channels_that_are_missing_are_made_by_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the message says: a function adds the fourth channel, and the picture is explained."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    Path("fourth.py").write_text(
        "import numpy as np\n\n\ndef add(images):\n    return np.concatenate([images, images[..., :1]], axis=-1)\n"
    )
    result = gradcam("explain", saved("four channels"), "cat.png", "--preprocess", "fourth:add", "--target", 1)
    sys.modules.pop("fourth", None)
    assert result.exit_code == 0, result.output
    assert "Explained: layer conv, method gradcam." in result.stdout


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("signal of any length", "Model 'network' takes arrays (None, 2), whose size is open; the command can make up "
         "pictures only: use Explainer(model).layers() with arrays of yours."),
        ("text", "Model 'network' takes arrays (20,). What is explained are the places of a picture (height, width, "
         "channels), a signal (length, channels) or a volume (depth, height, width, channels)."),
        ("argmax", "The output of model 'network' is int32, which has no gradient. Explain the model before its last "
         "operation, such as an argmax."),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_says_why(kind: str, says: str) -> None:
    """In one sentence, with what to do where there is something."""
    assert fails("layers", saved(kind)) == f"Error: {says}"


def test_a_model_that_is_called_with_two_arrays_is_not_asked_for_a_size() -> None:
    """It does not say what it takes; how many it takes, its `call` says."""
    network = _OfTwo(name="network")
    network(np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 4), np.float32))
    network.save("network.keras")
    with pytest.warns(UserWarning, match="had a build config"):
        line = fails("explain", "network.keras", "cat.png", "--image-size", 16, 16)
    assert line.endswith("takes 2 inputs; the command explains models of one picture: use explain() with a dict of "
                         "arrays, by their names: 'image', 'meta'.")  # fmt: skip
    with pytest.warns(UserWarning, match="had a build config"):
        line = fails("layers", "network.keras")
    assert line.endswith("takes 'image' and 'meta'; the command can make up pictures only: use "
                         "Explainer(model).layers() with arrays of yours.")  # fmt: skip


def test_targets_that_are_no_classes_lead_to_python() -> None:
    """The command takes classes only, so a segmentation and a detector are referred to explain(); heads are offered."""
    function = "Pass a function of the outputs that gives (N,) scores to explain() as the target."
    line = fails("explain", saved("segmentation"), "cat.png")
    assert "has shape (None, 14, 14, 2), not a classifier's (batch, classes)" in line
    assert line.endswith(function)
    line = fails("explain", saved("detector"), "cat.png")
    assert line.startswith("Error: None of the 2 outputs of model")
    assert line.endswith(function)
    line = fails("explain", saved("outputs"), "cat.png")
    assert line == "Error: Model 'network' has 2 outputs. Choose one with --output: 'kind', 'age'."
    assert gradcam("explain", "network.keras", "cat.png", "--output", "kind").exit_code == 0


def test_the_grid_of_tokens_is_an_option(client: MlflowClient) -> None:
    """--grid is `grid=` of Python, bit for bit, on all three verbs; a message asks for it by its name."""
    inputs = keras.Input((16, 64, 3))
    tokens = keras.layers.Reshape((64, 8))(keras.layers.Flatten()(keras.layers.Conv2D(8, 4, 4, name="patch")(inputs)))
    tokens = keras.layers.Dense(8, activation="relu", name="mixed")(tokens)
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling1D()(tokens)), name="vit")
    network.save("vit-1.keras")
    Path("probes").mkdir()
    Image.open("cat.png").save("probes/cat.png")
    asked = ("--layer", "mixed", "--target", "predicted", "--grid", 4, 16)
    expected = explain(network, ["cat.png"], layer="mixed", grid=(4, 16)).maps
    assert expected.shape == (1, 1, 4, 16)
    assert expected.max() > 0
    result = gradcam("explain", "vit-1.keras", "cat.png", *asked, "--out", "looks")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(maps_of("looks"), expected)
    result = gradcam("checkpoints", "vit-1.keras", "--probes", "probes", *asked, "--journal", "post")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(Journal("post").read(0).maps, expected)
    listed = strict_json(gradcam("layers", "vit-1.keras", "--grid", 4, 16, "--json").stdout)
    assert "mixed" in [entry["path"] for entry in listed]
    assert "0 is not in the range" in refuses("layers", "vit-1.keras", "--grid", 0, 16)


def test_a_message_about_the_grid_names_the_option() -> None:
    """Where the number of tokens does not say what grid they are, --grid does."""
    inputs = keras.Input((12, 20, 3))
    flat = keras.layers.Flatten()(keras.layers.Conv2D(8, 4, 4, name="patch")(inputs))
    tokens = keras.layers.Reshape((15, 8))(keras.layers.Dense(120)(flat))
    tokens = keras.layers.Dense(8, name="mixed")(tokens)
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(tokens))).save("vit.keras")
    line = fails("explain", "vit.keras", "cat.png", "--layer", "mixed")
    assert "--grid" in line
    assert "grid=" not in line
    assert gradcam("explain", "vit.keras", "cat.png", "--layer", "mixed", "--grid", 3, 5).exit_code == 0


def test_json_is_json_and_nothing_else(model: Path) -> None:
    """What the tables say, as numbers, with the files; NaN is null."""
    call = ("cat.png", "cup.png", "--target", 2, "--out", "looks", "--top", 3, "--json")
    told = strict_json(gradcam("explain", model, *call).stdout)
    expected = explain(keras.saving.load_model(model), ["cat.png", "cup.png"], targets=[2])
    assert (told["layer"], told["method"]) == ("conv", "gradcam")
    assert [entry["image"] for entry in told["images"]] == ["cat.png", "cup.png"]
    for n, entry in enumerate(told["images"]):
        assert entry["predictions"] == [
            {"class": index, "name": name, "probability": probability}
            for index, name, probability in expected.predictions(3)[n]
        ]
        assert entry["targets"] == [{"target": "class_2", "score": float(expected.scores[n, 0]), "health": "ok"}]
    assert sorted(Path(file) for file in told["files"]) == sorted(Path("looks").iterdir())
    network = keras.saving.load_model(model)
    network.get_layer("head").bias.assign(np.full(4, np.nan))
    network.save("diverged.keras")
    (entry,) = strict_json(gradcam("explain", "diverged.keras", "cat.png", "--json").stdout)["images"]
    assert {prediction["probability"] for prediction in entry["predictions"]} == {None}
    assert [(target["score"], target["health"]) for target in entry["targets"]] == [(None, "non-finite")]


def test_scores_are_not_called_probabilities() -> None:
    """A model without a softmax: the column is named score and holds no per cents, nor does JSON."""
    network = small_model(activation=None)
    network.get_layer("head").kernel.assign(0.001 * network.get_layer("head").kernel)  # scores between 0 and 1 too
    network.save("logits.keras")
    result = gradcam("explain", "logits.keras", "cat.png")
    (best,) = explain(network, ["cat.png"]).predictions(4)
    assert rows(result.stdout) == [[str(index), name, f"{score:.3g}"] for index, name, score in best]
    assert re.search(r"class +┃ name +┃ +score", result.stdout)
    (entry,) = strict_json(gradcam("explain", "logits.keras", "cat.png", "--json").stdout)["images"]
    assert entry["predictions"][0] == {"class": best[0][0], "name": best[0][1], "score": best[0][2]}


def test_a_model_without_classes_is_explained_without_a_table() -> None:
    """A map of numbers has no classes to print; the files are there."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
    keras.Model(inputs, keras.layers.Dense(1, name="age")(keras.layers.GlobalAveragePooling2D()(x))).save("age.keras")
    result = gradcam("explain", "age.keras", "cat.png", "--target", 0, "--out", "looks")
    assert result.exit_code == 0
    expected = explain(keras.saving.load_model("age.keras"), ["cat.png"], targets=[0])
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)


def test_layer_method_and_output_are_handed_on(model: Path) -> None:
    """What an Explainer is told in Python; a wrong one is a sentence with the options of the command."""
    call = ("explain", model, "cat.png", "--target", 1, "--out", "looks", "--overwrite")
    assert gradcam(*call, "--method", "hirescam", "--layer", "conv").exit_code == 0
    expected = explain(keras.saving.load_model(model), ["cat.png"], targets=[1], method="hirescam")
    np.testing.assert_array_equal(maps_of("looks"), expected.maps)
    assert fails(*call, "--method", "cam").startswith("Error: No method 'cam'. The methods: ")
    assert fails(*call, "--layer", "cnov").startswith("Error: No layer 'cnov'")
    line = fails(*call, "--output", "tail")
    assert line == "Error: No output 'tail': model 'small' has a single output. Leave --output away."


@pytest.mark.usefixtures("long")
def test_gradients_are_drawn_and_said(model: Path) -> None:
    """One figure a map, a sentence for each, and with JSON that sentence alone; a folder is needed for them."""
    result = gradcam("explain", model, "cat.png", "--target", 1, "--target", 2, "--gradients", "--out", "looks")
    assert result.exit_code == 0, result.output
    figures = sorted(file.name for file in Path("looks").glob("*.gradients.png"))
    assert figures == ["cat.class_1.gradients.png", "cat.class_2.gradients.png"]
    for figure in figures:
        assert str(Path("looks", figure)) in result.stdout
        with Image.open(Path("looks", figure)) as drawn:
            assert drawn.width > 1000
    assert re.search(r"^cat, class_1: The gradients are well: ", result.stdout, re.MULTILINE)
    asked = ("explain", model, "cat.png", "--target", 1, "--gradients", "--json")
    (entry,) = strict_json(gradcam(*asked, "--out", "again").stdout)["images"][0]["targets"]
    assert entry["gradients"].startswith("The gradients are well: ")
    assert "say where with --out" in refuses(*asked)
    assert "takes no gradients" in fails(*asked, "--out", "third", "--method", "scorecam")
    assert "choose another folder or pass --overwrite" in fails(*asked, "--out", "again")


def test_smooth_is_the_mean_of_noisy_copies(model: Path) -> None:
    """The maps are those of `explain` with that argument."""
    assert gradcam("explain", model, "cat.png", "--target", 1, "--smooth", 2, "--out", "looks").exit_code == 0
    network = keras.models.load_model(model)
    probes = ProbeSet.from_files(["cat.png"], image_size=(16, 16), targets=[1])
    np.testing.assert_allclose(maps_of("looks"), explain(network, probes, smooth=2).maps, atol=1e-5)


def test_what_a_person_typed_is_never_rewritten(model: Path, client: MlflowClient) -> None:
    """Names of files and addresses stay as they are, also where they look like arguments of Python."""
    Path("layer=conv.png").write_text("Dear picture")
    assert fails("explain", model, "layer=conv.png") == "Error: 'layer=conv.png' is not a picture that Pillow can read."
    Path("model=None.keras").write_text("Dear model")
    line = fails("layers", "model=None.keras")
    assert line == "Error: 'model=None.keras' is damaged or truncated, or it is no model that Keras saved."
    line = fails("report", "runs:/1", "--tracking-uri", "http://127.0.0.1:1/run_id=1/layer=conv")
    assert "http://127.0.0.1:1/run_id=1/layer=conv/" in line
    Path("probes").mkdir()
    Path("cat.png").rename("probes/cat.png")
    small_model().save("step_from=at.keras")
    small_model().save("at=3.keras")
    call = ("checkpoints", "model=None.keras", "step_from=at.keras", "at=3.keras", "--probes", "probes")
    result = gradcam(*call, "--step-from", r"^at=(\d)")
    assert "1 checkpoint explained." in result.stdout.splitlines()
    said = r"Its path does not say which step it is: --step-from '^at=(\d)' finds no group in it."
    assert dict(rows(result.stderr)) == {"model=None.keras": said, "step_from=at.keras": said}


def test_a_journal_whose_run_is_not_in_mlflow_is_not_sent_anywhere() -> None:
    """The record of another store is sent where the user says, and not to a folder that looks like an address."""
    new_journal("kept")
    result = gradcam("upload", "kept")
    assert result.exit_code == 2
    assert "The run of 'kept' is not in MLflow." in result.stderr


def test_a_remedy_that_the_command_cannot_take_is_left_out() -> None:
    """`gradcam report` has no option for another journal."""
    Path("broken/steps").mkdir(parents=True)
    Path("broken/manifest.json").write_text("{")
    line = fails("report", "broken")
    assert line.startswith("Error: The manifest.json of journal 'broken' is damaged: ")
    assert "--journal" not in line
    assert "journal_dir" not in line


# ---- gradcam report ----


def new_journal(folder: str, *, digest: str = "a" * 64, names: Sequence[str] = ("cat", "cup"), **more: Any) -> Journal:
    """Three steps of two probes and one target."""
    manifest = a_manifest(names, ["tabby"], probes=digest, class_names=NAMES, **more)
    journal = Journal.create(folder, manifest=manifest, pictures=np.stack([photograph(16, 16, n) for n in range(2)]))
    for step in range(3):
        maps = np.random.default_rng(step).random((2, 1, 4, 4), np.float32)
        classes = np.array([1, 2], np.int32)
        arrays = {"maps": maps, "scores": maps.max(axis=(2, 3)), "predicted": classes, "explained": classes[:, None]}
        journal.append(step, arrays | {"health": np.full((2, 1), "ok")}, {"loss": 1 / (step + 1)})
    return journal


def test_a_report_is_written_of_one_journal_and_of_two() -> None:
    """The page is that of `report.build`, named like the run or the folder; its address is printed."""
    one, two = new_journal("one", run_name="calm_hawk"), new_journal("two")
    result = gradcam("report", "one", "--out", "pages/page.html")
    page = Path("pages/page.html").absolute()
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{page.as_uri()}\n", "")
    assert page.read_text(encoding="utf-8") == report.build([one], names=["calm_hawk"])
    assert gradcam("report", "one", "two").exit_code == 0
    assert Path("report.html").read_text(encoding="utf-8") == report.build([one, two], names=["calm_hawk", "two"])


def test_what_a_report_says_is_printed_as_json() -> None:
    """Of each run the verdict, its summary, events and findings; the page is written where --out asks for it."""
    one, two = make_journal(Path("one"), run_name="calm_hawk"), make_journal(Path("two"))
    one.leave_test(4, a_test("confirmed", elsewhere=(0, 3)))
    result = gradcam("report", "one", "two", "--json")
    assert result.exit_code == 0
    first, second = json.loads(result.stdout)
    assert (first["name"], first["verdict"], second["name"], second["verdict"]) == (
        *("calm_hawk", "shortcut"),
        *("two", "unsettled"),
    )
    assert first["summary"].startswith("Confirmed by the test: without an area outside the marked regions")
    assert second["summary"].startswith("Attention had not settled by epoch 4")
    (event,) = [event for event in first["events"] if event["kind"] == "shortcut"]
    (finding,) = first["findings"]
    assert event["text"] == finding["text"]
    assert (finding["step"], finding["class"], finding["outcome"]) == (4, "tabby", "confirmed")
    assert (finding["covered"], finding["elsewhere"], finding["decisive"]) == ([1, 1], [0, 3], ["cat"])
    assert second["findings"] == []
    assert not Path("report.html").exists()
    result = gradcam("report", "one", "--json", "--out", "page.html")
    assert json.loads(result.stdout) == [first]
    assert Path("page.html").read_text(encoding="utf-8") == report.build([one], names=["calm_hawk"])
    assert two.tests() == {}
    assert "is no journal" in refuses("report", "nowhere", "--json")


def test_numbers_and_a_picture_are_written_where_asked() -> None:
    """Of one run or of two, as CSV and as PNG; the page is written where --out asks for it, too."""
    new_journal("one", run_name="calm_hawk")
    new_journal("two")
    result = gradcam("report", "one", "two", "--csv", "out/numbers.csv", "--png", "out/maps.png")
    assert result.exit_code == 0
    files = [Path("out/numbers.csv").absolute(), Path("out/maps.png").absolute()]
    assert result.stdout.split() == [file.as_uri() for file in files]
    with files[0].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["calm_hawk"] * 6 + ["two"] * 6
    assert (rows[3]["epoch"], rows[3]["probe"], rows[3]["target"]) == ("1", "cup", "tabby")
    with Image.open(files[1]) as picture:
        assert picture.format == "PNG"
        height = picture.height
    assert not Path("report.html").exists()
    assert gradcam("report", "one", "--png", "one.png", "--out", "page.html").exit_code == 0
    assert Path("page.html").is_file()
    with Image.open("one.png") as picture:
        assert picture.height < height
    new_journal("other", digest="b" * 64, names=["dog", "bus"])
    assert gradcam("report", "one", "other", "--csv", "both.csv").exit_code == 0
    assert "different probes" in fails("report", "one", "other", "--png", "both.png")
    assert "is no journal" in refuses("report", "nowhere", "--csv", "numbers.csv")
    assert not Path("numbers.csv").exists()


def test_the_beginning_of_an_id_names_a_run(client: MlflowClient) -> None:
    """Where only one begins so. Of 17 runs two begin with the same character."""
    experiment = client.create_experiment("of runs that begin alike")
    runs = [client.create_run(experiment).info.run_id for _ in range(17)]
    journal = new_journal("one", run_id=runs[0])
    assert Uploader(journal, find_run(runs[0], mlflow.get_tracking_uri())).send()
    result = gradcam("report", f"runs:/{runs[0][:20]}", "--json")
    assert result.exit_code == 0, result.stderr
    told = gradcam("report", "one", "--json")
    assert json.loads(result.stdout)[0]["summary"] == json.loads(told.stdout)[0]["summary"]
    firsts = [run[0] for run in runs]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    assert f"The ids of several runs begin with {twice}. Name more" in fails("report", f"runs:/{twice}")
    assert "not found" in fails("report", f"runs:/{runs[0][:20]}fffff")


def test_reading_a_run_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, where MLflow would make a store, the line says that there is none; none is there after."""
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        for command in ("report", "check"):
            line = fails(command, "runs:/0123abcd")
            assert line.startswith(f"Error: There is no database '{tmp_path / 'mlflow.db'}'")
            assert "Set MLFLOW_TRACKING_URI" in line
    finally:
        mlflow.set_tracking_uri(before)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_gate_for_pipelines() -> None:
    """0 where all holds, 1 with a line each that fails, 2 where it was typed wrong."""
    make_journal(Path("run"), steps=(0, 1)).leave_test(1, a_test("confirmed"))
    make_journal(Path("calm"), steps=(0,))
    result = gradcam("check", "calm")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "All that was asked holds.\n", "")
    result = gradcam("check", "run", "--min-focus", "0.5", "--against", "calm")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Error"] * 3
    assert "The verdict is shortcut, and fails on suspect: Confirmed by the test" in lines[0]
    assert "The verdict is shortcut, and that of 'calm' is ok" in lines[1]
    assert "Focus is not known at epoch 1, and must be 50 % at least." in lines[2]
    assert gradcam("check", "run", "--fail-on", "never").exit_code == 0
    assert "'nowhere' is no journal" in refuses("check", "nowhere")
    assert "Invalid value for --against: 'nowhere' is no journal" in refuses("check", "run", "--against", "nowhere")
    assert "--min-focus" in refuses("check", "run", "--min-focus", "2")
    assert "--fail-on" in refuses("check", "run", "--fail-on", "ok")
    make_journal(Path("other"), names=("a",), pictures=np.zeros((1, 48, 64, 3), np.uint8))
    assert "have no picture in common, so that nothing can be compared. Pass another --against." in fails(
        "check", "run", "--against", "other"
    )


def test_what_cannot_be_reported_is_one_line() -> None:
    """Other probes, a journal without steps and one whose manifest is damaged exit with 1; no journal with 2."""
    new_journal("one")
    new_journal("other", digest="b" * 64, names=("cat", "mug"))
    line = fails("report", "one", "other", "--out", "page.html")
    assert line == (
        "Error: 'one' and 'other' have different probes: only 'one' has the probes 'cup'; only 'other' has the probes "
        "'mug'."
    )
    for step in new_journal("empty").steps():
        Journal("empty").path(step).unlink()
    assert "has no step that can be read: nothing to report." in fails("report", "empty", "--out", "page.html")
    new_journal("batches", unit="batch")
    assert "they cannot be aligned" in fails("report", "one", "batches", "--out", "page.html")
    new_journal("damaged")
    Path("damaged/manifest.json").write_text("{")
    assert "damaged" in fails("report", "damaged", "--out", "page.html")
    assert not Path("page.html").exists()
    for name in ("nowhere", "names.txt"):
        line = refuses("report", name)
        assert f"'{name}' is no journal: it holds no manifest.json. A run is written runs:/ID." in line


def test_a_report_of_a_run_on_the_server(client: MlflowClient) -> None:
    """runs:/ID is the page of what the callback logged; a run without maps, and none, are one line."""
    network = small_model()
    network.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    probes = ProbeSet(pictures(2), targets=["predicted"])
    with mlflow.start_run(run_name="bold_owl") as run:
        callback = GradCAMCallback(probes, journal_dir="journal")
        network.fit(pictures(8), np.arange(8) % 4, epochs=2, callbacks=[callback], verbose=0)
    with mlflow.start_run() as bare:
        pass
    call = ("report", f"runs:/{run.info.run_id}", "--out", "page.html", "--tracking-uri", client.tracking_uri)
    result = gradcam(*call)
    assert (result.exit_code, result.stderr) == (0, "")
    page = Path("page.html").read_text(encoding="utf-8")
    link = find_run(run.info.run_id, client.tracking_uri).link()
    assert link is not None
    assert page == report.build([Journal("journal")], names=["bold_owl"], links=[link])
    assert run.info.run_id in fails("report", "runs:/" + run.info.run_id[::-1]).replace(run.info.run_id[::-1], "") or (
        "not found" in fails("report", "runs:/" + "0" * 32)
    )
    assert bare.info.run_id in fails("report", f"runs:/{bare.info.run_id}")


# ---- gradcam checkpoints ----


@pytest.fixture
def three(client: MlflowClient) -> list[keras.Model]:
    """Three models in ckpt/, their weights in weights/, and two probes in probes/."""
    models = []
    for folder in ("ckpt", "weights", "probes"):
        Path(folder).mkdir()
    for number in range(1, 4):
        keras.utils.set_random_seed(number)
        models.append(small_model())
        models[-1].save(f"ckpt/m-{number}.keras")
        models[-1].save_weights(f"weights/m-{number}.weights.h5")
    for name in ("cat.png", "cup.png"):
        Image.open(name).save(f"probes/{name}")
    return models


def assert_recorded(models: list[keras.Model], *targets: object, journal: str = "post", **settings: Any) -> None:
    """The journal holds each model's maps bit for bit."""
    recorded = Journal(journal)
    probes = ProbeSet.from_directory("probes", image_size=(16, 16), targets=targets, **settings)
    assert recorded.steps() == list(range(len(models)))
    for step, network in enumerate(models):
        np.testing.assert_array_equal(recorded.read(step).arrays["maps"], Explainer(network)(probes).maps)


def test_a_folder_of_checkpoints_is_explained_once(three: list[keras.Model]) -> None:
    """It says how many, the second time that they were there, and then what is new; a gap is said."""
    call = ("checkpoints", "ckpt", "--probes", "probes", "--target", 2, "--target", "predicted", "--journal", "post")
    result = gradcam(*call)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "3 checkpoints explained.")
    assert_recorded(three, 2, "predicted")
    again = gradcam(*call)
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "0 checkpoints explained, 3 were there already.")
    three[0].save("ckpt/m-6.keras")
    later = gradcam(*call)
    assert later.stdout.splitlines()[-2:] == [
        "1 checkpoint explained, 3 were there already.",
        "No checkpoint for steps 3, 4.",
    ]


def test_a_damaged_checkpoint_is_listed_and_the_others_are_recorded(three: list[keras.Model]) -> None:
    """Exit 1, a table on stderr with its name and the reason; --json has it too, alone on stdout."""
    whole = Path("ckpt/m-3.keras").read_bytes()
    Path("ckpt/m-[a]4.keras").write_bytes(whole[: len(whole) // 2])
    call = ("checkpoints", "ckpt", "--probes", "probes", "--target", 2)
    result = gradcam(*call, "--journal", "post")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "3 checkpoints explained."
    assert "Traceback" not in result.stderr
    ((path, why),) = rows(result.stderr)
    assert path == "ckpt/m-[a]4.keras"
    assert why.startswith("It is damaged or truncated")
    assert_recorded(three, 2)
    told = gradcam(*call, "--journal", "json", "--json")
    assert told.exit_code == 1
    sweep = strict_json(told.stdout)
    assert (sweep["recorded"], sweep["skipped"], sweep["gaps"]) == ([0, 1, 2], [], [])
    assert sweep["problems"] == {path: why}
    assert sweep["run_id"] == Journal("json").manifest.run_id


def test_pictures_beside_a_folder_of_masks_are_the_probes(three: list[keras.Model]) -> None:
    """Only where no picture lies in --probes itself, its sub-folders are classes."""
    Path("probes/masks").mkdir()
    for file in list(Path("probes").glob("*.*")):
        Image.fromarray(np.full((16, 16), 255, np.uint8)).save(Path("probes/masks", f"{file.stem}.png"))
    call = ("checkpoints", "ckpt/m-*.keras", "--probes", "probes", "--regions", "probes/masks", "--journal", "post")
    assert gradcam(*call, "--target", 2).exit_code == 0
    names = list(Journal("post").manifest.names)
    assert names == [file.stem for file in sorted(Path("probes").glob("*.*"))]
    assert Journal("post").read(0).arrays["focus"].min() > 0.99


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scheduler", "tcp://127.0.0.1:1"), "say which with --backend dask or --backend ray"),
        (("--run", "abc", "--experiment", "new"), "pass one of them"),
        (("--jobs", "0"), "--jobs is a number of processes"),
    ],
)
def test_options_that_contradict_are_refused(three: list[keras.Model], options: tuple[str, ...], said: str) -> None:
    """Before anything is loaded."""
    assert said in refuses("checkpoints", "ckpt/m-*.keras", "--probes", "probes", *options)


def test_label_is_the_sub_folder(three: list[keras.Model]) -> None:
    """Each probe is asked for its folder's class, numbered in alphabetic order or as in --classes."""
    call = ("checkpoints", "ckpt/m-*.keras", "--probes", "probes", "--target", "label")
    assert "'label' is the sub-folder of a picture, and --probes has none" in refuses(*call)
    for file in Path("probes").iterdir():
        file.unlink()
    for name in NAMES:
        Path("probes", name).mkdir()
        Image.open("cup.png" if name == "cup" else "cat.png").save(Path("probes", name, "picture.png"))
    assert gradcam(*call, "--target", "cup", "--journal", "post").exit_code == 0
    assert_recorded(three, "label", "cup", labels="folder")
    named = gradcam(*call, "--classes", "names.txt", "--journal", "named")
    assert named.exit_code == 0
    labels = {name: index for index, name in enumerate(NAMES)}
    explained = Journal("named").read(0).arrays["explained"][:, 0].tolist()
    assert explained == [labels[name] for name in sorted(labels)]
    assert_recorded(three, "label", journal="named", labels="folder", class_names=NAMES)


def test_folders_that_are_not_the_classes_are_no_labels(three: list[keras.Model]) -> None:
    """They are named, the predicted class is explained, and masks are found by folder; labels and names are refused."""
    for name in ("cup", "tabby"):
        for parent in ("probes", "masks"):
            Path(parent, name).mkdir(parents=True)
        Path("probes", f"{name}.png").unlink(missing_ok=True)
        Image.open("cup.png" if name == "cup" else "cat.png").save(Path("probes", name, "one.png"))
    Path("probes/cat.png").unlink()
    half = np.zeros((16, 16), np.uint8)
    half[:8] = 255
    Image.fromarray(half).save("masks/tabby/one.png")
    call = ("checkpoints", "ckpt/m-*.keras", "--probes", "probes", "--journal", "post")
    result = gradcam(*call, "--regions", "masks")
    assert result.exit_code == 0
    assert "The 2 sub-folders of 'probes' (cup, tabby) are not used as labels: model 'small' has 4" in result.stderr
    assert "pass --classes FILE with the names of all classes" in result.stderr
    manifest = Journal("post").manifest
    assert (manifest.names, manifest.labels) == (("cup/one", "tabby/one"), None)
    np.testing.assert_array_equal(np.isnan(Journal("post").read(0).arrays["focus"])[:, 0], [True, False])
    assert "those in --probes are not the classes of the model" in gradcam(*call, "--target", "label").stderr
    assert "the classes have no names here" in gradcam(*call, "--target", "cup").stderr


def test_weights_are_loaded_into_the_model_that_is_named(three: list[keras.Model], model: Path) -> None:
    """--model FILE takes weights alone; without it the line says so."""
    call = ("checkpoints", "weights", "--probes", "probes", "--target", 2, "--journal", "post")
    line = fails(*call)
    assert "they hold weights alone" in line
    assert "--model" in line
    result = gradcam(*call, "--model", model)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "3 checkpoints explained.")
    assert_recorded(three, 2)


@at_night
@pytest.mark.usefixtures("cluster")
def test_a_cluster_is_started_on_this_machine(three: list[keras.Model]) -> None:
    """`--backend dask` alone is enough, and the maps are the same."""
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    call = ("checkpoints", "ckpt", "--probes", "probes", "--target", 2, "--journal", "post", "--backend", "dask")
    finished = process(*call)
    assert (finished.returncode, finished.stdout.splitlines()[-1]) == (0, "3 checkpoints explained."), finished.stderr
    assert_recorded(three, 2)


def test_the_table_names_the_options_of_the_command(three: list[keras.Model]) -> None:
    """What to do about a file is said in the words of the command line, not of Python."""
    keras.saving.load_model("ckpt/m-1.keras").save("ckpt/best.keras")
    call = ("checkpoints", "ckpt", "weights/m-1.weights.h5", "--probes", "probes", "--target", 2)
    result = gradcam(*call, "--image-size", 16, 16)
    why = dict(rows(result.stderr))
    assert why["ckpt/best.keras"] == "No number in its name says which step it is. Use --step-from, or give it alone."
    assert "--step-from" in why["weights/m-1.weights.h5"] or "--model" in why["weights/m-1.weights.h5"]


def test_a_sweep_of_grey_models_reads_grey_pictures(client: MlflowClient) -> None:
    """Also where the size is named."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    network.save("m-1.keras")
    Path("probes").mkdir()
    Image.open("cat.png").save("probes/cat.png")
    call = ("checkpoints", "m-1.keras", "--probes", "probes", "--target", 2, "--image-size", 16, 16)
    result = gradcam(*call, "--journal", "post")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "1 checkpoint explained.")
    assert_recorded([network], 2, color_mode="grayscale")


# ---- The command itself ----


def test_help_loads_nothing_heavy() -> None:
    """`gradcam --help` and a verb's help load neither TensorFlow nor Keras nor MLflow, in a fresh process."""
    code = """
import json, sys
from gradcam_callbacks.cli import main
main(["--help"], prog_name="gradcam", standalone_mode=False)
main(["explain", "--help"], prog_name="gradcam", standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.startswith("Usage: gradcam [OPTIONS] COMMAND [ARGS]...")
    loaded = {name.partition(".")[0] for name in json.loads(finished.stdout.splitlines()[-1])}
    assert not loaded & {"tensorflow", "keras", "mlflow", "matplotlib", "rich"}


@pytest.mark.usefixtures("process")
def test_a_fresh_process_says_one_line() -> None:
    """What TensorFlow's libraries write about GPUs while they load is not on stderr."""
    Path("letter.keras").write_text("Dear model")
    finished = process("explain", "letter.keras", "cat.png")
    said = "Error: 'letter.keras' is damaged or truncated, or it is no model that Keras saved.\n"
    assert (finished.returncode, finished.stdout, finished.stderr) == (1, "", said)


@pytest.mark.parametrize("verb", ["explain", "checkpoints"])
def test_the_help_lists_all_methods(verb: str) -> None:
    """Those of METHODS, in its order, the default first."""
    (option,) = [parameter for parameter in main.commands[verb].params if parameter.name == "method"]
    assert isinstance(option, click.Option)
    assert option.help is not None
    assert [option.default, *option.help.removeprefix("Or ").removesuffix(".").split(", ")] == list(METHODS)


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_verb_shows_examples_that_fit(verb: str) -> None:
    """Each help has examples, with options that exist, in lines of at most 120 columns on any screen."""
    result = gradcam(verb, "--help", COLUMNS="400")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    start = lines.index("  Examples:") + 1
    examples = [line.strip() for line in lines[start : lines.index("", start)]]
    assert examples
    options = {name for parameter in main.commands[verb].params for name in parameter.opts}
    for example in examples:
        assert example.startswith(f"gradcam {verb}")
        assert set(re.findall(r" (--[a-z-]+)", example)) <= options
    undescribed = [
        parameter.name
        for parameter in main.commands[verb].params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert undescribed == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain",),
        ("explain", "missing.keras", "cat.png"),
        ("explain", "names.txt"),
        ("explain", "names.txt", "cat.png", "--top", "0"),
        ("explain", "names.txt", "cat.png", "--colour"),
        ("report",),
        ("checkpoints", "ckpt"),
        ("checkpoints", "--probes", "."),
        ("checkpoints", "ckpt", "--probes", ".", "--backend", "slurm"),
        ("layers",),
        ("upload",),
        ("check",),
        ("check", ".", "--fail-on", "ok"),
        ("evaluate", "names.txt"),
        ("evaluate", "missing.keras", "."),
        ("evaluate", "names.txt", "missing"),
        ("evaluate", "names.txt", "names.txt"),
        ("evaluate", "names.txt", ".", "--steps", "0"),
        ("evaluate", "names.txt", ".", "--plot", "curves.txt"),
        ("evaluate", "names.txt", ".", "--plot", "missing/curves.png"),
        ("dance",),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    """With the usage and what is wrong."""
    assert refuses(*arguments).startswith("Error: ")


def test_the_shell_completes() -> None:
    """Bash gets a script; with it verbs, options and choices are completed."""
    script = gradcam(_GRADCAM_COMPLETE="bash_source").stdout
    assert "complete -o nosort -F _gradcam_completion gradcam" in script

    def completed(words: str) -> list[str]:
        place = str(len(words.split(" ")) - 1)
        result = gradcam(_GRADCAM_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
        return [line.partition(",")[2] for line in result.stdout.splitlines()]

    assert completed("gradcam ex") == ["explain"]
    assert completed("gradcam checkpoints --backend d") == ["dask"]
    assert completed("gradcam explain --pre") == ["--preprocess"]


@pytest.mark.usefixtures("long")
def test_reliance_tests_a_saved_model(tmp_path: Path) -> None:
    """Whoever has a model and pictures is told on which area the answers rest, without a training or a server."""
    inputs = keras.Input((48, 48, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    colours = keras.layers.Conv2D(3, 1, activation="relu", name="colours")
    means = keras.layers.GlobalAveragePooling2D()(colours(scaled))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="class")(means))
    # How much a pixel is pure red, pure green, and neither: the answers are which of these there is.
    colours.set_weights([np.array([[[[1, -1, 0], [-1, 1, 0], [-1, -1, 0]]]], np.float32), np.array([0, 0, 0.01])])
    model.get_layer("class").set_weights(
        [np.array([[900, -900, -900], [-900, 900, 0], [0, 0, 0]], np.float32), np.array([0, 0, 2])]
    )
    model.save(tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    for number in range(12):
        name = ("boat", "plain", "house")[number % 3]
        picture = np.repeat(rng.integers(60, 200, (48, 48, 1)), 3, axis=2).astype(np.uint8)
        if name == "boat":
            picture[36:46, 36:46] = np.where(np.indices((10, 10)).sum(axis=0)[..., None] % 4 < 2, [255, 0, 0], 255)
        if name == "plain":
            y, x = rng.integers(0, 30, 2)
            picture[y : y + 12, x : x + 12] = (0, rng.integers(160, 255), 0)
        (tmp_path / "probes" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "probes" / name / f"{number}.png")
    (tmp_path / "classes.txt").write_text("boat\nplain\nhouse\n")
    asked = [tmp_path / "model.keras", "--probes", tmp_path / "probes", "--classes", tmp_path / "classes.txt"]

    told = gradcam("reliance", *asked)
    assert told.exit_code == 0
    assert told.stdout.startswith("Confirmed by the test: without ")
    assert "“boat”" in told.stdout.splitlines()[0]
    assert "changed pictures went through the model." in told.stdout

    held = json.loads(gradcam("reliance", *asked, "--json").stdout)
    (boat,) = [finding for finding in held["findings"] if finding["class"] == "boat"]
    assert (boat["outcome"], boat["kind"], len(boat["decisive"])) == ("confirmed", "common", 4)


# ---- gradcam evaluate ----


@pytest.fixture
def folder() -> Path:
    """Six photographs in a folder, and a mask of one."""
    for place in ("probes", "masks"):
        Path(place).mkdir()
    for number in range(6):
        Image.fromarray(photograph(20, 20, number)).save(f"probes/{number}.png")
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    Image.fromarray(mask).save("masks/0.png")
    return Path("probes")


@pytest.mark.usefixtures("long")
def test_evaluate_prints_what_python_measures(model: Path, folder: Path) -> None:
    """The tables have the means of `evaluate`, of each method that was named, beside the controls; and no bar."""
    result = gradcam("evaluate", model, folder, "--method", "gradcam", "--method", "layercam", "--steps", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    network = keras.saving.load_model(model, compile=False)
    probes = ProbeSet.from_directory(folder, image_size=(16, 16))
    explainers = [Explainer(network, method=method) for method in ("gradcam", "layercam")]
    found = measure_faithfulness(explainers, probes, steps=3, randomise="whole")
    assert result.stdout.splitlines()[0] == "Faithfulness of 2 methods at 'conv', 6 pictures x 1 target"
    printed = [line.split() for line in result.stdout.splitlines()]
    for _, expected in found.tables():
        for row in expected:
            assert [*row[0].split(), *row[1:]] in printed
    for note in found.notes():
        assert note in result.stdout


def test_evaluate_says_json(model: Path, folder: Path) -> None:
    """JSON and nothing else, with the measures that need regions; a method that is named twice is measured once."""
    typed = ("--method", "layercam", "--method", "layercam", "--regions", "masks", "--steps", "2", "--json")
    told = strict_json(gradcam("evaluate", model, folder, *typed).stdout)
    assert list(told["methods"]) == ["layercam"]
    assert told["methods"]["layercam"]["focus"]["maps"] == 1
    assert 0 <= told["methods"]["layercam"]["rank_accuracy"]["mean"] <= 1
    assert told["pictures"] == 6
    assert told["plot"] is None


@pytest.mark.usefixtures("long")
def test_evaluate_draws_its_curves(model: Path, folder: Path) -> None:
    """A PNG where it was asked for, which is named last."""
    result = gradcam("evaluate", model, folder, "--steps", "2", "--plot", "curves.png")
    assert result.stdout.splitlines()[-1] == "curves.png"
    with Image.open("curves.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_what_cannot_be_evaluated_is_one_line(model: Path, folder: Path) -> None:
    """A method that does not exist, a folder without pictures, a model that is none."""
    assert "No method 'gradcan'" in fails("evaluate", model, folder, "--method", "gradcan")
    Path("empty").mkdir()
    assert "empty" in fails("evaluate", model, "empty")
    assert "names.txt" in fails("evaluate", "names.txt", folder)
    assert refuses("evaluate", model, folder, "--plot", "c.gif").startswith("Error: Invalid value for --plot: 'c.gif'")

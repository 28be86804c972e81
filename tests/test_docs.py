"""What README and site say is so: Python is run, commands are parsed, links are followed, the notebook is repeated."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import keras
import mlflow
import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image
from support.engines import needs_tensorflow

import gradcam_callbacks
from gradcam_callbacks.cli import main
from gradcam_callbacks.explaining.evaluating.measures import QUALITIES
from gradcam_callbacks.record.measures import MEASURES

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # SQLAlchemy 2.1 of MLflow 3.17
]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "tutorials" / "what-made-you-think.ipynb"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# A fence at the beginning of a line, and what a comment before it says of why it is not run.
FENCE = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMES = ["dog", "espresso", "tabby"]


def blocks(page: Path, language: str) -> Iterator[tuple[int, str, str]]:
    """Of each block of a page its first line, its text, and why it is not run, or ""."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found[2] == language and "--8<--" not in found[3]:  # a file that is tested where it lies
            yield text.count("\n", 0, found.start(3)), found[3], found[1] or ""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def those_with(language: str) -> list[Path]:
    return [page for page in PAGES if any(blocks(page, language))]


def pictures(count: int, size: int = 224) -> np.ndarray:
    """(count, size, size, 3) uint8: a square on noise, red, green or blue by the class, which takes turns."""
    made = np.random.default_rng(5).integers(0, 90, (count, size, size, 3), np.uint8)
    for n, picture in enumerate(made):
        picture[size // 4 + n : size * 5 // 8 + n, size * 3 // 8 : size * 3 // 4, n % 3] = 250
    return made


def a_model(size: int = 224) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(6, 8, strides=8, activation="relu", name="conv_1"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_2"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ],
        name="yours",
    )


@pytest.fixture(scope="module")
def yours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a page expects: pictures, masks, a saved model and checkpoints; and an empty store of MLflow."""
    folder = tmp_path_factory.mktemp("yours")
    for n, picture in enumerate(pictures(9)):
        for kind, content in (("probes", picture), ("masks", (picture.max(axis=-1) > 200).astype(np.uint8) * 255)):
            place = folder / kind / NAMES[n % 3]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(place / f"picture_{n}.{'jpg' if kind == 'probes' else 'png'}")
    shutil.copy(folder / "probes" / "tabby" / "picture_2.jpg", folder / "cat.jpg")
    shutil.copy(folder / "probes" / "dog" / "picture_0.jpg", folder / "dog.jpg")
    (folder / "ckpt").mkdir()
    model = a_model()
    for name in ("model.keras", "ckpt/model-01.keras", "ckpt/model-02.keras"):
        model.save(folder / name)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.search_experiments()  # makes the tables, once for all pages
    mlflow.set_tracking_uri(before)
    return folder


@pytest.fixture
def namespace(page: Path, yours: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a page takes for granted; see the end of docs/index.md. The working folder is a copy of `yours`.

    Where the page neither says how large the pictures are nor reads a model, they are smaller, to save time.
    """
    code = "".join(source for _, source, _ in blocks(page, "python"))
    size = 224 if re.search(r"224|56|ckpt|\.keras", code) else 96
    shutil.copytree(yours, tmp_path, dirs_exist_ok=True)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_experiment("docs")
    model = a_model(size)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    backbone = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            keras.layers.Conv2D(8, 16, strides=16, activation="relu"),
            keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="top"),
        ],
        name="backbone",
    )
    x, y = pictures(21, size), np.arange(21) % 3
    yield {
        "model": model,
        "build_model": partial(a_model, size),
        "backbone": backbone,
        "names": NAMES,
        "x_train": x[:12],
        "y_train": y[:12],
        "x_val": x[12:],
        "y_val": y[12:],
    }
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("process")  # it needs none, but the pages train 20 times: too long for the fast lane
@pytest.mark.parametrize("page", those_with("python"), ids=name_of)
def test_the_python_of_a_page_runs(
    page: Path, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From the top to the bottom, in one namespace and without a warning of ours; what is marked is compiled alone."""
    namespace["__name__"] = "page"
    monkeypatch.setitem(sys.modules, "page", SimpleNamespace(**namespace))  # type: ignore[arg-type]
    for line, source, not_run in blocks(page, "python"):
        code = compile("\n" * line + source, str(page), "exec")
        if not not_run:
            exec(code, namespace)
    problems = [
        record for record in caplog.records if record.name.startswith("gradcam") and "could not" in record.getMessage()
    ]
    assert not problems


@pytest.mark.parametrize("page", [*those_with("sh"), *those_with("yaml")], ids=name_of)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    """Each `gradcam …` has a command, options and as many arguments as it takes."""
    for language in ("sh", "yaml"):
        for _, source, _ in blocks(page, language):
            for words in gradcam_calls(source):
                options = main.make_parser(click.Context(main, info_name="gradcam"))
                _, rest, _ = options.parse_args(words)
                if not rest:
                    continue
                command = main.commands[rest[0]]
                command.make_parser(click.Context(command, info_name=rest[0])).parse_args(rest[1:])


def gradcam_calls(source: str) -> Iterator[list[str]]:
    """The words after each `gradcam` that begins a command."""
    for line in source.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;", line.removeprefix("- run: ")):
            words = shlex.split(part, comments=True)
            if words[:1] == ["gradcam"]:
                yield words[1:]


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    """It has 150 lines at most; what it links to in the repository is there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_the_site_has_a_description_of_each_public_name() -> None:
    """What `gradcam_callbacks.__all__` lists stands on the page of Python."""
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    named = {found.rpartition(".")[2] for found in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
    assert set(gradcam_callbacks.__all__) <= named | {"METHODS"}


@pytest.fixture(scope="module")
def made_by_code() -> ModuleType:
    found = importlib.util.spec_from_file_location("made_by_code", DOCS / "made_by_code.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_site_shows_each_measure(made_by_code: ModuleType) -> None:
    """A table has title, words, range, direction and metrics of each measure, in their order."""
    rows = made_by_code.measures().splitlines()[2:]
    for row, measure in zip(rows, MEASURES.values(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:2] == [measure.title, measure.says]
        assert cells[2] == ("" if measure.low is None else f"{measure.low} to {measure.high}")
        assert cells[3] == {True: "lower", False: "higher", None: ""}[measure.lower_is_better]
        assert (measure.mean or "") in cells[4]


def test_the_site_shows_each_measure_of_faithfulness(made_by_code: ModuleType) -> None:
    """A table has title, name, words, range, direction and paper of each, in their order."""
    rows = made_by_code.on_page_markdown("<!-- made by code: qualities -->").splitlines()[2:]
    for row, quality in zip(rows, QUALITIES.values(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells == [
            quality.title,
            f"`{quality.name}`",
            quality.says,
            quality.range,
            quality.better,
            quality.source,
        ]


def test_the_site_shows_each_command_and_the_words_of_errors(made_by_code: ModuleType) -> None:
    """Each command with all its options; a message whose parts change is found by the words that do not."""
    commands = made_by_code.on_page_markdown("<!-- made by code: commands -->")
    for name, command in main.commands.items():
        assert f"## gradcam {name}\n" in commands
        assert all(option in commands for parameter in command.params for option in parameter.opts if "-" in option)
    errors = made_by_code.errors()
    assert "The model has no spatial layer to explain" in errors
    assert "A ProbeSet brings its own targets" in errors


@pytest.mark.parametrize(
    ("html", "is_fetched"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link href="//fonts.example/css" rel="stylesheet">', True),
        ('<img alt="" src="https://example.org/a.png">', True),
        ('<style>@import url("https://example.org/a.css")</style>', True),
        ('<a href="https://example.org/">there</a> <img src="../demo.png">', False),
        ('<link rel="canonical" href="https://example.org/">', False),
    ],
)
def test_a_page_that_loads_from_the_network_is_told(
    html: str, is_fetched: bool, made_by_code: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning ends a strict build; links that a person follows are none."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    with caplog.at_level(logging.WARNING):
        made_by_code.on_post_page(html, page=page)
    assert bool(caplog.records) == is_fetched


@pytest.mark.usefixtures("large_network")
@needs_tensorflow  # it shows what people write by hand with `tf.GradientTape`
def test_the_notebook_says_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run again, each cell prints the same words and, within 2 %, the same numbers, and shows as many pictures."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    before = [said(cell) for cell in book.cells if cell.cell_type == "code"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=place).execute()
    after = [said(cell) for cell in book.cells if cell.cell_type == "code"]
    number = re.compile(r"-?\d+\.\d+")
    for was, now in zip(before, after, strict=True):
        assert number.sub("#", now[0]) == number.sub("#", was[0])
        values = [[float(value) for value in number.findall(text)] for text in (now[0], was[0])]
        assert values[0] == pytest.approx(values[1], rel=0.02, abs=0.02)
        assert now[1] == was[1]


def said(cell: Any) -> tuple[str, int]:
    """What a cell has printed, and how many pictures it has shown."""
    printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
    shown = [output.data for output in cell.outputs if output.output_type in ("display_data", "execute_result")]
    return printed, sum("image/png" in data or "data:image/png" in data.get("text/html", "") for data in shown)

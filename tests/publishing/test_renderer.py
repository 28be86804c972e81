"""Tiles are drawn in a process of their own, which is none of the user's, and no tile is lost with it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.journals import make_journal

from gradcam_callbacks import InMemoryStore
from gradcam_callbacks.publishing import renderer as renderers
from gradcam_callbacks.publishing.cards import Cards
from gradcam_callbacks.publishing.render_process import draw
from gradcam_callbacks.publishing.renderer import Renderer
from gradcam_callbacks.publishing.run_review import review
from gradcam_callbacks.publishing.store import EncodedTile
from gradcam_callbacks.publishing.tiles import Sheet
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal

SCRIPT = """
import os, sys, time
from pathlib import Path
from support.journals import make_journal
from gradcam_callbacks import InMemoryStore
from gradcam_callbacks.publishing.uploader import Uploader
print("the script runs", os.getpid(), flush=True)
store = InMemoryStore("run")
sending = Uploader(make_journal(Path("run"), steps=range(15)), store)
assert sending.send()
print(len(store.tiles), sending._renderer.process.pid, flush=True)
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is started for the first tile."""
    monkeypatch.setattr(renderers, "DRAWN_HERE", 0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Of two probes and three epochs."""
    return make_journal(tmp_path / "run", steps=range(3))


def ended(pid: int) -> bool:
    """Whether a process has ended, within some seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def script(tmp_path: Path, more: str = "") -> subprocess.Popen[str]:
    """A user's script, without a guard against being imported."""
    path = tmp_path / "train.py"
    path.write_text(SCRIPT + more)
    search = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": search},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_draws_what_would_be_drawn_here(journal: Journal) -> None:
    """Pixel for pixel, as an array and as files."""
    drawing = Renderer(journal)
    step = journal.read(1)
    shown = [0, 1, Sheet((0, 1))]
    here = draw(step, journal.manifest, journal.pictures(), shown, is_encoded=False)
    there = drawing.tiles(step, journal.content(1), shown, is_encoded=False)
    assert drawing.process is not None
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)
    files = drawing.tiles(step, journal.content(1), [1], is_encoded=True)[0]
    assert isinstance(files, EncodedTile)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(files.png))), here[1])
    width, height = Image.open(io.BytesIO(files.small)).size
    assert width == 256 or height == 200
    assert width <= 256
    assert height <= 200
    pid = drawing.process.pid
    drawing.close()
    assert ended(pid)


def test_the_process_makes_the_review_that_would_be_made_here(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """Byte for byte, and what is logged there is said here, once; a review that fails there has its error here."""
    cards = Cards("moved", 2)
    here = review([journal], journal, journal.pictures(), "night run", cards)
    drawing = Renderer(journal)
    drawing.tiles(journal.read(1), journal.content(1), [0], is_encoded=False)
    process = drawing.process
    assert process is not None
    (journal.directory / "steps" / "7.npz").write_bytes(b"torn")
    there = drawing.review([journal], "night run", cards)
    assert drawing.review([journal], "night run", cards).review == there.review
    assert "night run" in there.review.page
    assert there.review.page.replace('"1 step could not be read from the journal.",', "") == here.review.page
    assert (there.review.strip, there.review.verdict) == (here.review.strip, here.review.verdict)
    assert (there.chosen, there.cards.chosen) == (here.chosen, here.cards.chosen)
    assert sum("7.npz" in record.getMessage() for record in caplog.records) == 1
    for path in (journal.directory / "steps").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no step that can be read"):
        drawing.review([journal], "night run", cards)
    assert drawing.process is process
    drawing.close()


def test_what_cannot_be_drawn_there_is_an_error_of_its_own(journal: Journal) -> None:
    """A probe that does not exist costs its own tile, and the process goes on."""
    drawing = Renderer(journal)
    step = journal.read(1)
    good, bad = drawing.tiles(step, journal.content(1), [0, 7], is_encoded=False)
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, Exception)
    (torn,) = drawing.tiles(step, b"torn", [0], is_encoded=False)
    assert isinstance(torn, Exception)
    assert drawing.process is not None
    drawing.close()


def test_a_process_that_dies_costs_no_tile(journal: Journal) -> None:
    """They are drawn here then."""
    store = InMemoryStore("run")
    sending = Uploader(journal, store)
    assert sending.send({0}, whole=False)
    process = sending._renderer.process
    assert process is not None
    process.kill()
    assert sending.send()
    assert sorted(store.tiles) == [(probe, step) for probe in ("all", "cat", "dog") for step in range(3)]
    assert sending._renderer.process is None
    assert sending.missing() == []


def test_where_no_process_can_be_started_tiles_are_drawn_here(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as in an application that has Python inside, which would be started a second time."""
    for executable in ("", "/usr/bin/application", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", executable)
        drawing = Renderer(journal)
        (tile,) = drawing.tiles(journal.read(1), journal.content(1), [0], is_encoded=False)
        assert isinstance(tile, np.ndarray)
        assert drawing.process is None


def test_few_tiles_need_no_process(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of few probes and steps starts none."""
    monkeypatch.setattr(renderers, "DRAWN_HERE", 16)
    sending = Uploader(journal, InMemoryStore("run"))
    assert sending.send()
    assert sending._renderer.process is None


@pytest.mark.usefixtures("long")
def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """The process that draws never imports it; and it ends with the script."""
    process = script(tmp_path)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    first, second = said.splitlines()
    assert first == f"the script runs {process.pid}"
    count, pid = second.split()
    assert count == "45"
    assert ended(int(pid))


@pytest.mark.usefixtures("long")
def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Its input is closed then, whatever killed the parent."""
    process = script(tmp_path, "time.sleep(600)\n")
    assert process.stdout is not None
    process.stdout.readline()
    pid = int(process.stdout.readline().split()[1])
    assert Path(f"/proc/{pid}").exists()
    process.kill()
    process.communicate()
    assert ended(pid)


@pytest.mark.usefixtures("long")
def test_a_child_of_the_training_does_not_keep_it_alive(tmp_path: Path) -> None:
    """A process that was forked, as data loaders do, has closed the pipes of its parent."""
    process = script(tmp_path, "print(os.fork() or '', flush=True); time.sleep(600)\n")
    assert process.stdout is not None
    process.stdout.readline()
    pid = int(process.stdout.readline().split()[1])
    children = [int(word) for word in (process.stdout.readline() + process.stdout.readline()).split()]
    process.kill()
    try:
        assert ended(pid)
    finally:
        os.kill(children[0], 9)
        process.communicate()


def test_the_process_loads_few_modules() -> None:
    """Neither TensorFlow nor MLflow."""
    code = "import sys, gradcam_callbacks.publishing.render_process; print(*sys.modules)"
    search = os.pathsep.join(filter(None, sys.path))
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"tensorflow", "keras", "mlflow", "pandas"} & set(loaded)

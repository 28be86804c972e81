"""The review page in a real headless Firefox: what `firefox.js` does there, and what was there then."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.journals import HOSTILE, JAPANESE, make_journal

from gradcam_callbacks.reviewing import report

WALK = Path(__file__).with_name("firefox.js")
ROOT = Path(__file__).parents[2]
NAMES = ("cat", JAPANESE, HOSTILE)
# How colourful a pixel of the heat is, which lies on white pictures, and of a difference, on grey ones.
HEAT = 60


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> dict[str, Any]:
    """What Firefox showed."""
    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    node = shutil.which("node")
    if firefox is None:
        pytest.skip("needs Firefox: apt-get install firefox-esr")
    if node is None or not (ROOT / "node_modules" / "puppeteer-core").is_dir():
        pytest.skip("needs Node and puppeteer-core: npm install")
    folder = tmp_path_factory.mktemp("page")
    journal = make_journal(folder / "run", names=NAMES, targets=("predicted", "tabby"), steps=range(2, 9))
    page = report.write([journal], folder / "report.html", names=["first run"])
    # A home of its own: Firefox keeps there what it knows of its user.
    walk = subprocess.run(
        [node, str(WALK), firefox, str(page), str(downloads)],
        cwd=ROOT,
        env={"HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert walk.returncode == 0, walk.stderr[-3000:]
    told: dict[str, Any] = json.loads(walk.stdout.splitlines()[-1])
    return told


def test_it_opens_without_a_word_and_without_a_request(walked: dict[str, Any]) -> None:
    """At the newest epoch, with no message on the console; nothing is asked for but the file, and what lies in it."""
    assert walked["opened"] == "epoch 8"
    assert walked["address"] == "#step=8&follow=1"
    assert walked["console"] == []
    assert [url for url in walked["requests"] if not url.startswith(("data:", "blob:", walked["file"]))] == []


def test_pictures_pin_and_difference_are_drawn(walked: dict[str, Any]) -> None:
    """There is heat on every picture, also on those that are pinned, and colour in every difference."""
    for where in ("grid", "pinned", "difference"):
        assert len(walked[where]) == 2 * len(NAMES)
        assert min(walked[where]) > HEAT, where
    assert walked["moved"].endswith(" % moved")


def test_groups_have_their_means(walked: dict[str, Any]) -> None:
    """Grouped by label, each of three classes has the mean of its maps; stacked, nothing else is left."""
    assert walked["group"] == "label"
    assert len(walked["means"]) == 3 * 2
    assert min(walked["means"]) > HEAT
    assert walked["cards"] == 0


def test_the_large_view_is_drawn_enlarged_and_kept(walked: dict[str, Any]) -> None:
    """Its picture, the pinned one and the difference are drawn; the zoom is there again after a reload."""
    assert walked["large"] == "cat"
    assert len(walked["figures"]) == 3
    assert min(walked["figures"]) > HEAT
    assert walked["zoom"] == "150 %"
    assert walked["reloaded"] == ["cat", "150 %"]


def test_all_is_saved(walked: dict[str, Any], downloads: Path) -> None:
    """Pictures and filmstrip with heat, an animation with a frame an epoch, curves, and the numbers of each map."""
    assert walked["files"] == [".csv", ".gif", ".png", ".png", ".svg"]
    for file in downloads.glob("*.png"):
        assert np.ptp(np.asarray(Image.open(file).convert("RGB")).astype(int), axis=2).max() > HEAT
    with Image.open(next(downloads.glob("*.gif"))) as animation:
        assert animation.n_frames == 7
    assert "<path" in next(downloads.glob("*.svg")).read_text(encoding="utf-8")
    with next(downloads.glob("*.csv")).open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 7 * len(NAMES) * 2

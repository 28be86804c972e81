"""The review page in a real headless Chromium: what a person in front of it sees and does."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest
from colorspacious import cspace_convert
from PIL import Image
from support.journals import HOSTILE, JAPANESE, jumping, make_journal, place_of
from support.lanes import at_night
from support.pages import PIXELS
from support.reliance import a_finding, a_test, box

from gradcam_callbacks import write_report
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.measures import MEASURES, Measure
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.reviewing import drift, report
from gradcam_callbacks.reviewing.verdict import VERDICTS

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

ARABIC = "قطة صغيرة"
NAMES = ("cat", JAPANESE, HOSTILE, ARABIC, "empty dog", "cup")
CLASSES = (HOSTILE, JAPANESE, "cup")
Opener = Callable[..., "Page"]

# Where a canvas is darkest, in shares of its sides: on a white picture, with the colours from white to black, that is
# where the heat is highest.
DARKEST = """canvas => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let best = 1e9, sum = [0, 0, 0];
  for (let at = 0; at < width * height; at++) best = Math.min(best, data[4 * at]);
  for (let at = 0; at < width * height; at++) {
    if (data[4 * at] > best + 1) continue;
    sum = [sum[0] + (at % width) + 0.5, sum[1] + Math.floor(at / width) + 0.5, sum[2] + 1];
  }
  return [sum[0] / sum[2] / width, sum[1] / sum[2] / height, best];
}"""


# How light a canvas is at a place, in shares of its sides: 255 is white.
LIGHT = """(canvas, [x, y]) => {
  const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  return canvas.getContext("2d").getImageData(...place, 1, 1).data[0];
}"""


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Opens files; at the end, no page has had an error, broken its policy, or asked for anything but its file."""
    contexts, complaints = [], []

    def open_file(file: Path, *, width: int = 1280, height: int = 900, fragment: str = "", **settings: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: heard(message.type, message.text, complaints))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", lambda request: allowed(request.url, file, complaints))
        page.goto(file.as_uri() + fragment)
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert complaints == []


def heard(kind: str, text: str, complaints: list[str]) -> None:
    """All but the advice on how tests should read a canvas."""
    if "willReadFrequently" not in text:
        complaints.append(f"{kind}: {text}")


def allowed(url: str, file: Path, complaints: list[str]) -> None:
    """Data in the page, and files in the folder that the test has opened."""
    if not url.startswith(("data:", file.parent.as_uri(), "about:")):
        complaints.append(f"request: {url[:200]}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """The page of a run with names of all kinds, an empty map and a region."""
    mask = np.zeros((48, 64), bool)
    mask[12:36, 16:48] = True
    journal = make_journal(
        folder / "one",
        names=NAMES,
        targets=("predicted", HOSTILE, "cup"),
        class_names=CLASSES,
        steps=range(-1, 12),
        empty=(4, 1),
        regions=[mask, None, None, None, None, None],
    )
    return report.write([journal], folder / "one.html", names=["first run"])


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """The page of one white probe without a region, whose peak moves by a cell a step."""
    journal = make_journal(folder / "plain", names=["white"], targets=["predicted"], steps=range(7))
    return report.write([journal], folder / "plain.html")


@pytest.fixture(scope="module")
def flagged(folder: Path) -> Path:
    """The page of a run whose attention jumps at epoch 5 on the second of two probes."""
    steps = range(8)
    maps = jumping(steps, 5, count=2)
    for step in steps:
        maps[step][0] = maps[0][0]
    journal = steady(make_journal(folder / "flagged", targets=["tabby"], steps=steps, maps=maps))
    return report.write([journal], folder / "flagged.html")


@pytest.fixture(scope="module")
def proven(folder: Path) -> Path:
    """The page of a run whose answer "tabby" rests on a corner of three of its ten white probes, from epoch 3 on.

    An earlier test could not tell; what it found on the answer "beagle" was cleared, and so was a frame.
    """
    steps, corner = range(6), box(0, 48, 12, 64)
    maps = {step: np.zeros((10, 1, 12, 16), np.float32) for step in steps}
    for step, of_step in maps.items():
        of_step[:, :, slice(0, 3) if step >= 3 else slice(6, 9), 12:16] = 1
    names = [f"probe {n}" for n in range(10)]
    journal = make_journal(folder / "proven", names=names, targets=["tabby"], steps=steps, maps=maps)
    journal = steady(journal)
    about = {"kind": "common", "probes": (2, 5, 9), "areas": (corner,) * 3, "in_place": True}
    journal.leave_test(3, a_test("untold", **about))
    frame = ~box(6, 8, 42, 56)
    confirmed = a_finding(**about, elsewhere=(0, 9), pasted=(3, 4), pasted_elsewhere=(0, 12))
    cleared = a_finding("cleared", answer=1, kind="common", probes=(1, 4), areas=(frame, corner))
    journal.leave_test(5, Reliance(findings=(confirmed, cleared)))
    return report.write([journal], folder / "proven.html")


def steady(journal: Journal) -> Journal:
    """The same journal, with answers that never change."""
    for step in journal.steps():
        recorded = journal.read(step)
        count, kinds = recorded.arrays["scores"].shape
        calm = {
            "predicted": np.zeros(count, np.int32),
            "explained": np.zeros((count, kinds), np.int32),
            "scores": np.full((count, kinds), 2.0),
        }
        journal.append(step, dict(recorded.arrays) | calm, {"accuracy": 0.9})
    return journal


def epoch(page: Page | Frame) -> str:
    return page.locator("#now").inner_text()


def wait_for(page: Page | Frame, step: str) -> None:
    page.wait_for_function("step => document.getElementById('now').textContent === step", arg=step)
    settled(page)


def settled(page: Page | Frame) -> None:
    """Two frames later, what was to be drawn is drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def ready(page: Page | Frame) -> None:
    """Once every picture has its first drawing."""
    page.locator(".cell canvas").first.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.cell canvas').width > 1")
    settled(page)


def shown_names(page: Page) -> list[str]:
    return page.locator(".probe h3").all_inner_texts()


# ---- Time ----


@pytest.mark.parametrize("framed", ["file", "frame", "srcdoc"])
def test_the_slider_moves_the_heat(opened: Opener, plain: Path, folder: Path, framed: str) -> None:
    """At each epoch the hottest pixel is where that epoch's map has its peak, also in MLflow's sandboxed frame."""
    if framed == "file":
        page: Any = opened(plain)
    else:
        html = plain.read_text(encoding="utf-8")
        quoted = html.replace("&", "&amp;").replace('"', "&quot;")
        source = f'srcdoc="{quoted}"' if framed == "srcdoc" else f'src="{plain.as_uri()}"'
        host = folder / f"{framed}.html"
        host.write_text(f'<iframe sandbox="allow-scripts" width="1200" height="900" {source}></iframe>')
        page = opened(host).frames[1]
    ready(page)
    page.locator("#colormap").select_option("Greys")
    canvas = page.locator(".cell canvas")
    pictures = set()
    for step in (6, 0, 3):
        page.locator("#epoch").fill(str(step))
        wait_for(page, f"epoch {step}")
        x, y, _ = canvas.evaluate(DARKEST)
        wanted_x, wanted_y = place_of(step)
        assert abs(x - wanted_x) < 0.04
        assert abs(y - wanted_y) < 0.04
        pictures.add(canvas.evaluate(PIXELS))
    assert len(pictures) == 3


def test_keys_go_through_time(opened: Opener, one: Path) -> None:
    """It opens at the last epoch; arrows step, Home and End go to the ends, and the slider says where it is."""
    page = opened(one)
    ready(page)
    assert epoch(page) == "epoch 11"
    for key, step in (
        ("ArrowLeft", "epoch 10"),
        ("Home", "before training"),
        ("ArrowLeft", "before training"),
        ("ArrowRight", "epoch 0"),
        ("End", "epoch 11"),
    ):
        page.keyboard.press(key)
        wait_for(page, step)
        assert page.locator("#epoch").get_attribute("aria-valuetext") == step
    page.locator("#epoch").focus()
    page.keyboard.press("ArrowLeft")
    wait_for(page, "epoch 10")
    assert page.locator("#metrics").inner_text().split() == ["accuracy", "0.600", "loss", "1.90"]
    page.wait_for_function("() => document.getElementById('live').textContent.startsWith('epoch 10, accuracy 0.600')")


def test_play_runs_to_the_end_and_pauses(opened: Opener, one: Path) -> None:
    """Play starts over at the end, Space pauses and goes on, and it stops at the last epoch."""
    page = opened(one)
    ready(page)
    page.locator("#speed").select_option("2")
    play = page.get_by_role("button", name="Play", exact=True)
    play.click()
    page.wait_for_function("() => /^epoch [0-5]$/.test(document.getElementById('now').textContent)")
    page.locator("h1").click()
    page.keyboard.press(" ")
    paused = epoch(page)
    page.wait_for_timeout(700)
    assert epoch(page) == paused != "epoch 11"
    page.locator("#speed").select_option("30")
    page.locator("h1").click()
    page.keyboard.press(" ")
    wait_for(page, "epoch 11")
    play.wait_for()


def test_space_opens_a_bundle_of_events_and_plays_nothing(opened: Opener, one: Path) -> None:
    """On the headline of events of one kind, Space does what it does on every headline that opens."""
    page = opened(one)
    ready(page)
    bundle = page.locator("details").first
    bundle.locator("summary").focus()
    page.keyboard.press(" ")
    assert bundle.get_attribute("open") is not None
    page.wait_for_timeout(700)
    assert epoch(page) == "epoch 11"


def test_curves_go_where_they_are_clicked(opened: Opener, one: Path) -> None:
    """A click on a small curve, and a drag on the large one, set the epoch for all."""
    page = opened(one)
    ready(page)
    spark = page.locator(".spark").first
    spark.scroll_into_view_if_needed()
    box = spark.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 1, box["y"] + 10)
    wait_for(page, "before training")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    wait_for(page, "epoch 5")
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#charts .plot").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    assert page.locator("#tip").inner_text().startswith("epoch 5: ")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 30, steps=4)
    page.mouse.up()
    wait_for(page, "epoch 11")


def test_an_address_leads_to_an_epoch_and_a_probe(opened: Opener, one: Path) -> None:
    """A link can point at an epoch and open a probe large; the address follows."""
    page = opened(one, fragment="#step=3&probe=5&target=2")
    assert page.locator("#large-title").inner_text() == "cup"
    assert page.locator("#large-now").inner_text() == "epoch 3"
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => location.hash === '#step=4&probe=5&target=2'")


# ---- Heat ----


def test_h_hides_the_heat_while_it_is_held(opened: Opener, plain: Path) -> None:
    """While h is held the picture is bare; then the same heat is back. The button hides it for good."""
    page = opened(plain)
    ready(page)
    canvas = page.locator(".cell canvas")
    with_heat = canvas.evaluate(PIXELS)
    page.keyboard.down("h")
    settled(page)
    assert canvas.evaluate(DARKEST)[2] >= 250  # white
    page.keyboard.up("h")
    settled(page)
    assert canvas.evaluate(PIXELS) == with_heat
    page.get_by_role("button", name="Hide the heat").click()
    settled(page)
    assert canvas.evaluate(DARKEST)[2] >= 250


def test_scale_opacity_and_colours_change_the_heat(opened: Opener, plain: Path) -> None:
    """A weak epoch is pale on the shared scale; opacity and colours change pixels and bar."""
    page = opened(plain)
    ready(page)
    page.locator("#colormap").select_option("Greys")
    page.keyboard.press("Home")
    wait_for(page, "epoch 0")
    canvas = page.locator(".cell canvas")
    own = canvas.evaluate(DARKEST)[2]
    bar = page.locator("#bar").evaluate(PIXELS)
    page.keyboard.press("s")
    settled(page)
    assert page.get_by_role("radio", name="Shared").is_checked()
    assert canvas.evaluate(DARKEST)[2] > own + 50
    assert "the highest of all" in page.locator("#bar-high").inner_text()
    page.get_by_role("radio", name="Each map").check()
    page.keyboard.press("-")
    settled(page)
    assert canvas.evaluate(DARKEST)[2] > own + 10
    assert page.locator("#bar").evaluate(PIXELS) != bar
    page.keyboard.press("+")
    settled(page)
    assert canvas.evaluate(DARKEST)[2] == own


def test_an_empty_map_says_so(opened: Opener, one: Path) -> None:
    """A map without evidence is the plain picture with the word, for the eye and for a screen reader."""
    page = opened(one)
    ready(page)
    group = page.locator(".probe").nth(4).locator(".target").nth(1)
    group.scroll_into_view_if_needed()
    settled(page)
    assert group.locator(".badge").inner_text() == "empty"
    assert group.locator("canvas").evaluate(DARKEST)[2] >= 250
    assert "map empty" in str(group.locator("canvas").get_attribute("aria-label"))


def test_a_misplaced_map_says_so_and_has_no_colours(opened: Opener, folder: Path) -> None:
    """In the grid, in the dialog and in its film the picture is bare; the map beside it is drawn."""
    journal = make_journal(folder / "misplaced", names=["white"], steps=range(3), states={(0, 0): "misplaced"})
    page = opened(report.write([journal], folder / "misplaced.html"))
    ready(page)
    wrong, right = (page.locator(".probe .target").nth(k) for k in (0, 1))
    settled(page)
    assert wrong.locator(".badge").inner_text() == "misplaced"
    assert wrong.locator("canvas").evaluate(DARKEST)[2] >= 250
    assert right.locator(".badge").is_hidden()
    assert min(right.locator("canvas").evaluate(DARKEST)) < 200
    wrong.locator("button.cell").click()
    settled(page)
    assert page.locator("#large .badge").inner_text() == "misplaced"
    for canvas in page.locator("#large-pictures canvas, #large .film canvas").all():
        assert canvas.evaluate(DARKEST)[2] >= 250


# ---- Words ----


def test_names_are_text(opened: Opener, one: Path) -> None:
    """Markup in names is shown as it is, Japanese and Arabic as well; the title stays ours."""
    page = opened(one)
    ready(page)
    assert page.title() == "first run – Grad-CAM review"
    assert shown_names(page) == list(NAMES)
    assert page.locator("article script, article img").count() == 0
    assert page.locator(".says bdi").all_inner_texts()[:3] == [CLASSES[n % 3] for n in range(3)]
    label = str(page.locator(".cell canvas").nth(3).get_attribute("aria-label"))
    assert label.startswith(f"{JAPANESE}, target predicted, epoch 11, predicts {JAPANESE}, probability 0.25, drift ")
    assert label.endswith(" %, map ok")
    assert page.locator(".probe h3").nth(3).get_attribute("dir") == "auto"
    assert all(page.locator("canvas").evaluate_all("all => all.map(c => c.getAttribute('aria-label'))"))


def test_the_head_says_what_happened(opened: Opener, flagged: Path) -> None:
    """The summary warns, the flagged epoch is marked in the curves, and its event leads to epoch and probe."""
    page = opened(flagged)
    ready(page)
    warning = page.locator(".verdict.warned strong")
    assert warning.inner_text() == "It jumped on 1 of 2 probes at epoch 5 while the prediction stayed."
    assert page.locator("#charts circle.flag").count() == 1
    assert page.locator(".spark .flag").count() == 1
    assert page.locator(".probe .flagged").count() == 1
    page.locator(".event").first.click()
    wait_for(page, "epoch 5")
    focused = page.evaluate("document.activeElement.closest('.probe').querySelector('h3').textContent")
    assert focused == "dog"


def test_the_verdict_is_a_word_with_its_degree(opened: Opener, proven: Path, flagged: Path, plain: Path) -> None:
    """It stands first, for the eye and for a screen reader, and says how sure it is; it is there without tests, too."""
    page = opened(proven)
    head = page.locator(".verdict-head")
    assert head.inner_text().split("\n") == ["Verdict:", "shortcut", "confirmed by the test at epoch 5"]
    assert head.locator(".word.shortcut .sign.shortcut").count() == 1
    assert page.locator(".verdict.rest").inner_text().startswith("Attention")
    for file, word in ((flagged, "moved"), (plain, "unsettled")):
        page = opened(file)
        assert page.locator(".word").inner_text() == word
        assert page.locator(".degree").inner_text() == ""
        assert page.locator(".proof").count() == 0


def test_the_proof_shows_the_area(opened: Opener, proven: Path) -> None:
    """Of each decisive picture the area is bright, and around it is dimmed; beside the name is the whole picture."""
    page = opened(proven)
    ready(page)
    finding = page.locator(".finding.confirmed")
    text = finding.locator(".finding-text").inner_text()
    assert text.startswith("Confirmed by the test: ")
    assert str(finding.locator("b").first.get_attribute("title")).startswith("Covering the area changed the answers, ")
    assert text.endswith("Before that: the test could not tell at epoch 3.")
    tiles = finding.locator(".tile")
    assert tiles.all_inner_texts() == ["probe 2", "probe 5", "probe 9"]
    # The area is a quarter of each side, in the upper right corner: of a view of 1.7 quarters it is the right 10 of 17.
    for canvas, share in ((tiles.nth(1).locator("canvas").first, 10 / 17), (tiles.nth(1).locator(".thumb"), 0.25)):
        light = canvas.evaluate(LIGHT, [1 - share / 2, share / 2])
        assert light == 255
        assert 60 < canvas.evaluate(LIGHT, [1 - 1.2 * share, share / 2]) < 160
        assert 60 < canvas.evaluate(LIGHT, [1 - share / 2, 1.2 * share]) < 160
    assert tiles.nth(1).locator("canvas").first.get_attribute("aria-label") == "The area on probe 5"


def test_the_counts_of_a_finding_are_bars(opened: Opener, proven: Path) -> None:
    """Of what was covered and pasted each count is a row with a bar of its share; what was not tried has none."""
    page = opened(proven)
    rows = page.locator(".finding.confirmed .counts dl div")
    assert [row.split("\n") for row in rows.all_inner_texts()] == [
        ["area covered", "3 of 3"],
        ["as much elsewhere", "0 of 9"],
        ["area pasted on them", "3 of 4"],
        ["another area", "0 of 12"],
    ]
    shares = rows.locator(".bar").evaluate_all("all => all.map(bar => bar.style.getPropertyValue('--share'))")
    assert shares == ["1", "0", "0.75", "0"]
    titles = page.locator(".finding.confirmed .counted").all_inner_texts()
    assert titles == ["Answers tabby that change", "Others that become tabby"]


@pytest.mark.parametrize("key", ["Enter", "click"])
def test_an_area_leads_to_its_probe(opened: Opener, proven: Path, key: str) -> None:
    """A click or a key goes to the probe, at the epoch that was tested, also where a filter had hidden it."""
    page = opened(proven)
    ready(page)
    page.keyboard.press("Home")
    page.locator("#search").fill("probe 1")
    assert shown_names(page) == ["probe 1"]
    tile = page.locator(".tile").nth(1)
    if key == "click":
        tile.click()
    else:
        tile.focus()
        page.keyboard.press(key)
    wait_for(page, "epoch 5")
    assert page.evaluate("document.activeElement.closest('.probe').querySelector('h3').textContent") == "probe 5"


def test_what_was_cleared_is_folded(opened: Opener, proven: Path) -> None:
    """It takes a line, and its pictures are made when it is opened; a frame is shown in the whole picture."""
    page = opened(proven)
    ready(page)
    summary = page.locator("details.folded summary")
    assert summary.inner_text().startswith("cleared by the test: beagle")
    assert page.locator(".finding.cleared").count() == 0
    summary.focus()
    page.keyboard.press("Enter")
    tiles = page.locator(".finding.cleared .tile")
    tiles.first.wait_for()
    assert [tiles.nth(n).locator(".thumb").count() for n in range(2)] == [0, 1]
    whole = tiles.first.locator("canvas")
    assert whole.evaluate(LIGHT, [0.06, 0.5]) == 255
    assert 60 < whole.evaluate(LIGHT, [0.5, 0.5]) < 160
    summary.click()
    summary.click()
    assert tiles.count() == 2


def test_the_flag_is_on_the_curve_that_shows_it(opened: Opener, proven: Path, folder: Path) -> None:
    """Without regions that is the attention on the area, at the epoch where it went there; with regions it is focus."""
    page = opened(proven)
    ready(page)
    plots = page.locator("#charts .plot-box")
    assert plots.nth(1).locator("h2 span").inner_text() == "Attention on the area"
    assert [plots.nth(n).locator("circle.flag").count() for n in range(plots.count())] == [0, 1, 0]
    assert (
        plots.nth(1).locator("svg").get_attribute("aria-label").endswith("100 % at epoch 5, highest 100 % at epoch 3")
    )
    event = page.locator(".event.shortcut")
    assert event.locator(".when").inner_text() == "3"
    assert event.locator("b").inner_text() == "Confirmed by the test:"
    assert page.locator(".kind").all_inner_texts() == ["1 confirmed"]
    event.click()
    wait_for(page, "epoch 3")

    mask = box(24, 0, 48, 64)
    maps = {step: np.zeros((2, 1, 12, 16), np.float32) for step in range(6)}
    for step, of_step in maps.items():
        of_step[:, :, slice(0, 3) if step >= 3 else slice(6, 9)] = 1
    journal = steady(make_journal(folder / "seen", targets=["tabby"], steps=range(6), maps=maps, regions=[mask, mask]))
    page = opened(report.write([journal], folder / "seen.html"))
    ready(page)
    assert page.locator(".verdict-head").inner_text().split("\n")[1:] == ["suspect", "not tested"]
    plots = page.locator("#charts .plot-box")
    assert plots.locator("h2 > span").all_inner_texts() == ["Mean drift", "Focus"]
    assert [plots.nth(n).locator("circle.flag.suspect").count() for n in range(plots.count())] == [0, 1, 0]
    page.locator(".kind.suspect").click()
    assert page.locator(".event.suspect").count() == 0


def test_each_run_has_its_verdict(opened: Opener, folder: Path) -> None:
    """Side by side each has its own, with its own proof; of three runs, counts and pictures are folded."""
    journals = [make_journal(folder / f"run{n}", steps=range(2)) for n in range(3)]
    journals[0].leave_test(1, a_test("confirmed"))
    journals[1].leave_test(1, a_test("cleared"))
    page = opened(report.write(journals[:2], folder / "pair.html", names=["first", "second"]))
    runs = page.locator(".of-run")
    assert runs.locator(".chip").all_inner_texts() == ["first", "second"]
    assert runs.nth(0).locator(".word").inner_text() == "shortcut"
    assert runs.nth(0).locator(".tile").count() == 1
    assert runs.nth(1).locator(".word").inner_text() != "shortcut"
    assert runs.nth(1).locator(".finding").count() == 0
    page = opened(report.write(journals, folder / "trio.html", names=["first", "second", "third"]))
    assert page.locator(".word").count() == 3
    assert page.locator(".tile").count() == 0
    page.get_by_text("Counts and pictures").click()
    page.locator(".finding.confirmed .tile").wait_for()


def test_why_nothing_was_tested_is_said(opened: Opener, folder: Path) -> None:
    """A test that tested nothing says why."""
    journal = make_journal(folder / "untested", steps=range(2))
    journal.leave_test(1, Reliance(reason="The maps say nothing."))
    page = opened(report.write([journal], folder / "untested.html"))
    assert page.locator(".proof").inner_text() == "Nothing was tested at epoch 1. The maps say nothing."


def test_the_run_is_linked_where_that_works(opened: Opener, folder: Path) -> None:
    """The link opens a tab that knows nothing of the page; in a sandboxed frame it is an address to copy."""
    address = "https://mlflow.example/#/experiments/1/runs/2"
    file = report.write([make_journal(folder / "linked")], folder / "linked.html", links=[address])
    link = opened(file).get_by_role("link", name="open")
    assert link.get_attribute("href") == address
    assert link.get_attribute("rel") == "noopener noreferrer"
    host = folder / "host.html"
    host.write_text(f'<iframe sandbox="allow-scripts" width="1200" height="900" src="{file.as_uri()}"></iframe>')
    frame = opened(host).frames[1]
    assert frame.locator("#facts code").inner_text() == address
    assert frame.get_by_role("link", name="open").count() == 0


def test_the_size_of_the_maps_is_their_own(opened: Opener, folder: Path) -> None:
    """What the layer gives is said, and not the grid on which the page keeps it."""
    for shape, size, others in (((9, 29), (90, 290), {}), ((2, 3, 3), (48, 64), {"slices": 2})):
        name = "by".join(map(str, shape))
        maps = {0: np.random.default_rng(0).random((1, 1, *shape)).astype(np.float32)}
        pictures = np.full((1, *size, 3), 255, np.uint8)
        about = {"names": ["cat"], "targets": ["tabby"], "steps": [0], "maps": maps, "pictures": pictures, **others}
        page = opened(report.write([make_journal(folder / name, **about)], folder / f"{name}.html"))
        facts = page.locator("#facts div", has_text="Maps")
        assert facts.locator("dd").inner_text() == " × ".join(map(str, shape))


def test_before_training_has_no_at(opened: Opener, folder: Path) -> None:
    """The state before training is named without the preposition that an epoch has."""
    journal = make_journal(folder / "before", steps=range(-1, 3))
    journal.leave_test(-1, a_test("untold"))
    page = opened(report.write([journal], folder / "before.html"))
    ready(page)
    assert page.locator(".degree").inner_text() == "the test could not tell before training"
    page.locator(".cell").first.click()
    said = page.locator("[aria-label]").evaluate_all("all => all.map(node => node.getAttribute('aria-label'))")
    assert any("before training" in text for text in said)
    assert not any("at before" in text for text in [*said, page.locator("body").inner_text()])


def test_the_flag_filter_knows_warnings_about_all(opened: Opener, proven: Path, folder: Path) -> None:
    """Of a shortcut the decisive probes are flagged; of answers that are constant all are, without a mark on each."""
    page = opened(proven)
    ready(page)
    assert page.locator("#show option[value=flagged]").inner_text() == "flagged (3)"
    page.locator("#show").select_option("flagged")
    assert shown_names(page) == ["probe 2", "probe 5", "probe 9"]
    assert page.locator(".probe .flagged").count() == 3

    pictures = np.stack([np.full((48, 64, 3), value, np.uint8) for value in (0, 255)])
    same = {step: np.ones((2, 1, 3, 3), np.float32) for step in range(3)}
    made = make_journal(folder / "constant", targets=["tabby"], steps=range(3), pictures=pictures, maps=same)
    page = opened(report.write([steady(made)], folder / "constant.html"))
    ready(page)
    assert page.locator(".word").inner_text() == "constant"
    assert page.locator("#show option[value=flagged]").inner_text() == "flagged (2)"
    page.locator("#show").select_option("flagged")
    assert shown_names(page) == ["cat", "dog"]
    assert page.locator(".probe .flagged").count() == 0


# Of a chart: where its flag is, and how the curve below it runs, as [x, y] of each step.
FLAG = """svg => {
  const flag = svg.querySelector("circle.flag");
  const points = svg.querySelector("path.curve:not(.faint)").getAttribute("d").slice(1).split("L");
  return [[Number(flag.getAttribute("cx")), Number(flag.getAttribute("cy"))],
          points.map(point => point.split(" ").map(Number))];
}"""


def test_the_flag_lies_on_its_evidence_and_the_fall_is_seen(opened: Opener, folder: Path) -> None:
    """Focus that falls from 32 % to 21 % falls by a good part of its chart; the flag is on that curve."""
    region = box(0, 0, 48, 32)
    maps = {}
    for step in range(6):
        share = 0.32 if step < 3 else 0.21
        maps[step] = np.zeros((2, 1, 4, 4), np.float32)
        maps[step][..., :2] = share
        maps[step][..., 2:] = 1 - share
    journal = make_journal(folder / "fallen", targets=["tabby"], steps=range(6), maps=maps, regions=[region, region])
    page = opened(report.write([steady(journal)], folder / "fallen.html"))
    ready(page)
    plot = page.locator("#charts .plot-box", has_text="inside the marked region")
    assert page.locator("#charts circle.flag").count() == plot.locator("circle.flag").count() == 1
    flag, points = plot.locator("svg").evaluate(FLAG)
    assert min(abs(x - flag[0]) + abs(y - flag[1]) for x, y in points) < 0.1
    assert flag[1] == pytest.approx(points[3][1], abs=0.1)
    assert points[3][1] - points[2][1] > 0.4 * plot.locator("svg").evaluate("svg => svg.clientHeight")


def test_a_finding_beside_no_region_is_on_the_curve_of_its_area(opened: Opener, folder: Path) -> None:
    """What pictures of a class have in common is no matter of focus, also where regions are marked."""
    corner, regions = box(0, 48, 12, 64), [box(12, 0, 48, 48)] * 3
    maps = {step: np.zeros((3, 1, 12, 16), np.float32) for step in range(6)}
    for step, of_step in maps.items():
        of_step[:, :, slice(0, 3) if step >= 3 else slice(6, 9), 12:16] = 1
        of_step[:, :, 5, 5] = 1
    journal = steady(
        make_journal(folder / "both", names="abc", targets=["tabby"], maps=maps, steps=range(6), regions=regions)
    )
    about = {"kind": "common", "probes": (0, 1, 2), "areas": (corner,) * 3, "in_place": True}
    journal.leave_test(5, Reliance(findings=(a_finding(**about),)))
    page = opened(report.write([journal], folder / "both.html"))
    ready(page)
    plots = page.locator("#charts .plot-box")
    assert plots.locator("h2 > span").all_inner_texts() == ["Mean drift", "Focus", "Attention on the area"]
    assert [plots.nth(n).locator("circle.flag.shortcut").count() for n in range(3)] == [0, 0, 1]


def test_help_names_all_that_is_shown(opened: Opener, one: Path) -> None:
    """The signs of the grid, each measure of the table with what it is, and each key."""
    page = opened(one)
    ready(page)
    page.keyboard.press("?")
    text = page.locator("#help").inner_text()
    assert "The outline is the marked region" in text
    assert "○, the focus" in text
    assert "Δ, the drift" in text
    measures = [row for row in MEASURES.values() if row.of != "model"]
    assert page.locator("#measures dt").all_inner_texts() == [row.title for row in measures]
    assert page.locator("#measures dd").all_inner_texts() == [f"{row.says}." for row in measures]
    assert {"Shift", "Rank"} < {row.title for row in measures}
    keys = set(page.locator("#help kbd").all_inner_texts())
    assert {"←", "→", "Home", "End", "Space", "h", "+", "−", "s", "c", "d", "l", "n", "p", "?", "Esc"} <= keys


# ---- Sort and filter ----


def test_probes_are_sorted_and_filtered(opened: Opener, one: Path, flagged: Path) -> None:
    """By drift, health, words, classes and flags; what does not match can be brought back."""
    page = opened(one)
    ready(page)
    page.locator("#sort").select_option("health")
    assert shown_names(page)[0] == "empty dog"
    page.locator("#sort").select_option("given")
    page.locator("#search").fill("CUP")
    assert shown_names(page) == [HOSTILE, "cup"]  # one is named so, both are labelled so
    assert page.locator("#count").inner_text() == "2 of 6 probes"
    page.locator("#search").fill("nothing of that name")
    assert shown_names(page) == []
    page.get_by_role("button", name="Clear the filters").click()
    assert shown_names(page) == list(NAMES)
    page.locator("#show").select_option("problem")
    assert shown_names(page) == ["empty dog"]
    page.locator("#show").select_option("class 1")
    assert shown_names(page) == [JAPANESE, "empty dog"]

    page = opened(flagged)
    ready(page)
    page.locator("#sort").select_option("drift")
    assert shown_names(page) == ["dog", "cat"]
    page.locator("#sort").select_option("given")
    page.locator("#show").select_option("flagged")
    assert shown_names(page) == ["dog"]


# ---- Large ----


def test_a_cell_opens_large(opened: Opener, one: Path) -> None:
    """The dialog has picture, targets, curves, film and numbers; keys move time and probe; focus stays and returns."""
    page = opened(one)
    ready(page)
    cell = page.locator(".cell").nth(1)
    cell.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#large")
    assert dialog.evaluate("node => node.open")
    assert page.locator("#large-title").inner_text() == "cat"
    assert page.locator(".mini[aria-pressed=true]").inner_text() == HOSTILE
    assert page.locator(".frame-of-film").count() == 13
    settled(page)
    large = page.locator("#large-pictures canvas")
    before = large.evaluate(PIXELS)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.getElementById('large-now').textContent === 'epoch 10'")
    settled(page)
    assert large.evaluate(PIXELS) != before
    row = page.locator("#large-table tr.current").inner_text().split("\t")
    assert row[:3] == [HOSTILE, "0.25", "12.5"]
    page.locator(".frame-of-film").nth(8).click()
    page.wait_for_function("() => document.getElementById('large-now').textContent === 'epoch 7'")
    page.locator(".mini").nth(2).click()
    assert page.locator("#large-table tr.current th").inner_text() == "cup"
    for _ in range(40):
        page.keyboard.press("Tab")
        assert page.evaluate("document.getElementById('large').contains(document.activeElement)")
    page.keyboard.press("n")
    assert page.locator("#large-title").inner_text() == JAPANESE
    page.keyboard.press("p")
    page.keyboard.press("Escape")
    assert not dialog.evaluate("node => node.open")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.cell')[2]")
    assert epoch(page) == "epoch 7"


def test_the_numbers_are_those_that_are_measured(opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has a column of each measure that is known, in the words of Python; a new one is there by its row."""
    journal = make_journal(folder / "measured", targets=["tabby"], steps=range(4))
    row = Measure("spread", "Spread", "share of the places above none", "map", 0, 1, "share")
    monkeypatch.setitem(cast(dict[str, Measure], MEASURES), "spread", row)
    monkeypatch.setattr(drift, "spread", lambda maps: np.ones(maps.shape[:2]), raising=False)
    page = opened(report.write([journal], folder / "measured.html"))
    ready(page)
    page.locator(".cell").first.click()
    settled(page)
    heads = page.locator("#large-table thead th")
    known = [row.title for row in MEASURES.values() if row.of not in ("model", "region")]  # no focus without a region
    assert known[-1] == "Spread"
    assert heads.all_inner_texts() == ["Target", "Prob.", "Score", *known, "Health"]
    assert heads.nth(2 + len(known)).get_attribute("title") == "Share of the places above none"
    shown = page.locator("#large-table tbody td").all_inner_texts()
    moved = drift.drift(*(journal.read(step).arrays["maps"] for step in (2, 3)))[0, 0]
    assert shown[:3] == ["0.25", "5.50", f"{100 * moved:.0f} %"]
    maps = journal.read(3).arrays["maps"]
    concentrated = [f"{100 * of(maps)[0, 0]:.0f} %" for of in (drift.entropy, drift.gini)]
    assert shown[-5:] == ["2 %", *concentrated, "100 %", "ok"]


def test_drift_is_marked_where_it_is_not_settled(opened: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more than the summary calls settled stands out; the bounds are those of Python."""
    journal = make_journal(folder / "calm", names=["cat"], targets=["tabby"], steps=range(4))
    marked = []
    for number, (share, floors) in enumerate([(report.SETTLED, report.SETTLED_TIMES_FLOOR), (1, 2), (0.1, 60)]):
        monkeypatch.setattr(report, "SETTLED", share)
        monkeypatch.setattr(report, "SETTLED_TIMES_FLOOR", floors)
        page = opened(report.write([journal], folder / f"calm{number}.html"))
        ready(page)
        marked.append(page.locator(".drifted.beyond").count())
    assert marked == [1, 0, 0]


def test_help_opens_and_closes(opened: Opener, one: Path) -> None:
    """The question mark opens the list of keys and of every word that a verdict can be; Escape closes it."""
    page = opened(one)
    ready(page)
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="How to read this page").is_visible()
    words = page.locator("#words dt").all_inner_texts()
    assert words[: len(VERDICTS)] == list(VERDICTS)
    assert words[len(VERDICTS) :] == ["confirmed by the test", "the test could not tell", "cleared by the test"]
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


# ---- Several runs ----


def test_two_runs_are_side_by_side(opened: Opener, folder: Path) -> None:
    """Each target has a picture a run at the same epoch; a run that lacks it shows its last one, and says so."""
    journals = [
        make_journal(folder / "every", targets=["predicted", "cup"], steps=range(8)),
        make_journal(folder / "second", targets=["predicted", "cup"], steps=range(0, 8, 2), grid=(5, 5)),
    ]
    page = opened(report.write(journals, folder / "two.html", names=["every epoch", HOSTILE]))
    ready(page)
    group = page.locator(".target").first
    assert group.locator(".cell").count() == 2
    assert group.locator(".spark .curve").count() == 2
    assert group.locator(".run-name").all_inner_texts() == ["every epoch", HOSTILE]
    assert epoch(page) == "epoch 7"
    assert group.locator(".cell.stale").count() == 1
    assert group.locator(".note").nth(1).inner_text() == "epoch 6, predicts tabby"
    page.keyboard.press("ArrowLeft")
    wait_for(page, "epoch 6")
    assert group.locator(".cell.stale").count() == 0
    assert page.locator("#metrics .chip").all_inner_texts() == ["every epoch", HOSTILE]
    group.locator(".cell").nth(1).click()
    assert page.locator("#large-pictures canvas").count() == 2
    assert page.locator("#large-table tbody tr").count() == 4


def test_the_parts_of_a_run_are_side_by_side_at_their_own_epochs(opened: Opener, folder: Path) -> None:
    """At epoch 1 each shows its second epoch, also the part that began after the other."""
    run = folder / "parts"
    make_journal(run, names=["white"], targets=["cup"], steps=range(-1, 3))
    make_journal(run / "parts" / "2", names=["white"], targets=["cup"], steps=range(3, 6), grid=(5, 5), part=2)
    page = opened(write_report(run, folder / "parts.html"))
    ready(page)
    assert page.title().startswith("parts")
    page.locator("#colormap").select_option("Greys")
    group = page.locator(".target").first
    names = ["part 1: top_conv, 7 × 7, epochs 0–2", "part 2: top_conv, 5 × 5, epochs 3–5"]
    assert group.locator(".run-name").all_inner_texts() == names
    assert epoch(page) == "epoch 2"
    assert group.locator(".cell.stale").count() == 0
    page.keyboard.press("ArrowLeft")
    wait_for(page, "epoch 1")
    places = [canvas.evaluate(DARKEST)[:2] for canvas in group.locator("canvas").all()]
    wanted = [place_of(1), place_of(4)]
    for place, (x, y) in zip(places, wanted, strict=True):
        assert abs(place[0] - x) < 0.1
        assert abs(place[1] - y) < 0.1


# ---- On paper ----

# How many different colours a canvas has, up to ten.
COLOURS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let at = 0; at < data.length && seen.size < 10; at += 4) seen.add(data.slice(at, at + 4).join());
  return seen.size;
}"""


def pages_of(pdf: Path) -> list[np.ndarray[Any, Any]]:
    """The pages of a PDF, drawn in grey."""
    tool = shutil.which("pdftoppm")
    if tool is None:
        pytest.skip("needs pdftoppm: apt-get install poppler-utils")
    subprocess.run([tool, "-r", "40", "-gray", str(pdf), str(pdf.with_suffix(""))], check=True, timeout=120)
    return [np.asarray(Image.open(file)) for file in sorted(pdf.parent.glob(f"{pdf.stem}-*.pgm"))]


def test_a_print_says_what_it_shows(opened: Opener, one: Path, folder: Path) -> None:
    """Epoch, scale and colours are named; dark colours stay on the screen; no page and no picture is blank."""
    page = opened(one, color_scheme="dark")
    ready(page)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    wait_for(page, "epoch 0")
    page.locator("#pin-step").select_option("11")
    page.emulate_media(media="print")
    page.wait_for_function("() => document.getElementById('printed').textContent")
    told = page.locator("#printed").inner_text()
    for part in (
        "Shown: epoch 0.",
        "plasma, opacity 60 %",
        "all maps over the one largest maximum",
        "Beside: epoch 11.",
    ):
        assert part in told
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--surface')") == "#ffffff"
    page.emulate_media(media="null")
    page.pdf(path=folder / "one.pdf", format="A4")
    for canvas in page.locator("#probes .view:visible canvas").all():
        assert (
            canvas.evaluate(COLOURS) > 1 or canvas.evaluate(LIGHT, [0.5, 0.5]) == 255
        )  # an empty map of a white probe
    pages = pages_of(folder / "one.pdf")
    assert 1 < len(pages) < 6
    assert all((sheet < 200).mean() > 0.005 for sheet in pages)


def test_many_probes_are_printed_on_few_pages(opened: Opener, folder: Path) -> None:
    """Of 40 probes out of sight each has its picture on paper, five rows or more to a page."""
    names = [f"probe {n}" for n in range(40)]
    pictures = np.full((40, 48, 48, 3), 40, np.uint8)
    journal = make_journal(
        folder / "paper", names=names, targets=["predicted", "tabby", "cup"], steps=range(3), pictures=pictures
    )
    page = opened(report.write([journal], folder / "paper.html"))
    ready(page)
    page.pdf(path=folder / "paper.pdf", format="A4")
    sizes = page.locator(".cell canvas").evaluate_all("all => all.map(canvas => canvas.width)")
    assert min(sizes) > 1
    pages = pages_of(folder / "paper.pdf")
    assert len(pages) <= 8
    assert all((sheet < 120).mean() > 0.005 for sheet in pages)


def test_the_large_view_is_printed_alone(opened: Opener, plain: Path, folder: Path) -> None:
    """What is open is what is printed, with the same words."""
    page = opened(plain)
    ready(page)
    page.locator(".cell").first.click()
    page.emulate_media(media="print")
    page.locator("#printed").wait_for()
    assert page.locator("#large-pictures canvas").is_visible()
    assert not page.locator("#probes").is_visible()
    page.pdf(path=folder / "large.pdf", format="A4")
    assert len(pages_of(folder / "large.pdf")) <= 2


def test_a_large_view_that_is_longer_than_a_sheet_goes_on_on_the_next(opened: Opener, folder: Path) -> None:
    """The last picture of a long filmstrip is on paper, the three of a pin side by side; then it is a dialog again."""
    journal = make_journal(folder / "long", names=["white"], targets=["predicted"], steps=range(120))
    page = opened(report.write([journal], folder / "long.html"), fragment="#probe=0&pin=60")
    settled(page)
    page.pdf(path=folder / "long.pdf", format="A4")
    pages = pages_of(folder / "long.pdf")
    assert 1 < len(pages) < 4
    assert all((sheet < 200).mean() > 0.005 for sheet in pages)
    assert page.locator("#large:modal").count() == 1
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.getElementById('large-now').textContent === 'epoch 118'")
    page.emulate_media(media="print")
    tops = page.locator("#large-pictures canvas").evaluate_all(f"all => all.map({BOX})")
    assert len({round(top) for top, _, _ in tops}) == 1
    assert len(tops) == 3


# ---- How large ----

# Whether the text of a choice is longer than the room that it has.
IS_CUT = """select => {
  const style = getComputedStyle(select);
  const context = document.createElement("canvas").getContext("2d");
  context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  const room = select.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return context.measureText(select.selectedOptions[0].text).width > room + 1;
}"""


@pytest.mark.parametrize("width", [1440, 1280])
def test_what_is_chosen_is_read_in_full(opened: Opener, classes: Path, width: int) -> None:
    """No choice is cut, whichever is chosen."""
    page = opened(classes, width=width)
    ready(page)
    page.keyboard.press("c")
    for name in ("sort", "show", "group", "beside", "pin-run", "pin-step"):
        choice = page.locator(f"#{name}")
        for option in choice.locator("option:not([disabled])").all():
            choice.select_option(option.get_attribute("value"))
            assert choice.evaluate(IS_CUT) is False, option.inner_text()
            page.locator("#pin-step").select_option("0")  # what was chosen may have let it go


BOX = "node => { const { top, bottom, width } = node.getBoundingClientRect(); return [top, bottom, width]; }"


def test_the_large_view_is_large(opened: Opener, folder: Path) -> None:
    """At 1440 pixels the pictures of two runs are twice as wide as in the grid, and all is in sight."""
    journals = [
        make_journal(folder / f"wide{n}", targets=["predicted", "tabby", "cup"], steps=range(4)) for n in range(2)
    ]
    page = opened(report.write(journals, folder / "wide.html"), width=1440)
    ready(page)
    small = page.locator(".cell").first.evaluate(BOX)[2]
    page.locator(".cell").first.click()
    settled(page)
    for canvas in page.locator("#large-pictures canvas").all():
        top, bottom, width = canvas.evaluate(BOX)
        assert width >= 2 * small
        assert 0 < top < bottom < 900


@pytest.mark.parametrize(
    ("size", "window"),
    [((300, 100), (1280, 900)), ((160, 90), (1280, 900)), ((48, 64), (640, 450)), ((48, 64), (390, 844))],
)
def test_a_picture_fits_the_large_view(
    opened: Opener, folder: Path, size: tuple[int, int], window: tuple[int, int]
) -> None:
    """A tower in a usual window, and any picture at 200 % and on a phone: whole, and not below what stays in sight."""
    name = f"fits{size[0]}{window[0]}"
    pictures = np.full((2, *size, 3), 255, np.uint8)
    journal = make_journal(folder / name, pictures=pictures, steps=range(4))
    page = opened(report.write([journal], folder / f"{name}.html"), width=window[0], height=window[1])
    ready(page)
    page.locator(".cell").first.click()
    settled(page)
    top, bottom, width = page.locator("#large-pictures canvas").evaluate(BOX)
    assert page.locator(".large header").evaluate(BOX)[1] <= top
    assert bottom <= page.locator(".large-time").evaluate(BOX)[0]
    assert bottom - top > 0.4 * window[1] or width > 0.85 * window[0]


@pytest.mark.parametrize("window", [(1280, 900), (640, 450)])
def test_the_large_view_scrolls_for_many_targets(opened: Opener, folder: Path, window: tuple[int, int]) -> None:
    """Of 30 targets each picture and each row of numbers can be reached, and the last one be chosen."""
    targets = [f"target number {k}" for k in range(30)]
    journal = make_journal(folder / f"targets{window[0]}", targets=targets, steps=range(3), class_names=None)
    page = opened(report.write([journal], folder / f"targets{window[0]}.html"), width=window[0], height=window[1])
    ready(page)
    page.locator(".cell").first.click()
    last = page.locator(".mini").last
    last.click()
    assert page.locator(".mini").last.get_attribute("aria-pressed") == "true"
    row = page.locator("#large-table tbody tr").last
    row.scroll_into_view_if_needed()
    top, bottom, _ = row.evaluate(BOX)
    assert 0 < top < bottom < window[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= window[0]


def test_many_probes_shrink_to_a_contact_sheet(opened: Opener, folder: Path) -> None:
    """Of 64 probes with 5 targets, more than half are in sight at once; only names and pictures are left."""
    names = [f"probe {n}" for n in range(64)]
    targets = ["predicted", "tabby", "beagle", "cup", "label"]
    pictures = np.full((64, 48, 48, 3), 255, np.uint8)
    journal = make_journal(folder / "sheet", names=names, targets=targets, steps=range(2), pictures=pictures)
    page = opened(report.write([journal], folder / "sheet.html"))
    ready(page)
    wide = page.locator(".cell").first.evaluate(BOX)[2]
    page.locator("#size").fill("40")
    settled(page)
    page.evaluate("document.getElementById('controls').scrollIntoView()")
    boxes = page.locator(".cell").evaluate_all(f"all => all.map({BOX})")
    assert boxes[0][2] < 50 < wide
    assert sum(top > 0 and bottom < 900 for top, bottom, _ in boxes) >= 0.5 * 64 * 5
    assert not page.locator(".reading").first.is_visible()
    assert page.locator("#size").get_attribute("aria-valuetext") == "40 pixels"
    page.locator("#size").fill("240")
    settled(page)
    assert page.locator(".cell").first.evaluate(BOX)[2] >= 220
    assert page.locator(".reading").first.is_visible()


# ---- The pin ----

# The colour of a canvas at a place, in shares of its sides.
COLOUR = """(canvas, [x, y]) => {
  const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  return [...canvas.getContext("2d").getImageData(...place, 1, 1).data].slice(0, 3);
}"""


def is_orange(colour: list[int]) -> bool:
    return colour[0] > colour[2] + 60


def is_blue(colour: list[int]) -> bool:
    return colour[2] > colour[0] + 60


def test_a_pinned_epoch_stands_beside_the_one_shown(opened: Opener, plain: Path) -> None:
    """It stays while the other moves; the difference is orange where attention came, blue where it left, else clear."""
    page = opened(plain)
    ready(page)
    page.locator("#pin-step").select_option("2")
    for now in (6, 4):
        page.locator("#epoch").fill(str(now))
        wait_for(page, f"epoch {now}")
        notes = page.locator(".view .note").all_inner_texts()
        assert notes[:2] == [f"epoch {now}", "epoch 2"]
        difference = page.locator(".view.difference canvas")
        assert is_orange(difference.evaluate(COLOUR, place_of(now)))
        assert is_blue(difference.evaluate(COLOUR, place_of(2)))
        assert difference.evaluate(COLOUR, [0.5, 0.97]) == [255, 255, 255]
        said = f"white, target predicted, difference from epoch 2 to epoch {now}, "
        page.wait_for_function(
            "said => document.querySelector('.difference canvas').ariaLabel.startsWith(said)", arg=said
        )
    page.locator("#colormap").select_option("Greys")
    settled(page)
    x, y, _ = page.locator(".view.pinned canvas").evaluate(DARKEST)
    assert [x, y] == pytest.approx(place_of(2), abs=0.04)


def test_what_moved_is_said_as_drift_is_measured(opened: Opener, folder: Path) -> None:
    """The share is the drift between the two maps: of where, and not of how much, to a screen reader as well."""
    journal = steady(make_journal(folder / "moved", names=["cat"], targets=["tabby"], steps=range(-1, 6)))
    page = opened(report.write([journal], folder / "moved.html"))
    ready(page)
    for step in (-1, 2, 5):
        page.locator("#pin-step").select_option(str(step))
        settled(page)
        moved = drift.drift(*(journal.read(each).arrays["maps"] for each in (step, 5)))[0, 0]
        assert page.locator(".view.difference .note").inner_text() == f"{100 * moved:.0f} % moved"
    page.wait_for_function("() => document.querySelector('.difference canvas').getAttribute('aria-label')")
    page.locator("#pin-step").select_option("-1")
    settled(page)
    page.wait_for_function(
        "() => document.querySelector('.difference canvas').ariaLabel.includes('from before training')"
    )
    label = str(page.locator(".view.difference canvas").get_attribute("aria-label"))
    assert "of the attention moved, most came to: " in label
    assert page.locator(".view.pinned .note").inner_text() == "before training"


def test_keys_pin_and_change_what_stands_beside(opened: Opener, one: Path) -> None:
    """By c the step shown is pinned and let go; d goes from both to picture and difference; so in the dialog."""
    page = opened(one)
    ready(page)
    page.keyboard.press("Home")
    wait_for(page, "before training")
    page.keyboard.press("c")
    page.keyboard.press("End")
    wait_for(page, "epoch 11")
    first = page.locator(".target").first
    assert page.locator("#pin").get_attribute("aria-pressed") == "true"
    assert page.locator("#pin-step").input_value() == "-1"
    shown = ".view:visible canvas"
    assert first.locator(shown).count() == 3
    page.keyboard.press("d")
    settled(page)
    assert first.locator(shown).count() == first.locator(".view.pinned:visible").count() + 1 == 2
    page.keyboard.press("d")
    settled(page)
    assert first.locator(".view.difference:visible").count() == 1
    assert first.locator(shown).count() == 2
    page.locator(".cell").first.click()
    settled(page)
    assert page.locator("#large-pictures figure:visible").count() == 2
    page.keyboard.press("d")
    settled(page)
    captions = page.locator("#large-pictures figcaption").all_inner_texts()
    assert captions[:2] == ["epoch 11", "Pinned: before training"]
    assert captions[2].startswith("Difference: ")
    assert page.locator(".pinned-frame").inner_text() == "before"
    page.keyboard.press("c")
    settled(page)
    assert page.locator("#large-pictures figure").count() == 1
    page.locator("#large-pin").click()
    settled(page)
    assert page.locator("#large-pictures figure:visible").count() == 3
    page.keyboard.press("Escape")
    settled(page)
    assert page.locator("#live").inner_text().startswith("epoch 11 pinned")


def test_a_difference_that_cannot_be_told_says_why(opened: Opener, one: Path, folder: Path) -> None:
    """Of an empty map, of another class and of another grid there is none, in words and without colour."""
    page = opened(one)
    ready(page)
    page.locator("#pin-step").select_option("0")
    settled(page)
    cat = page.locator(".probe").first.locator(".target")
    assert cat.nth(0).locator(".difference .note").inner_text() == f"another class: {JAPANESE}"
    empty = page.locator(".probe").nth(4).locator(".target").nth(1)
    empty.scroll_into_view_if_needed()
    settled(page)
    assert empty.locator(".difference .note").inner_text() == "map empty"
    assert empty.locator(".difference canvas").evaluate(DARKEST)[2] >= 250

    layers = [
        make_journal(
            folder / f"layer{n}", names=["cat"], targets=["tabby"], steps=range(3), grid=grid, layer=f"conv_{n}"
        )
        for n, grid in enumerate([(7, 7), (7, 7), (5, 5)])
    ]
    page = opened(report.write(layers, folder / "layers.html", names=["first", "second", "coarse"]), width=1440)
    ready(page)
    page.locator("#pin-step").select_option("now")
    settled(page)
    runs = page.locator(".target").first.locator(".run")
    assert [runs.nth(n).locator(".difference:visible").count() for n in range(3)] == [0, 1, 1]
    assert runs.nth(1).locator(".difference .note").inner_text() == "0 % moved"
    assert runs.nth(2).locator(".difference .note").inner_text() == "grids differ: 7 × 7, 5 × 5"


def test_another_run_can_be_pinned(opened: Opener, folder: Path) -> None:
    """Each run is compared with one of them, at the epoch shown or at another one, but never with itself."""
    maps = [jumping(range(4), 9), jumping(range(4), 2)]  # the second one jumps to the right at epoch 2
    journals = [
        steady(make_journal(folder / f"other{n}", names=["cat"], targets=["tabby"], steps=range(4), maps=maps[n]))
        for n in range(2)
    ]
    page = opened(report.write(journals, folder / "other.html", names=["left", "right"]))
    ready(page)
    page.locator("#pin-step").select_option("now")
    settled(page)
    runs = page.locator(".target").first.locator(".run")
    assert page.locator("#beside").input_value() == "difference"
    assert runs.nth(0).locator(".view:visible").count() == 1
    assert runs.nth(1).locator(".difference .note").inner_text() == "100 % moved"
    canvas = runs.nth(1).locator(".difference canvas")
    assert is_orange(canvas.evaluate(COLOUR, [0.78, 0.5]))
    assert is_blue(canvas.evaluate(COLOUR, [0.22, 0.5]))
    page.locator("#epoch").fill("1")
    wait_for(page, "epoch 1")
    assert runs.nth(1).locator(".difference .note").inner_text() == "0 % moved"
    page.locator("#pin-step").select_option("3")
    page.locator("#pin-run").select_option("1")
    page.locator("#beside").select_option("both")
    settled(page)
    assert runs.nth(0).locator(".view .note").all_inner_texts()[1:] == ["right, epoch 3", "100 % moved"]
    assert runs.nth(1).locator(".view .note").all_inner_texts()[1:] == ["epoch 3", "100 % moved"]


def test_probes_are_sorted_by_what_moved_since_the_pin(opened: Opener, flagged: Path) -> None:
    """The probe whose attention jumped comes first."""
    page = opened(flagged)
    ready(page)
    page.locator("#pin-step").select_option("0")
    page.locator("#sort").select_option("pinned")
    settled(page)
    assert shown_names(page) == ["dog", "cat"]


@pytest.mark.parametrize("seen_by", ["everybody", "deuteranomaly", "protanomaly", "tritanomaly", "nobody"])
def test_the_two_colours_of_a_difference_are_told_apart(opened: Opener, plain: Path, seen_by: str) -> None:
    """Also by people who miss a colour, and by lightness alone; the middle of the bar is the grey of a picture."""
    page = opened(plain)
    ready(page)
    page.locator("#pin-step").select_option("0")
    settled(page)
    legend = page.locator("#difference-bar")
    ends = np.array([legend.evaluate(COLOUR, [x, 0.5]) for x in (0.01, 0.99)]) / 255
    middle = legend.evaluate(COLOUR, [0.5, 0.5])
    assert max(abs(value - grey) for value, grey in zip(middle, [140, 138, 134], strict=True)) <= 2
    if seen_by not in ("everybody", "nobody"):
        ends = np.clip(cspace_convert(ends, {"name": "sRGB1+CVD", "cvd_type": seen_by, "severity": 100}, "sRGB1"), 0, 1)
    left, came = cspace_convert(ends, "sRGB1", "CAM02-UCS")
    if seen_by == "nobody":
        assert came[0] - left[0] > 20
    else:
        assert np.linalg.norm(came - left) > 40


# ---- The address ----


def shown(page: Page) -> dict[str, Any]:
    """All that a link should bring back."""
    ids = ("pin-step", "pin-run", "beside", "colormap", "opacity", "size", "sort", "show", "search", "group")
    return {
        **{name: page.locator(f"#{name}").input_value() for name in ids},
        "epoch": epoch(page),
        "scale": page.locator("input[name=scale]:checked").input_value(),
        "grey": page.locator("#grey").get_attribute("aria-pressed"),
        "names": shown_names(page),
        "runs": page.locator("#title button[aria-pressed=true]").all_inner_texts(),
        "large": page.locator("#large-title").inner_text() if page.locator("#large[open]").count() else None,
        "target": page.locator("#large .mini[aria-pressed=true]").all_inner_texts(),
        "zoom": page.locator("#zoom-now").text_content(),
    }


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """The page of two runs of six probes."""
    journals = [
        make_journal(folder / f"pair{n}", names=NAMES, targets=["tabby", "cup"], class_names=CLASSES) for n in range(2)
    ]
    return report.write(journals, folder / "two runs & more.html", names=["first", HOSTILE])


def test_all_that_is_shown_is_in_the_address(opened: Opener, pair: Path) -> None:
    """A reload keeps it, and another page that is opened with the address shows the same."""
    page = opened(pair)
    ready(page)
    page.wait_for_function("() => location.hash === '#step=4&follow=1'")  # what it opens with needs no more words
    page.locator("#epoch").fill("2")
    page.locator("#pin-step").select_option("-1")
    page.locator("#pin-run").select_option("1")
    page.locator("#beside").select_option("difference")
    page.get_by_role("radio", name="Shared").check()
    page.locator("#colormap").select_option("viridis")
    page.locator("#opacity").fill("35")
    page.locator("#grey").click()
    page.locator("#size").fill("120")
    page.locator("#sort").select_option("now")
    page.locator("#show").select_option("class 2")
    page.locator("#search").fill("cup")
    page.locator("#group").select_option("right")
    page.locator("#title button").nth(1).click()
    page.locator(".probe:not(.mean) .cell").first.click()
    page.locator(".mini").nth(1).click()
    page.keyboard.press("z")
    page.wait_for_function("() => location.hash.includes('zoom=1.5')")
    before = shown(page)
    assert before["large"] in before["names"]
    assert before["zoom"] == "150 %"
    assert before["runs"] == ["first"]
    assert before["epoch"] == "epoch 1"
    page.reload()
    ready(page)
    assert shown(page) == before
    fragment = page.evaluate("location.hash")
    assert len(fragment) < 300
    other = opened(pair, fragment=fragment)
    ready(other)
    assert shown(other) == before
    other.evaluate("location.hash = '#step=0'")  # as by the button "back", or pasted into the same tab
    wait_for(other, "epoch 0")
    assert shown(other)["large"] is None
    assert shown(other)["names"] == list(NAMES)
    assert shown(other)["runs"] == ["first", HOSTILE]


def test_who_stands_at_the_newest_step_is_at_the_newest_again(opened: Opener, folder: Path) -> None:
    """A page that is written anew while it trains shows the new step, but not to who stands elsewhere or has a link."""
    journal = make_journal(folder / "live", names=["white"], targets=["predicted"], steps=range(3))
    file = report.write([journal], folder / "live.html")
    page = opened(file, permissions=["clipboard-read", "clipboard-write"])
    ready(page)
    page.wait_for_function("() => location.hash.endsWith('&follow=1')")
    page.keyboard.press("l")
    page.wait_for_function("() => document.getElementById('live').textContent === 'link copied'")
    assert page.evaluate("navigator.clipboard.readText()") == f"{file.as_uri()}#step=2"
    elsewhere = opened(file)
    ready(elsewhere)
    elsewhere.keyboard.press("ArrowLeft")
    elsewhere.wait_for_function("() => location.hash === '#step=1'")
    for step in (3, 4):
        journal.append(step, dict(journal.read(2).arrays), {})
    report.write([journal], file)
    for each, wanted in ((page, "epoch 4"), (elsewhere, "epoch 1")):
        each.reload()
        ready(each)
        assert epoch(each) == wanted
    linked = opened(file, fragment="#step=2")
    ready(linked)
    assert epoch(linked) == "epoch 2"


def test_nonsense_in_an_address_is_left_aside(opened: Opener, pair: Path) -> None:
    """What an address says wrongly is as if it did not say it."""
    nonsense = (
        "#step=many&probe=99&target=-1&runs=7,x&pin=77&of=9&beside=all&scale=log&colours=__proto__&opacity=900&size=x"
    )
    more = "&sort=x&show=class+9&search=&follow=x&group=__proto__&stacked=,,&zoom=2"
    page = opened(pair, fragment=nonsense + more)
    ready(page)
    page.wait_for_function("() => location.hash === '#step=4&follow=1'")
    assert shown(page)["names"] == list(NAMES)
    page = opened(pair, fragment="#step=2&pin=now&size=1")
    ready(page)
    assert shown(page)["pin-step"] == ""
    assert epoch(page) == "epoch 2"


def test_skipping_to_the_pictures_keeps_what_is_shown(opened: Opener, one: Path) -> None:
    """That link changes the address, too, but is no address of what is shown."""
    page = opened(one, fragment="#step=3&pin=5")
    ready(page)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert epoch(page) == "epoch 3"
    assert page.locator("#pin-step").input_value() == "5"


@pytest.mark.parametrize("key", ["button", "l"])
def test_a_link_is_copied(opened: Opener, pair: Path, key: str) -> None:
    """It is the address of the page with all that is shown; that it was copied is said."""
    page = opened(pair, fragment="#step=1&pin=0", permissions=["clipboard-read", "clipboard-write"])
    ready(page)
    if key == "button":
        page.get_by_role("button", name="Copy link").click()
    else:
        page.keyboard.press(key)
    page.wait_for_function("() => document.getElementById('live').textContent === 'link copied'")
    assert page.locator("header .copy-link").first.inner_text() == "Copied"
    assert page.evaluate("navigator.clipboard.readText()") == f"{pair.as_uri()}#step=1&pin=0"


def test_in_a_frame_without_an_address_the_link_is_shown(opened: Opener, pair: Path, folder: Path) -> None:
    """There the page keeps all it can, and shows what to put behind the address of the file."""
    quoted = pair.read_text(encoding="utf-8").replace("&", "&amp;").replace('"', "&quot;")
    host = folder / "framed.html"
    host.write_text(f'<iframe sandbox="allow-scripts" width="1200" height="850" srcdoc="{quoted}"></iframe>')
    frame = opened(host).frames[1]
    ready(frame)
    frame.locator("#epoch").fill("0")
    wait_for(frame, "before training")
    frame.locator("#pin-step").select_option("3")
    frame.get_by_role("button", name="Copy link").click()
    assert frame.locator("#link-text").input_value() == "#step=-1&pin=3"
    assert frame.locator("#link-part").is_visible()
    frame.get_by_role("button", name="Close").click()
    assert not frame.locator("#link").is_visible()


def test_runs_are_hidden_and_shown(opened: Opener, pair: Path) -> None:
    """A click on a run's name takes it out of grid, curves and dialog; the last one that is shown stays."""
    page = opened(pair)
    ready(page)
    second = page.locator("#title button").nth(1)
    second.click()
    settled(page)
    assert second.get_attribute("aria-pressed") == "false"
    group = page.locator(".target").first
    assert group.locator(".run:visible").count() == 1
    assert page.locator("#charts .plot").first.locator("path.curve:visible").count() == 1
    page.locator(".cell").first.click()
    settled(page)
    assert page.locator("#large-pictures figure:visible").count() == 1
    assert page.locator("#large-table tbody tr").count() == 2
    page.keyboard.press("Escape")
    page.locator("#title button").nth(0).click()
    settled(page)
    assert page.locator("#title button[aria-pressed=true]").all_inner_texts() == ["first"]
    second.click()
    settled(page)
    assert group.locator(".run:visible").count() == 2


def test_the_heat_under_the_pointer_is_told(opened: Opener, folder: Path) -> None:
    """In the large view: the share of the map's highest, and the raw value; of a difference what came or left."""
    maps = {step: np.zeros((1, 1, 4, 4), np.float32) for step in range(2)}
    maps[0][..., 1, 1], maps[0][..., 3, 3] = 8, 2
    maps[1][..., 1, 1] = 5
    journal = steady(make_journal(folder / "pointed", names=["cat"], targets=["tabby"], steps=range(2), maps=maps))
    page = opened(report.write([journal], folder / "pointed.html"))
    ready(page)
    page.keyboard.press("Home")
    page.keyboard.press("c")
    page.keyboard.press("End")
    page.locator(".cell").first.click()
    settled(page)
    for figure, (x, y), text in (
        ("shown", (3, 3), "epoch 1\n100 % of the map’s highest: 5.00 of 5.00"),
        ("shown", (7, 7), "epoch 1\n0 % of the map’s highest: 0.000 of 5.00"),
        ("pinned", (7, 7), "epoch 0\n25 % of the map’s highest: 2.01 of 8.00"),
        ("difference", (3, 3), "difference\nattention came: 20 % of the hottest spot"),
        ("difference", (7, 7), "difference\nattention left: 20 % of the hottest spot"),
        ("difference", (7, 1), "difference\nnothing changed: 0 % of the hottest spot"),
    ):
        box = page.locator(f"#large-pictures .{figure} canvas").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + x / 8 * box["width"], box["y"] + y / 8 * box["height"])
        assert page.locator("#tip").inner_text() == text


# ---- Groups ----


@pytest.fixture(scope="module")
def classes(folder: Path) -> Path:
    """The page of two runs of six white probes: of each label two, one with four times the evidence of the other."""
    steps = range(4)
    journals = []
    for run in range(2):
        maps = {step: np.zeros((6, 1, 4, 4), np.float32) for step in steps}
        for step, n in itertools.product(steps, range(6)):
            # The second run looks elsewhere on probe 4.
            column = (step + 1) % 4 if (run, n) == (1, 4) else step
            maps[step][n, 0, n // 3, column] = 8 if n < 3 else 2
        journals.append(
            make_journal(folder / f"classes{run}", names=list("abcdef"), targets=["tabby"], maps=maps, steps=steps)
        )
    report.write(journals[:1], folder / "class of one.html")
    return report.write(journals, folder / "classes.html")


def headings(page: Page) -> list[str]:
    return page.locator("#probes :is(h2, h3)").all_inner_texts()


def test_groups_begin_with_their_mean(opened: Opener, classes: Path) -> None:
    """By label each group has its probes; its mean map counts each over its own sum, and drift and focus are means."""
    page = opened(classes.with_name("class of one.html"))
    ready(page)
    page.locator("#colormap").select_option("Greys")
    page.locator("#group").select_option("label")
    settled(page)
    wanted = [
        ["beagle\n2 probes", "beagle", "b", "e"],
        ["cup\n2 probes", "cup", "c", "f"],
        ["tabby\n2 probes", "tabby", "a", "d"],
    ]
    assert headings(page) == [text for group in wanted for text in group]
    assert page.locator("#count").inner_text() == "6 probes, 3 groups"
    mean = page.locator(".mean").first
    canvas = mean.locator("canvas").first
    # At epoch 3 one probe looks at the first row, and the other, with a quarter of the evidence, at the second one.
    light = [canvas.evaluate(LIGHT, [(3 + 0.5) / 4, (row + 0.5) / 4]) for row in range(4)]
    ground = canvas.evaluate(LIGHT, [0.1, 0.9])
    assert abs(light[0] - light[1]) <= 2
    assert light[0] < ground - 40
    assert light[3] == ground
    assert mean.locator(".drifted").inner_text() == "100 %"
    told = "mean of 2 probes, beagle, target tabby, epoch 3, drift 100 %"
    page.wait_for_function(
        "told => document.querySelector('.mean canvas').getAttribute('aria-label') === told", arg=told
    )
    page.locator("#search").fill("d")
    settled(page)
    assert headings(page) == ["tabby\n1 probe", "tabby", "d"]


def test_groups_follow_the_epoch_and_say_where_runs_differ(opened: Opener, classes: Path) -> None:
    """Right or wrong are those of the epoch shown; keys group and stack, and a stack opens again."""
    page = opened(classes)
    ready(page)
    page.keyboard.press("g")
    assert page.locator("#group").input_value() == "label"
    page.locator("#group").select_option("right")
    settled(page)
    assert headings(page)[:2] == ["right\n6 probes", "right"]
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('#probes h2')?.textContent.startsWith('wrong')")
    page.keyboard.press("k")
    assert headings(page) == ["wrong"]
    assert page.locator("#stack").get_attribute("aria-pressed") == "true"
    page.keyboard.press("c")
    page.keyboard.press("End")
    page.wait_for_function("() => document.querySelector('#probes h3')?.textContent === 'right'")
    settled(page)
    page.reload()
    ready(page)
    assert headings(page) == ["right"]
    moved = page.locator(".mean .difference .note")
    assert moved.all_inner_texts() == ["100 % moved", "83 % moved"]
    page.locator(".stack").click()
    assert headings(page) == ["right\n6 probes", "right", *"abcdef"]


def test_probes_are_sorted_by_how_much_two_runs_differ(opened: Opener, classes: Path) -> None:
    """The one on which the second run looks elsewhere comes first; with one run there is nothing to choose."""
    page = opened(classes)
    ready(page)
    page.locator("#sort").select_option("runs")
    assert shown_names(page) == ["e", "a", "b", "c", "d", "f"]
    page = opened(classes.with_name("class of one.html"))
    assert page.locator("#sort option[value=runs]").is_disabled()


# ---- Zoom ----


def test_a_picture_is_enlarged_and_moved(opened: Opener, plain: Path) -> None:
    """By wheel, keys, drag and double click; the same place stays under the pointer, and the heat there is told."""
    page = opened(plain)
    ready(page)
    page.keyboard.press("Home")
    page.locator(".cell").first.click()
    page.keyboard.press("c")
    page.keyboard.press("End")
    settled(page)
    frames = page.locator("#large-pictures .frame")
    box = frames.first.bounding_box()
    assert box is not None
    x, y = round(box["x"] + 0.3 * box["width"]), round(box["y"] + 0.6 * box["height"])
    page.mouse.move(x, y)
    told = page.locator("#tip").inner_text()
    page.mouse.wheel(0, -400)
    settled(page)
    page.mouse.move(x + 1, y)
    page.mouse.move(x, y)
    scales = [
        frame.evaluate("node => node.firstChild.getBoundingClientRect().width / node.clientWidth")
        for frame in frames.all()
    ]
    assert len(scales) == 3
    assert scales == pytest.approx([np.exp(1)] * 3, rel=0.01)
    assert page.locator("#tip").inner_text() == told
    assert page.locator("#zoom-now").inner_text() == "272 %"

    def left() -> float:
        return float(frames.first.evaluate("node => node.firstChild.getBoundingClientRect().left"))

    before = left()
    page.mouse.down()
    page.mouse.move(x + 40, y + 10, steps=3)
    page.mouse.up()
    settled(page)
    assert left() - before == pytest.approx(40, abs=1)
    page.keyboard.press("Shift+ArrowLeft")
    settled(page)
    assert left() - before > 60
    assert page.locator("#large-now").inner_text() == "epoch 6"
    page.keyboard.press("0")
    settled(page)
    assert left() == pytest.approx(box["x"], abs=1)
    page.mouse.dblclick(x, y)
    assert page.locator("#zoom-now").inner_text() == "300 %"
    page.keyboard.press("x")
    assert page.locator("#zoom-now").inner_text() == "200 %"
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    page.locator(".cell").first.click()
    assert page.locator("#zoom-now").inner_text() == "100 %"


def test_two_fingers_enlarge_a_picture_on_a_phone(opened: Opener, plain: Path) -> None:
    """One finger scrolls the view, two fingers enlarge."""
    page = opened(plain, width=390, height=844, has_touch=True)
    ready(page)
    page.locator(".cell").first.click()
    settled(page)
    box = page.locator("#large-pictures .frame").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points})

    touch("touchStart", 30)
    for apart in (40, 50, 60):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    page.wait_for_function("() => document.getElementById('zoom-now').textContent === '200 %'")
    assert page.evaluate("visualViewport.scale") == 1


# ---- To take away ----


def saved(page: Page, button: str, place: Path) -> Path:
    """The file that a button of the large view saves."""
    page.locator(".save summary").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    file = place / f"{button} {download.value.suggested_filename}"
    download.value.save_as(file)
    return file


def test_pictures_curves_and_numbers_can_be_saved(opened: Opener, folder: Path) -> None:
    """Each file holds what is shown, with its names; numbers are those of the record, of all probes and steps."""
    about = {"names": ["white", HOSTILE], "targets": ["tabby", "cup"], "steps": range(-1, 3)}
    journal = make_journal(folder / "saved", **about)
    page = opened(report.write([journal], folder / "saved.html"))
    ready(page)
    page.locator(".cell").nth(2).click()
    page.keyboard.press("c")
    settled(page)
    picture = saved(page, "Pictures as PNG", folder)
    assert picture.name.endswith("_script_script_document.title_x_script_-tabby-epoch_2-picture.png")
    wide = page.locator("#large-pictures canvas").first.evaluate("canvas => canvas.width")
    image = np.asarray(Image.open(picture).convert("RGB"))
    assert image.shape[1] == 16 + 3 * (wide + 16)
    assert np.ptp(image[:, 16 : 16 + wide].astype(int), axis=2).max() > 60  # heat
    film = np.asarray(Image.open(saved(page, "Filmstrip as PNG", folder)).convert("RGB")).astype(int)
    for at in range(4):
        assert np.ptp(film[40:150, 16 + 166 * at : 170 + 166 * at], axis=2).max() > 60
    curves = ElementTree.parse(saved(page, "Curves as SVG", folder)).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in curves.findall(f"{space}text")] == ["Drift", "Probability", "Score"]
    lines = curves.findall(f".//{space}path[@class='curve']")
    assert len(lines) == 3
    assert all(line.get("stroke") == "rgb(29, 95, 168)" and line.get("fill") == "none" for line in lines)

    with Image.open(saved(page, "Animation as GIF", folder)) as animation:
        assert animation.n_frames == 4
        for at, pause in enumerate([200, 200, 200, 1500]):
            animation.seek(at)
            assert animation.info["duration"] == pause
            drawn = np.asarray(animation.convert("RGB")).astype(int)[38:278]
            for panel in range(2):  # the heat of the step, and that of the pinned one
                colourful = np.ptp(drawn[:, 16 + 336 * panel : 336 * (panel + 1)], axis=2)
                y, x = np.unravel_index(colourful.argmax(), colourful.shape)
                hottest = place_of((at - 1, 2)[panel], n=1)
                assert (x / 320, y / 240) == pytest.approx(hottest, abs=0.08)
    assert page.locator("#large-now").inner_text() == "epoch 2"

    text = saved(page, "All numbers as CSV", folder).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 4 * 2 * 2
    assert {row["probe"] for row in rows} == {"white", HOSTILE}
    (row,) = [row for row in rows if (row["epoch"], row["probe"], row["target"]) == ("2", HOSTILE, "cup")]
    step = journal.read(2)
    assert float(row["score"]) == step.scores[1, 1]
    assert float(row["probability"]) == pytest.approx(0.25, abs=1e-4)
    moved = drift.drift(journal.read(1).arrays["maps"], step.arrays["maps"])[1, 1]
    assert float(row["drift"]) == pytest.approx(moved, abs=1e-4)
    assert [row["drift"] for row in rows if row["epoch"] == "-1"] == [""] * 4
    assert (row["label"], row["health"]) == ("beagle", "ok")


# ---- For everyone ----


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core: from node_modules, or from the npm registry."""
    installed = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs axe-core: npm install axe-core")
    place = tmp_path_factory.mktemp("axe")
    try:
        subprocess.run([npm, "pack", "axe-core@4", "--silent"], cwd=place, check=True, capture_output=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"needs axe-core, and npm could not fetch it: {error}")
    with tarfile.open(next(place.glob("*.tgz"))) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def findings(page: Page, axe: str) -> list[str]:
    """What axe-core calls serious or critical."""
    page.evaluate(axe)
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']}: {found['help']} at {[node['target'] for node in found['nodes'][:3]]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (390, "dark"),
        *(pytest.param(*pair, marks=at_night) for pair in ((1280, "dark"), (390, "light"))),
    ],
)
def test_axe_finds_nothing_serious(
    opened: Opener, one: Path, flagged: Path, proven: Path, axe: str, scheme: str, width: int
) -> None:
    """Contrast, names, roles and focus are sound in both themes and at both widths, also in the dialogs."""
    page = opened(proven, width=width, color_scheme=scheme)
    ready(page)
    page.locator("details.folded summary").click()
    assert findings(page, axe) == []
    page = opened(flagged, width=width, color_scheme=scheme)
    ready(page)
    assert page.locator("html").get_attribute("data-theme") == scheme
    assert findings(page, axe) == []
    page = opened(one, width=width, color_scheme=scheme)
    ready(page)
    assert findings(page, axe) == []
    page.keyboard.press("c")
    settled(page)
    assert findings(page, axe) == []
    page.locator(".cell").first.click()
    page.keyboard.press("z")
    settled(page)
    assert findings(page, axe) == []
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelector('dialog[open]') === null")
    page.keyboard.press("g")
    page.locator(".stack").first.click()
    settled(page)
    assert findings(page, axe) == []
    page.keyboard.press("?")
    assert findings(page, axe) == []


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_nothing_is_wider_than_the_window(opened: Opener, one: Path, proven: Path, width: int) -> None:
    """The page does not scroll sideways, nor does the large view."""
    page = opened(proven, width=width, height=800)
    ready(page)
    page.locator("details.folded summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page = opened(one, width=width, height=800)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("c")
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".cell").first.click()
    settled(page)
    assert page.locator(".large-body").evaluate("node => node.scrollWidth - node.clientWidth") <= 0


def test_the_theme_can_be_turned(opened: Opener, one: Path) -> None:
    """The button turns light to dark, whatever the system prefers."""
    page = opened(one, color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_without_javascript_the_summary_is_there(opened: Opener, one: Path) -> None:
    """Who has no JavaScript reads what happened, and why there are no pictures."""
    page = opened(one, java_script_enabled=False)
    text = page.locator("body").inner_text()
    assert "Verdict: suspect. Attention" in text
    assert "need JavaScript" in text


def test_many_probes_draw_only_what_is_seen(opened: Opener, folder: Path) -> None:
    """Of 40 probes and 4 targets, canvases out of sight take no memory; those that come into sight are drawn."""
    journal = make_journal(
        folder / "many",
        names=[f"probe {n}" for n in range(40)],
        targets=["predicted", "tabby", "beagle", "cup"],
        steps=range(30),
    )
    page = opened(report.write([journal], folder / "many.html"))
    ready(page)
    sizes = "all => all.map(canvas => canvas.width)"
    drawn = page.locator(".cell canvas").evaluate_all(sizes)
    assert drawn[0] > 1
    assert drawn[-1] == 1
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("() => [...document.querySelectorAll('.cell canvas')].pop().width > 1")
    page.wait_for_function("() => document.querySelector('.cell canvas').width === 1")


def test_pictures_are_kept_where_asked(opened: Opener, one: Path, proven: Path) -> None:
    """With GRADCAM_SCREENSHOTS, what the page looks like is kept there."""
    place = os.environ.get("GRADCAM_SCREENSHOTS")
    if not place:
        pytest.skip("set GRADCAM_SCREENSHOTS to a folder to keep screenshots")
    Path(place).mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for name, file in (("report", one), ("proof", proven)):
            page = opened(file, color_scheme=scheme)
            ready(page)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=str(Path(place, f"{name}-{scheme}.png")))

"""The review page as a file: what is in it, what it refuses, how large it gets. `test_page` opens it in a browser."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from support.journals import HOSTILE, JAPANESE, Array, blob_at, jumping, make_journal, place_of
from support.reliance import a_finding, a_test, box

from gradcam_callbacks import drawing
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.measures import MEASURES, Measure
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.reviewing import drift, findings, outlines, report
from gradcam_callbacks.reviewing.assessing import assess


def data_of(page: str) -> dict[str, Any]:
    """What the script of a page gets."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpacked(text: str, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def shares(text: str, shape: tuple[int, ...]) -> Array:
    raw = unpacked(text, "<u2", shape)
    return np.where(raw == 65535, np.nan, raw / 65534)


class Elements(HTMLParser):
    """The tags of a page with their attributes, and the text of each script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag in ("script", "style", "title"):
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.texts:
            self.texts[self._open][-1] += data


# ---- What is in it ----


def test_the_page_holds_what_the_journal_recorded(tmp_path: Path) -> None:
    """Names, steps, scores, predictions, health, metrics, measures and the summary are those of the journal."""
    journal = make_journal(tmp_path / "run", empty=(1, 1), run_name="my run")
    run = data_of(report.build([journal]))["runs"][0]
    shape = (6, 2, 2)
    assert (run["name"], run["layer"], run["method"], run["score"]) == ("my run", "top_conv", "gradcam", "logit")
    assert run["steps"] == [-1, 0, 1, 2, 3, 4]
    recorded = [journal.read(step).arrays for step in journal.steps()]
    np.testing.assert_array_equal(unpacked(run["scores"], "<f4", shape), [each["scores"] for each in recorded])
    np.testing.assert_array_equal(unpacked(run["predicted"], "<i4", (6, 2)), [each["predicted"] for each in recorded])
    np.testing.assert_array_equal(unpacked(run["explained"], "<i4", shape), [each["explained"] for each in recorded])
    health = np.array(report.HEALTHS)[unpacked(run["health"], "u1", shape)]
    np.testing.assert_array_equal(health, [each["health"] for each in recorded])
    np.testing.assert_allclose(shares(run["probabilities"], shape), 0.25, atol=1e-5)
    moved = shares(run["measures"]["drift"], shape)
    assert np.isnan(moved[0]).all()
    assert np.isnan(moved[:, 1, 1]).all()
    np.testing.assert_allclose(
        moved[1, :, 1][0], drift.drift(recorded[0]["maps"], recorded[1]["maps"])[0, 1], atol=1e-4
    )
    np.testing.assert_allclose(shares(run["measures"]["floor"], shape), 0.02, atol=1e-4)
    assert run["curves"]["steps"] == run["steps"]
    assert run["curves"]["metrics"]["accuracy"] == [None, 0.5, 0.51, 0.52, 0.53, 0.54]
    assert "Attention" in "".join(text for text, _ in run["summary"])


def test_the_page_paints_as_tiles_do(tmp_path: Path) -> None:
    """Its first colour map, with its cover and opacity, gives the colours of an overlay, for each of 256 heats."""
    data = data_of(report.build([make_journal(tmp_path / "run")]))
    assert {"turbo", "jet"} < data["colormaps"].keys()
    name, table = next(iter(data["colormaps"].items()))
    paints = unpacked(table, "u1", (256, 4)).astype(float)
    heat = np.linspace(0, 1, 256, dtype=np.float32)[None, None, None]
    picture = np.full((1, 1, 256, 3), (20, 130, 240), np.uint8)
    share = data["opacity"] * paints[:, 3:] / 255
    painted = picture[0, 0] * (1 - share) + paints[:, :3] * share
    np.testing.assert_allclose(drawing.overlays(picture, heat)[0, 0, 0], painted, atol=1)
    assert name == drawing.COLORMAP


def test_a_misplaced_map_is_on_no_page(tmp_path: Path) -> None:
    """The page has its state and its scores; of its places it has nothing, and no measure of them."""
    journal = make_journal(tmp_path / "run", states={(1, 0): "misplaced"})
    run = data_of(report.build([journal]))["runs"][0]
    maps = unpacked(run["maps"], "u1", (6, 2, 2, 7, 7))
    assert (maps.max(axis=(3, 4)) == [[255, 255], [0, 255]]).all()
    assert (unpacked(run["peaks"], "<f4", (6, 2, 2))[:, 1, 0] == 0).all()
    assert {report.HEALTHS[code] for code in unpacked(run["health"], "u1", (6, 2, 2))[:, 1, 0]} == {"misplaced"}
    for name in ("drift", "from_first", "shift", "rank"):
        assert np.isnan(shares(run["measures"][name], (6, 2, 2))[:, 1, 0]).all(), name
    assert "Of 4 maps at epoch 4, 1 is misplaced." in "".join(text for text, _ in run["summary"])


def test_constant_answers_are_a_warning_of_the_page(tmp_path: Path) -> None:
    """The event has its kind, and its sentence is marked where the page begins."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    maps = {step: np.broadcast_to(blob_at(0.5, 0.5), (2, 1, 7, 7)).copy() for step in range(3)}
    about = {"names": ["cat", "dog"], "targets": ["tabby"], "pictures": pictures, "maps": maps, "steps": range(3)}
    journal = make_journal(tmp_path / "run", **about)
    steps = report.read_steps(journal)
    for step in steps:
        for name in ("predicted", "explained"):
            step.arrays[name][:] = 0
    data = data_of(report.build([journal], assessments=[assess(journal, steps)]))
    (event,) = (event for event in data["runs"][0]["events"] if event["kind"] == "constant")
    assert event["step"] == 0
    assert data["runs"][0]["summary"] == [[event["text"], True]]
    assert "constant" in data["warnings"]


def typedefs() -> dict[str, dict[str, str]]:
    """The properties of each type of the page, with their types."""
    source = (Path(report.__file__).parent / "page" / "js" / "types.js").read_text(encoding="utf-8")
    blocks = re.findall(r"@typedef \{object\} (\w+)(.*?)\*/", source, re.DOTALL)
    return {
        name: {key: kind for kind, key in re.findall(r"@property \{(.*?)\} (\w+)", block)} for name, block in blocks
    }


def test_the_page_gets_what_its_types_say(tmp_path: Path) -> None:
    """What is sent has the keys of the typedef `PageData`, and what lies in it those of its own types."""
    steps = range(8)
    mask = np.ones((48, 64), bool)
    journal = make_journal(tmp_path / "run", steps=steps, maps=jumping(steps, 5, 2, 2), regions=[mask, None])
    journal.leave_test(7, a_test("confirmed", "cleared"))
    types = typedefs()
    found = set()

    def check(value: Any, name: str) -> None:
        found.add(name)
        assert value.keys() == types[name].keys(), name
        for key, kind in types[name].items():
            of_value = re.fullmatch(r"(Record<string, )?(\w+)(\[\])?>?", kind)
            if of_value is None or of_value[2] not in types:
                continue
            parts = value[key].values() if of_value[1] else value[key] if of_value[3] else [value[key]]
            for part in parts:
                check(part, of_value[2])

    check(data_of(report.build([journal])), "PageData")
    of_tests = {"TestData", "FindingData", "AreaData"}
    assert found == {"PageData", "Settled", "Measure", "RunData", "Curves", "EventData"} | of_tests


def test_a_measure_is_sent_over_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A correlation between -1 and 1 is a share of the way between them; what has no upper end is sent as it is."""
    journal = make_journal(tmp_path / "run")
    maps = [step.arrays["maps"] for step in report.read_steps(journal)]
    rank = [drift.rank(*pair)[:, 1] for pair in itertools.pairwise(maps)]  # of the target that does not follow
    sent = data_of(report.build([journal]))["runs"][0]["measures"]
    np.testing.assert_allclose(2 * shares(sent["rank"], (6, 2, 2))[1:, :, 1] - 1, rank, atol=1e-4)
    monkeypatch.setitem(cast(dict[str, Measure], MEASURES), "rank", replace(MEASURES["rank"], high=None))
    sent = data_of(report.build([journal]))["runs"][0]["measures"]
    np.testing.assert_allclose(unpacked(sent["rank"], "<f4", (6, 2, 2))[1:, :, 1], rank, rtol=1e-6)


def test_maps_are_within_half_a_step_of_256(tmp_path: Path) -> None:
    """A map is on the page to half of 1/255 of its own maximum; the maximum itself is exact, and zero is zero."""
    generator = np.random.default_rng(5)
    maps = {step: (generator.random((2, 2, 7, 9)) ** 3 * 10.0 ** (step - 2)).astype(np.float32) for step in range(4)}
    maps[3][0, 1] = 0
    run = data_of(report.build([make_journal(tmp_path / "run", steps=range(4), maps=maps)]))["runs"][0]
    assert run["grid"] == [7, 9]
    peaks = unpacked(run["peaks"], "<f4", (4, 2, 2, 1, 1))
    shown = unpacked(run["maps"], "u1", (4, 2, 2, 7, 9)) / 255 * peaks
    recorded = np.stack(list(maps.values()))
    np.testing.assert_array_equal(peaks[..., 0, 0], recorded.max(axis=(3, 4)))
    assert (np.abs(shown - recorded) <= peaks * (0.5 / 255 + 1e-6)).all()
    assert not shown[3, 0, 1].any()


def test_a_map_that_is_not_finite_is_shown_as_empty(tmp_path: Path) -> None:
    """A NaN does not reach the page."""
    maps = {0: np.ones((1, 1, 4, 4), np.float32)}
    maps[0][0, 0, 1, 1] = np.nan
    journal = make_journal(tmp_path / "run", names=["cat"], targets=["tabby"], steps=[0], maps=maps)
    run = data_of(report.build([journal]))["runs"][0]
    assert not unpacked(run["maps"], "u1", (16,)).any()


def test_small_pictures_are_exact_and_large_ones_shrink(tmp_path: Path) -> None:
    """A picture is there once, as WebP: lossless up to 64 pixels, at most 448 pixels long."""
    generator = np.random.default_rng(1)
    for side, shown in ((32, 32), (600, 448)):
        pictures = generator.integers(0, 255, (2, side, side // 2, 3)).astype(np.uint8)
        data = data_of(report.build([make_journal(tmp_path / str(side), pictures=pictures)]))
        assert len(data["pictures"]) == 2
        assert data["size"] == [side, side // 2]
        prefix, _, content = data["pictures"][0].partition(",")
        assert prefix == "data:image/webp;base64"
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert max(image.size) == shown
        if side == 32:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pictures[0])


def test_it_is_small_enough(tmp_path: Path) -> None:
    """16 probes, 3 targets and 50 epochs at 224 pixels take at most 1.2 MB."""
    data = pytest.importorskip("skimage.data")
    squares = [np.asarray(Image.fromarray(data.astronaut()).rotate(20 * turn).resize((224, 224))) for turn in range(16)]
    journal = make_journal(
        tmp_path / "run",
        names=[f"probe {n}" for n in range(16)],
        targets=["predicted", "tabby", "cup"],
        steps=range(50),
        pictures=np.stack(squares),
    )
    assert len(report.build([journal]).encode()) < 1_200_000


# ---- Safe ----


def test_the_policy_forbids_all_but_the_page_itself(tmp_path: Path) -> None:
    """The content security policy lets through the one style and the one script that are there, by their hashes."""
    elements = Elements(report.build([make_journal(tmp_path / "run")]))
    policies = [attributes["content"] for tag, attributes in elements.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    policy = dict(part.strip().split(" ", 1) for part in str(policies[0]).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    for name, content in (("script-src", elements.texts["script"][-1]), ("style-src", elements.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"
    assert len(elements.texts["script"]) == 2
    assert len(elements.texts["style"]) == 1


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    """No element, style or script names an address; only the link that was given is in the data."""
    page = report.build([make_journal(tmp_path / "run")], links=["https://mlflow.example/run"])
    elements = Elements(page)
    loading = [value for _, tag in elements.tags for key, value in tag.items() if key in ("src", "href", "srcset")]
    assert set(loading) <= {"#probes", "data:,"}
    addresses = set(re.findall(r"https?://[^\s\"'<]*", page))
    assert addresses == {"http://www.w3.org/2000/svg", "https://mlflow.example/run"}  # the first is a namespace
    assert not re.search(r"@import|url\(", elements.texts["style"][0])


def test_names_cannot_end_the_script(tmp_path: Path) -> None:
    """Markup, line separators and any script in names stay text, wherever they are."""
    journal = make_journal(
        tmp_path / "run",
        names=[HOSTILE, f"{JAPANESE}\u2028\u2029"],
        targets=["predicted", HOSTILE],
        class_names=[HOSTILE, JAPANESE, "قطة"],
        layer=HOSTILE,
    )
    page = report.build([journal], names=[HOSTILE])
    elements = Elements(page)
    assert sum(tag == "script" for tag, _ in elements.tags) == 2
    assert elements.texts["title"][0].startswith(HOSTILE)
    data = data_of(page)
    assert data["names"] == [HOSTILE, f"{JAPANESE}\u2028\u2029"]
    assert data["runs"][0]["name"] == HOSTILE
    assert set(data["classes"].values()) >= {HOSTILE, JAPANESE}
    assert "\u2028" not in page


def test_only_web_addresses_are_links(tmp_path: Path) -> None:
    """A link that would run a script is refused."""
    journal = make_journal(tmp_path / "run")
    with pytest.raises(ValueError, match="starts with http"):
        report.build([journal], links=["javascript:alert(1)"])


# ---- Several runs ----


def test_several_runs_are_side_by_side(tmp_path: Path) -> None:
    """Each run keeps its own steps, layer and grid; names are told apart, the pictures are there once."""
    journals = [
        make_journal(tmp_path / "a", steps=range(6)),
        make_journal(tmp_path / "b", steps=range(0, 6, 2), grid=(4, 5), layer="other"),
    ]
    data = data_of(report.build(journals, names=["run", "run"], links=[None, "https://mlflow.example/b"]))
    first, second = data["runs"]
    assert (first["name"], second["name"]) == ("run", "run (2)")
    assert (first["steps"], second["steps"]) == ([0, 1, 2, 3, 4, 5], [0, 2, 4])
    assert (first["grid"], second["grid"]) == ([7, 7], [4, 5])
    assert (first["link"], second["link"]) == (None, "https://mlflow.example/b")
    assert len(data["pictures"]) == 2


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"names": ["cat", "cup"]}, r"only 'a' has the probes 'dog'; only 'b' has the probes 'cup'"),
        ({"names": ["dog", "cat"]}, "the probes are in another order"),
        ({"targets": ["predicted", "cup"]}, "only 'a' has the targets 'tabby'; only 'b' has the targets 'cup'"),
        ({"pictures": np.zeros((2, 48, 64, 3), np.uint8)}, "the pixels of 'cat', 'dog' differ"),
        ({}, "the pictures look the same, but what the model was fed"),
    ],
)
def test_other_probes_are_refused(tmp_path: Path, other: dict[str, Any], reason: str) -> None:
    """Runs of different probe sets are not compared, and the error says how they differ."""
    journals = [make_journal(tmp_path / "a"), make_journal(tmp_path / "b", digest="b" * 64, **other)]
    with pytest.raises(ValueError, match=reason):
        report.build(journals)


def test_epochs_and_batches_are_not_on_one_page(tmp_path: Path) -> None:
    """A step is not the same in the two."""
    journals = [make_journal(tmp_path / "a"), make_journal(tmp_path / "b", unit="batch")]
    with pytest.raises(ValueError, match="A step of 'a' is one epoch, of 'b' one batch: they cannot be aligned"):
        report.build(journals)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """No journal, one without steps, and names or links of another number are errors that say so."""
    journal = make_journal(tmp_path / "run")
    with pytest.raises(ValueError, match="No journal to report"):
        report.build([])
    with pytest.raises(ValueError, match="has no step that can be read"):
        report.build([make_journal(tmp_path / "none", steps=[])])
    with pytest.raises(ValueError, match="1 journals, but 2 names"):
        report.build([journal], names=["a", "b"])
    with pytest.raises(ValueError, match="2 links"):
        report.build([journal], links=[None, None])


# ---- Too much, too little ----


def test_too_many_steps_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the budget are the first, the last, the flagged step and the one before it; the page says so."""
    monkeypatch.setattr(report, "_MAP_BYTES", 20 * 49)
    steps = range(100)
    journal = make_journal(tmp_path / "run", names=["cat"], targets=["tabby"], steps=steps, maps=jumping(steps, 61))
    for step in steps:  # what is predicted does not change
        arrays = dict(journal.read(step).arrays) | {"predicted": np.array([0], np.int32), "explained": np.array([[0]])}
        journal.append(step, arrays, {"accuracy": 0.9})
    run = data_of(report.build([journal]))["runs"][0]
    assert len(run["steps"]) <= 20
    assert {0, 99, 60, 61} <= set(run["steps"])
    assert max(np.diff(run["steps"])) <= 12
    assert [event["step"] for event in run["events"] if event["kind"] == "moved"] == [61]
    assert len(run["curves"]["drift"]) == 100
    assert any(note.startswith("Thinned: the maps of") for note in run["notes"])
    assert len(unpacked(run["maps"], "u1", (-1,))) <= 20 * 49


def test_fine_grids_give_way_before_steps_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a finer grid would cost steps, a coarser one of the same proportions is taken."""
    monkeypatch.setattr(report, "_MAP_BYTES", 12 * 14 * 7)
    journal = make_journal(tmp_path / "run", names=["cat"], targets=["tabby"], steps=range(12), grid=(56, 28))
    run = data_of(report.build([journal]))["runs"][0]
    assert run["grid"] == [14, 7]
    assert len(run["steps"]) == 12
    maps = unpacked(run["maps"], "u1", (12, 14, 7))
    for step, shown in zip(run["steps"], maps, strict=True):
        row, column = np.unravel_index(shown.argmax(), shown.shape)
        x, y = place_of(step)
        assert abs((column + 0.5) / 7 - x) <= 0.5 / 7 + 1e-6
        assert abs((row + 0.5) / 14 - y) <= 0.5 / 14 + 1e-6


def test_a_damaged_step_is_left_out_and_told(tmp_path: Path) -> None:
    """A file that cannot be read costs only its own step."""
    journal = make_journal(tmp_path / "run")
    journal.path(2).write_bytes(b"torn")
    run = data_of(report.build([Journal(tmp_path / "run")]))["runs"][0]
    assert run["steps"] == [-1, 0, 1, 3, 4]
    assert "1 step could not be read from the journal." in run["notes"]


def test_lost_and_cut_epochs_are_told(tmp_path: Path) -> None:
    """What could not be explained, and an epoch that did not end, are notes."""
    journal = make_journal(tmp_path / "run")
    last = journal.read(4)
    journal.append(4, dict(last.arrays) | {"lost": np.array(2), "cut_short": np.array(True)}, last.logs)
    notes = data_of(report.build([journal]))["runs"][0]["notes"]
    assert "2 epochs could not be explained, and are missing." in notes
    assert "Epoch 4 was cut short." in notes


def test_probabilities_labels_and_names_may_be_missing(tmp_path: Path) -> None:
    """A regression has no probabilities, labels or class names; without a unit, steps are epochs."""
    journal = make_journal(tmp_path / "run", has_probabilities=False, class_names=None, labels=None)
    file = journal.directory / "manifest.json"
    held = json.loads(file.read_text())
    for key in ("unit", "regions", "labels"):
        del held[key]
    file.write_text(json.dumps(held))
    journal = Journal(journal.directory)
    data = data_of(report.build([journal]))
    assert data["unit"] == "epoch"
    assert data["labels"] is None
    assert data["runs"][0]["probabilities"] is None
    assert "focus" not in data["runs"][0]["measures"]
    assert set(data["classes"].values()) == {"class_0", "class_1", "class_2"}


def test_signals_and_volumes_have_pictures_too(tmp_path: Path) -> None:
    """The map of a signal is one row; that of a volume lies over the mosaic of its slices."""
    signals = {0: np.zeros((2, 2, 300), np.float32)}
    signals[0][..., 200:210] = 1
    run = data_of(report.build([make_journal(tmp_path / "signal", steps=[0], maps=signals)]))["runs"][0]
    assert run["grid"] == [1, 128]
    row = unpacked(run["maps"], "u1", (2, 2, 128))[0, 0]
    assert abs((row.argmax() + 0.5) / 128 - 205 / 300) < 0.02

    volumes = {0: np.zeros((2, 2, 4, 6, 6), np.float32)}
    volumes[0][..., 3, 2, 4] = 5  # the last slice: down right in the mosaic
    pictures = np.zeros((2, 200, 200, 3), np.uint8)
    journal = make_journal(
        tmp_path / "volume", steps=[0], maps=volumes, pictures=pictures, slices=drawing.slice_count(4)
    )
    run = data_of(report.build([journal]))["runs"][0]
    height, width = run["grid"]
    shown = unpacked(run["maps"], "u1", (2, 2, height, width))[0, 0]
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert abs((y + 0.5) / height - (0.5 + 2.5 / 12)) < 0.03
    assert abs((x + 0.5) / width - (0.5 + 4.5 / 12)) < 0.03


@pytest.mark.parametrize(
    ("shape", "size"), [((9, 29), (90, 290)), ((56, 28), (56, 28)), ((2, 3, 3), (48, 64)), ((200,), (48, 64))]
)
def test_the_size_of_the_maps_is_that_of_the_record(
    tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]
) -> None:
    """The page says the size that maps were recorded in, however fine its own grid is."""
    steps = range(2)
    maps = {step: np.random.default_rng(step).random((2, 1, *shape)).astype(np.float32) for step in steps}
    pictures = np.full((2, *size, 3), 255, np.uint8)
    slices = {"slices": 2} if len(shape) == 3 else {}
    journal = make_journal(tmp_path / "run", targets=["tabby"], steps=steps, maps=maps, pictures=pictures, **slices)
    (run,) = data_of(report.build([journal]))["runs"]
    assert run["shape"] == list(shape)


def test_an_event_knows_its_probes(tmp_path: Path) -> None:
    """A jump is about one; what a test found about those that it shows; answers that are constant about all."""
    steps = range(6)
    jumped = make_journal(tmp_path / "jumped", targets=["tabby"], steps=steps, maps=jumping(steps, 5, count=2))
    for step in jumped.steps():
        calm = {"predicted": np.zeros(2, np.int32), "explained": np.zeros((2, 1), np.int32), "scores": np.ones((2, 1))}
        jumped.append(step, dict(jumped.read(step).arrays) | calm, {})
    (run,) = data_of(report.build([jumped]))["runs"]
    assert [event["probes"] for event in run["events"] if event["kind"] == "moved"] == [[0], [1]]

    tested = make_journal(tmp_path / "tested", names=["a", "b", "c"], steps=range(2))
    tested.leave_test(1, a_test("confirmed", probes=(0, 2)))
    (run,) = data_of(report.build([tested]))["runs"]
    assert [event["probes"] for event in run["events"] if event["kind"] == "shortcut"] == [[0, 2]]

    pictures = np.stack([np.full((48, 64, 3), value, np.uint8) for value in (0, 255)])
    same = {step: np.ones((2, 1, 3, 3), np.float32) for step in range(2)}
    constant = make_journal(tmp_path / "constant", targets=["tabby"], steps=range(2), pictures=pictures, maps=same)
    for step in constant.steps():
        calm = {"predicted": np.zeros(2, np.int32), "explained": np.zeros((2, 1), np.int32), "scores": np.ones((2, 1))}
        constant.append(step, dict(constant.read(step).arrays) | calm, {})
    (run,) = data_of(report.build([constant]))["runs"]
    assert [event["probes"] for event in run["events"] if event["kind"] == "constant"] == [None]


def test_the_curve_of_focus_is_that_of_the_class_of_the_picture(tmp_path: Path) -> None:
    """It is what a suspicion is about: the maps of another class should lie beside the object, and do not lower it."""
    left = box(0, 0, 48, 32)
    maps = np.zeros((1, 2, 4, 4), np.float32)
    maps[0, 0, :, :2] = 3  # explains class 0, the label: 3 of 4 parts within the region
    maps[0, 0, :, 2:] = 1
    maps[0, 1, :, 2:] = 1  # explains class 1: all beside it
    journal = make_journal(
        tmp_path / "run", names=["cat"], targets=["tabby", "beagle"], steps=[0], maps={0: maps}, regions=[left]
    )
    step = journal.read(0)
    journal.append(
        0, dict(step.arrays) | {"explained": np.array([[0, 1]], np.int32), "predicted": np.zeros(1, np.int32)}, {}
    )
    (run,) = data_of(report.build([journal]))["runs"]
    assert run["curves"]["focus"] == [pytest.approx(0.75)]


# ---- Regions ----


def rings_of(path: str) -> list[Array]:
    return [np.array([place.split() for place in ring[1:].split("L")], float) for ring in path.split("Z") if ring]


def area(ring: Array) -> float:
    """Signed area by the shoelace formula."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def test_the_outline_of_a_box_is_its_corners(tmp_path: Path) -> None:
    """A box is four corners in thousandths of the picture; a probe without a region has no outline."""
    mask = np.zeros((48, 64), bool)
    mask[12:36, 16:48] = True
    data = data_of(report.build([make_journal(tmp_path / "run", regions=[mask, None])]))
    outline, none = data["regions"]
    assert none is None
    corners = {tuple(corner) for corner in rings_of(outline)[0].tolist()}
    assert corners >= {(250, 250), (750, 250), (750, 750), (250, 750)}
    assert abs(area(rings_of(outline)[0])) == pytest.approx(250_000)
    assert "focus" in data["runs"][0]["measures"]


ROWS, COLUMNS = np.mgrid[:8, :8]


@pytest.mark.parametrize(
    ("mask", "path"),
    [
        (ROWS >= COLUMNS, "M62 0L1000 938L0 1000Z"),
        ((COLUMNS < 2) | ((COLUMNS < 5) & (ROWS > 3)), "M125 0L250 250L250 500L625 500L625 1000L0 1000L0 500Z"),
        ((ROWS == 3) & (COLUMNS == 4), "M562 375L625 438L562 500L500 438Z"),
        ((ROWS == COLUMNS) & (ROWS < 2), "M62 0L125 62L62 125L0 62ZM188 125L250 188L188 250L125 188Z"),
    ],
    ids=["stairs", "two boxes", "a pixel", "two pixels"],
)
def test_stairs_become_a_line_and_corners_of_three_pixels_stay(mask: Array, path: str) -> None:
    """The path of small masks, by hand: what lies within a third of a pixel of a line is no point of it."""
    assert outlines.outline(mask) == path


def test_the_outline_of_any_mask_encloses_its_area() -> None:
    """Round masks, holes, parts that touch at a corner, and parts at the edge keep their area."""
    rows, columns = np.mgrid[:200, :200] / 200
    disc = (rows - 0.4) ** 2 + (columns - 0.5) ** 2 < 0.3**2
    ring = disc & ((rows - 0.4) ** 2 + (columns - 0.5) ** 2 > 0.1**2)
    touching = np.zeros((200, 200), bool)
    touching[20:60, 20:60] = touching[60:100, 60:100] = True
    edge = columns < 0.25
    for mask in (disc, ring, touching, edge):
        path = outlines.outline(mask)
        assert path is not None
        enclosed = abs(sum(area(each) for each in rings_of(path)))
        assert enclosed == pytest.approx(1e6 * mask.mean(), rel=0.02)
        assert len(path) < 3000
    noise = np.random.default_rng(0).random((224, 224)) > 0.5
    assert len(str(outlines.outline(noise))) < 40_000


def test_focus_is_measured_where_the_journal_lacks_it(tmp_path: Path) -> None:
    """A journal with regions and without recorded focus still shows focus."""
    mask = np.ones((48, 64), bool)
    journal = make_journal(tmp_path / "run", regions=[mask, mask])
    for step in journal.steps():
        recorded = journal.read(step)
        arrays = {name: array for name, array in recorded.arrays.items() if name != "focus"}
        journal.append(step, arrays, recorded.logs)
    run = data_of(report.build([journal]))["runs"][0]
    np.testing.assert_allclose(shares(run["measures"]["focus"], (6, 2, 2)), 1, atol=1e-4)


# ---- Verdict and proof ----


def test_the_verdict_and_what_tests_found_are_on_the_page(tmp_path: Path) -> None:
    """The word, and of a finding the sentence, the counts that there are, the outlines and the attention on them."""
    journal = make_journal(tmp_path / "run")
    finding = a_finding(
        kind="common", probes=(0, 1), decisive=(1,), covered=(1, 2), elsewhere=(0, 6), areas=(box(0, 0, 24, 32),) * 2
    )
    journal.leave_test(4, Reliance(findings=(finding, a_finding("cleared", answer=1)), passes=9))
    page = report.build([journal])
    run = data_of(page)["runs"][0]
    assert run["verdict"] == "shortcut"
    (test,) = run["tests"]
    first, second = test["findings"]
    assert (test["step"], test["reason"], test["unlisted"]) == (4, "", 0)
    assert first | {"attention": None} == {
        "answer": 0,
        "kind": "common",
        "outcome": "confirmed",
        "text": findings.text(finding, journal.manifest),
        "counts": {"covered": [1, 2], "elsewhere": [0, 6]},
        "areas": [{"probe": 1, "path": outlines.outline(box(0, 0, 24, 32))}],
        "others": 0,
        "attention": None,
    }
    assert rings_of(first["areas"][0]["path"])[0].max(axis=0).tolist() == [500, 500]
    assert (second["outcome"], second["attention"]) == ("cleared", None)
    assert [event["kind"] for event in run["events"] if event["kind"] == "shortcut"] == ["shortcut"]
    assert set(data_of(page)["classes"]) >= {"0", "1"}


def test_attention_on_the_area_is_that_of_every_step_of_the_curves(tmp_path: Path) -> None:
    """Attention that goes over from the right half to the left one is 0 and then 1 on the left half."""
    maps = {step: np.zeros((2, 1, 6, 8), np.float32) for step in range(5)}
    for step, of_step in maps.items():
        of_step[..., slice(4, 8) if step < 3 else slice(0, 4)] = 1
    journal = make_journal(tmp_path / "run", targets=["tabby"], steps=range(5), maps=maps)
    for step in range(5):
        answers = {"predicted": np.zeros(2, np.int32), "explained": np.zeros((2, 1), np.int32)}
        journal.append(step, dict(journal.read(step).arrays) | answers, {})
    journal.leave_test(4, a_test("untold", kind="common", probes=(0, 1), areas=(box(0, 0, 48, 32),) * 2))
    run = data_of(report.build([journal]))["runs"][0]
    assert run["tests"][0]["findings"][0]["attention"] == [0, 0, 0, 1, 1]
    assert [event["step"] for event in run["events"] if event["kind"] == "suspect"] == [3]
    assert run["verdict"] == "suspect"


def test_earlier_tests_are_told_where_they_differ(tmp_path: Path) -> None:
    """What an earlier test found of the same answers and the same is left out; what it found otherwise is not."""
    journal = make_journal(tmp_path / "run")
    journal.leave_test(1, Reliance(findings=(a_finding("untold"), a_finding("cleared", answer=1))))
    journal.leave_test(3, Reliance(findings=(a_finding("confirmed"), a_finding("cleared", kind="common"))))
    journal.leave_test(4, Reliance(findings=(a_finding("confirmed"), a_finding("cleared", answer=1))))
    told = [
        (test["step"], [(each["answer"], each["kind"], each["outcome"]) for each in test["findings"]])
        for test in data_of(report.build([journal]))["runs"][0]["tests"]
    ]
    assert told == [
        (1, [(0, "outside", "untold")]),
        (3, [(0, "common", "cleared")]),
        (4, [(0, "outside", "confirmed"), (1, "outside", "cleared")]),
    ]


def test_a_proof_stays_small(tmp_path: Path) -> None:
    """Of many findings the first are shown, and eight pictures of each; how many more is told. No picture is copied."""
    names = [f"probe {n}" for n in range(20)]
    journal = make_journal(tmp_path / "run", names=names, targets=["tabby"], steps=[0])
    before = report.build([journal])
    found = [a_finding(probes=range(20), answer=answer, kind="common") for answer in range(30)]
    journal.leave_test(0, Reliance(findings=tuple(found)))
    page = report.build([journal])
    (test,) = data_of(page)["runs"][0]["tests"]
    assert (len(test["findings"]), test["unlisted"]) == (24, 6)
    assert {(len(each["areas"]), each["others"]) for each in test["findings"]} == {(8, 12)}
    assert page.count("data:image") == before.count("data:image")
    assert len(page) - len(before) < 100_000


def test_a_journal_without_tests_has_a_verdict_of_its_maps(tmp_path: Path) -> None:
    """Nothing was tested: the maps alone say that attention had not settled."""
    run = data_of(report.build([make_journal(tmp_path / "run")]))["runs"][0]
    assert (run["verdict"], run["tests"]) == ("unsettled", [])


# ---- Words, files, imports ----


def test_the_warnings_of_the_summary_are_marked(tmp_path: Path) -> None:
    """The pieces are the whole summary, and what warns is one of them."""
    steps = range(8)
    journal = make_journal(tmp_path / "run", names=["cat"], targets=["tabby"], steps=steps, maps=jumping(steps, 5))
    for step in steps:
        arrays = dict(journal.read(step).arrays) | {"predicted": np.array([0], np.int32), "explained": np.array([[0]])}
        journal.append(step, arrays | {"scores": np.array([[2.0]])}, {"accuracy": 0.9})
    page = report.build([journal])
    pieces = data_of(page)["runs"][0]["summary"]
    warned = [text for text, is_warning in pieces if is_warning]
    assert warned == ["It jumped at epoch 5 while the prediction stayed."]
    assert "".join(text for text, _ in pieces) in page  # for those without JavaScript


def test_write_replaces_the_page_as_a_whole(tmp_path: Path) -> None:
    """The file is what `build` gives, in a folder that is made, and nothing else is left behind."""
    journal = make_journal(tmp_path / "run")
    path = tmp_path / "deep" / "page.html"
    assert report.write([journal], path, names=["a"]) == path
    assert report.write([journal], str(path), names=["b"]) == path
    assert path.read_text(encoding="utf-8") == report.build([journal], names=["b"])
    assert list(path.parent.iterdir()) == [path]


def test_building_loads_neither_tensorflow_nor_mlflow() -> None:
    """A report can be built where neither is installed."""
    code = "import sys, gradcam_callbacks.reviewing.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "mlflow"} & set(loaded)

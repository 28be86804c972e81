"""Journals that were not made by us, or not lately: the one file is left out or named, and takes no memory."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.journals import make_journal

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import report

MEGABYTE = 1 << 20
STEP = Path("run/steps/1.npz")
MANIFEST = Path("run/manifest.json")


@pytest.fixture(autouse=True)
def a_journal(own_place: None) -> None:
    """A journal of three steps, 0 to 2, of two probes and two targets."""
    make_journal(Path("run"), steps=(0, 1, 2))


def with_arrays(**changes: Any) -> None:
    """Writes step 1 with other arrays; one is missing where it is None."""
    with np.load(STEP) as whole:
        arrays = dict(whole)
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    arrays["arrays"] = np.array(sorted(arrays.keys() - {"arrays", "logs", "time"}), str)
    np.savez(STEP, **arrays)


def swell(name: str, shape: tuple[int, ...], descr: str = "|u1", *, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Puts an array of zeros into step 1, in the place of the one of this name if there is one."""
    with np.load(STEP) as whole:
        others = {key: array for key, array in whole.items() if key != name}
    np.savez(STEP, **others)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(STEP, "a", method) as archive, archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        file.write(header.getvalue())
        for _ in range(int(np.prod(shape)) * np.dtype(descr).itemsize // MEGABYTE):
            file.write(bytes(MEGABYTE))


def data_of(page: str) -> dict[str, Any]:
    """What the page's script gets."""
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def steps_and_warning(caplog: pytest.LogCaptureFixture) -> tuple[list[int], str]:
    """The steps on the page, and the one warning; less than 60 MB are taken."""
    caplog.clear()
    tracemalloc.start()
    data = data_of(report.build([Journal("run")]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * MEGABYTE
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) <= 1
    return data["runs"][0]["steps"], "".join(messages)


def test_an_unknown_array_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    """A member that unpacks to 200 MB costs nothing, and the step is used."""
    swell("unused", (200 * MEGABYTE,))
    assert STEP.stat().st_size < MEGABYTE
    assert steps_and_warning(caplog) == ([0, 1, 2], "")


SWOLLEN = {
    "more cells than a step may have": (("maps", (2, 2, 1024, 17 * 1024), "<f4"), "a step has 256 MB at most"),
    "more scores than maps": (("scores", (25 * MEGABYTE,), "<f8"), "has shape .* as 2 probes and 2 targets ask for"),
    "long states": (("health", (2, 2), "<U13107200"), "'health' is not what it should be: states of maps"),
    "long metrics": (("logs", (), "<U13107200"), "'logs' is not what it should be: a short text"),
    "long names": (("arrays", (100,), "<U524288"), "'arrays' is not what it should be: names"),
}


@pytest.mark.parametrize("case", SWOLLEN)
def test_a_swollen_array_is_not_unpacked(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its header says how much it would take: the step is left out, with the reason."""
    array, reason = SWOLLEN[case]
    swell(*array)
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert warning.startswith(f"Journal file '{STEP.absolute()}' is damaged: ")
    with pytest.raises(GradCAMError, match=reason):
        Journal("run").read(1)


@pytest.mark.parametrize(
    "names", [np.arange(3), np.array([["maps"]]), np.array("maps")], ids=["numbers", "table", "text"]
)
def test_the_names_of_arrays_are_a_list_of_texts(names: Any) -> None:
    """Numbers, a table or one text in their place are said to be wrong, and are no traceback."""
    with np.load(STEP) as whole:
        np.savez(STEP, **(dict(whole) | {"arrays": names}))
    with pytest.raises(GradCAMError, match="is damaged: its array 'arrays' is not what it should be: names"):
        Journal("run").read(1)


def test_other_ways_of_packing_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    """LZMA unpacks all that there is at once, so that it is not begun."""
    swell("maps", (2, 2, 25 * MEGABYTE), method=zipfile.ZIP_LZMA)
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert "packed in a way that NumPy does not use" in warning


def test_a_header_that_lies_is_found(caplog: pytest.LogCaptureFixture) -> None:
    """An array that is longer than its header says is not read."""
    swell("lost", (), "|u1")
    with zipfile.ZipFile(STEP, "a") as archive:
        archive.writestr("cut_short.npy", zipfile.ZipFile(STEP).read("maps.npy") + bytes(8))
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert "is longer or shorter than its header says" in warning


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "no explained": ({"explained": None}, r"it lacks the arrays \['explained'\]"),
    "no maps": ({"maps": None}, r"it lacks the arrays \['maps'\]"),
    "three probes": (
        {"maps": np.ones((3, 2, 7, 7), np.float32)},
        r"'maps' has shape \(3, 2, 7, 7\), not \(2, 2, 7, 7\)",
    ),
    "no grid": ({"maps": np.ones((2, 2), np.float32)}, "'maps' is not what it should be"),
    "an empty grid": ({"maps": np.ones((2, 2, 0, 7), np.float32)}, "'maps' is not what it should be"),
    "volumes": ({"maps": np.ones((2, 2, 3, 7, 7), np.float32)}, "does not go with the pictures in the manifest"),
    "negative maps": ({"maps": -np.ones((2, 2, 7, 7), np.float32)}, "'maps' is not what it should be: numbers of 0 or"),
    "texts for maps": ({"maps": np.full((2, 2, 7, 7), "a")}, "'maps' is not what it should be"),
    "one score": ({"scores": np.ones(1)}, r"'scores' has shape \(1,\), not \(2, 2\)"),
    "complex scores": ({"scores": np.ones((2, 2), complex)}, "'scores' holds neither numbers nor texts"),
    "half classes": ({"explained": np.full((2, 2), 0.5)}, "'explained' is not what it should be: classes"),
    "a class too far": ({"predicted": np.full(2, 2**40)}, "'predicted' is not what it should be: classes"),
    "an unknown state": ({"health": np.full((2, 2), "fine")}, r"that this version knows \(it holds \['fine'\]\)"),
    "no time": ({"time": np.array(np.nan)}, "'time' is not what it should be: seconds since 1970"),
    "metrics of words": ({"logs": np.array('{"loss": "low"}')}, "its metrics are no numbers by name"),
    "metrics that are a list": ({"logs": np.array("[1]")}, "its metrics are no numbers by name"),
    "deep metrics": ({"logs": np.array("[" * 100_000)}, "it was cut or changed after it had been written"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_readable_step_of_another_kind_is_left_out(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others are on the page, and the warning says in our words what is wrong with this one."""
    changes, reason = MISFITS[case]
    with_arrays(**changes)
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert warning.endswith(". It is left out.")
    with pytest.raises(GradCAMError, match=f"is damaged: .*{reason}"):
        Journal("run").read(1)


def test_a_step_on_another_grid_is_not_on_the_page(caplog: pytest.LogCaptureFixture) -> None:
    """It is sound in itself, so that it is sent, but it cannot be compared with the others."""
    with_arrays(maps=np.ones((2, 2, 3, 7), np.float32))
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert "are 7×7. Those of these steps have another size and cannot be compared" in warning
    assert warning.endswith(": 1.")
    assert Journal("run").steps() == [0, 1, 2]


def replaced(file: Path, kind: str) -> None:
    """Puts a pipe, or a link to a file without an end, in the place of a file."""
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_step_that_is_no_regular_file_is_left_out(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing waits for a pipe, and no file without an end is read."""
    replaced(STEP, kind)
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert f"'{STEP.absolute()}' is no regular file but a pipe, a device or a socket" in warning


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_manifest_that_is_no_regular_file_is_named(kind: str) -> None:
    """So is each journal that would go on with it."""
    replaced(MANIFEST, kind)
    with pytest.raises(GradCAMError, match=r"manifest\.json' is no regular file"):
        Journal("run")


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_marks_and_status_that_are_no_regular_files_count_as_missing(kind: str) -> None:
    """What has arrived is asked of the run then; marks stay in memory."""
    replaced(Path("run/uploaded"), kind)
    replaced(Path("run/status"), kind)
    journal = Journal("run")
    assert (journal.uploaded(), journal.status) == (frozenset(), None)
    journal.mark_uploaded("maps/0")
    assert journal.uploaded() == {"maps/0"}
    assert journal.held == 1


def test_marks_and_a_status_of_something_else_count_as_missing() -> None:
    """Lists, numbers, deep nesting and unknown words are no marks, and no status."""
    Path("run/uploaded").write_bytes(b'"a"\n[1]\n2\n' + b"[" * 100_000 + b'\n\xff\n"b"\n')
    Path("run/status").write_text("GREAT")
    journal = Journal("run")
    assert (journal.uploaded(), journal.status) == ({"a", "b"}, None)


def test_a_file_that_is_too_long_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    """A file of 3 GB of nothing takes no memory."""
    os.truncate(STEP, 3 << 30)
    steps, warning = steps_and_warning(caplog)
    assert steps == [0, 2]
    assert "has more than 536,870,912 bytes, which are not read" in warning


def with_fields(**changes: Any) -> None:
    held = json.loads(MANIFEST.read_bytes()) | changes
    MANIFEST.write_text(json.dumps({key: value for key, value in held.items() if value is not ...}))


def png(width: int, height: int) -> str:
    """A PNG of zeros; its header says all."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(("side", "reason"), [(13_000, "13000×13000 pixels"), (30_000, "no whole PNG")])
def test_huge_pictures_in_a_manifest_are_refused(side: int, reason: str) -> None:
    """Their headers say their size, before they take memory; the steps can be read."""
    with_fields(pictures=[png(side, side)] * 2)
    journal = Journal("run")
    assert journal.steps() == [0, 1, 2]
    with pytest.raises(GradCAMError, match=f"The pictures in .*manifest.json' are damaged: .* probe 'cat' .*{reason}"):
        report.build([journal])


def test_pictures_and_regions_that_do_not_fit_are_named() -> None:
    """No picture, one of another size, and regions that are none."""
    whole = json.loads(MANIFEST.read_bytes())["pictures"]
    small = base64.b64encode(_saved(np.zeros((4, 4, 3), np.uint8))).decode()
    grey = base64.b64encode(_saved(np.zeros((48, 64), np.uint8))).decode()
    for pictures, reason in (
        ([], "there are none"),
        ([whole[0], small], "'dog' has another size than the others"),
        ([grey, grey], "'cat' is not in colours of 8 bits"),
    ):
        with_fields(pictures=pictures)
        with pytest.raises(GradCAMError, match=f"The pictures in .* are damaged: .*{reason}"):
            report.build([Journal("run")])
    for regions, reason in (
        (["AAAA", None], "the region of probe 'cat' is no whole PNG"),
        ([None, small], "the region of probe 'dog' is no mask"),
        ([grey, base64.b64encode(_saved(np.zeros((4, 4), np.uint8))).decode()], "'dog' has another size than the"),
    ):
        with_fields(pictures=whole, regions=regions)
        with pytest.raises(GradCAMError, match=rf"The regions in .* are damaged: .*{reason}"):
            report.build([Journal("run")])


def _saved(picture: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 1_000_000, "it is no JSON"),
        (b'{"format": 1, "others": [' + b"[]," * 1_500_000 + b"0]}", "it has more than 2,000,000 entries"),
        (b'{"format": 1', "it is no JSON from line 1, column 13 on"),
        (b"\xff\xfe", "it is no JSON"),
    ],
)
def test_a_manifest_that_is_no_text_of_ours_is_named(content: bytes, reason: str) -> None:
    """Deep, endless or broken JSON is told in our words."""
    MANIFEST.write_bytes(content)
    with pytest.raises(GradCAMError, match=rf"The manifest\.json of journal 'run' is damaged: {reason}"):
        Journal("run")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"created": float("nan")}, "'created' is not what it should be: a number"),
        ({"labels": [10**400, 0]}, "'labels' is not what it should be: a list of whole numbers"),
        ({"labels": []}, "it has 0 labels, not 2"),
        ({"names": [], "probe_slugs": [], "labels": None, "pictures": []}, "it has no probes, or no targets"),
        ({"probe_slugs": ["../cat", "dog"]}, "its slugs are no names of files"),
        ({"target_slugs": ["a", "a"]}, "its slugs are no names of files, or one is there twice"),
        ({"slices": 0}, "its volumes have 0 slices"),
        ({"targets": ...}, "it lacks 'targets'"),
    ],
)
def test_a_manifest_with_impossible_fields_is_named(fields: dict[str, Any], reason: str) -> None:
    """What would end in the words of Python or NumPy later is told when the journal is opened."""
    with_fields(**fields)
    with pytest.raises(GradCAMError, match=rf"The manifest\.json of journal 'run' is damaged: {reason}"):
        Journal("run")


def test_a_manifest_without_a_field_of_words_is_used() -> None:
    """The layer's name is only shown, so that the page is there without it."""
    with_fields(layer=...)
    assert data_of(report.build([Journal("run")]))["runs"][0]["steps"] == [0, 1, 2]

"""Pictures that were not made by us: their values are kept, and what cannot be read is named."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gradcam_callbacks import GradCAMError, ProbeSet
from gradcam_callbacks.probes.reading import read_picture

RAMP = np.linspace(0, 1, 16)[None].repeat(4, axis=0)
BYTES = np.rint(RAMP * 255)


def values(picture: Image.Image, name: str = "picture.tif") -> Any:
    """One channel of what is read from a file of the picture."""
    picture.save(name)
    read = np.asarray(read_picture(Path(name)))
    assert read.shape == (4, 16, 3)
    return read[..., 0]


@pytest.mark.parametrize("highest", [1, 255, 65535])
def test_floats_keep_their_brightness(highest: float) -> None:
    """A TIFF of floats from 0 to 1 is not black, one of larger numbers not white."""
    np.testing.assert_array_equal(values(Image.fromarray((RAMP * highest).astype(np.float32))), BYTES)


def test_floats_that_are_not_finite_are_black_or_white() -> None:
    """NaN and what lies below 0 is black, infinity white; the others are as they were."""
    numbers = RAMP.astype(np.float32)
    numbers[0, :3] = np.nan, -1, np.inf
    expected = BYTES.copy()
    expected[0, :3] = 0, 0, 255
    np.testing.assert_array_equal(values(Image.fromarray(numbers)), expected)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_numbers_of_16_bits_keep_their_brightness(suffix: str) -> None:
    """65,535 is white, and its half is grey."""
    picture = Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16))
    np.testing.assert_array_equal(values(picture, f"picture.{suffix}"), BYTES)


def test_numbers_of_32_bits_keep_their_brightness() -> None:
    """The whole range is used as it is; smaller numbers by the next power of 2, so that none is white or black."""
    full = 2**31 - 1
    np.testing.assert_array_equal(values(Image.fromarray((RAMP * full).astype(np.int32))), BYTES)
    less = (RAMP * 100_000).astype(np.int32)
    np.testing.assert_array_equal(values(Image.fromarray(less)), np.rint(less / (2**17 - 1) * 255))


def test_unsigned_numbers_of_32_bits_are_not_taken_for_negative_ones() -> None:
    """Their upper half is brighter than their lower one."""
    content = np.rint(RAMP * (2**32 - 1)).astype("<u4").tobytes()
    one = ((256, 16), (257, 4), (258, 32), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, 256), (339, 1))
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in one)
    file = b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(one)) + tags + bytes(4)
    Path("unsigned.tif").write_bytes(file)
    np.testing.assert_array_equal(np.asarray(read_picture(Path("unsigned.tif")))[..., 0], BYTES)


def test_a_turned_picture_of_16_bits_is_upright() -> None:
    """The camera's orientation is respected, whatever the numbers are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)).save("turned.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_picture(Path("turned.png")))[..., 0], np.rot90(BYTES, -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif"])
def test_a_large_picture_is_made_smaller(suffix: str) -> None:
    """Its longest side is what was asked for, and its colours are the same."""
    Image.new("RGB", (400, 100), (250, 128, 3)).save(f"large.{suffix}")
    assert read_picture(Path(f"large.{suffix}")).size == (400, 100)
    small = read_picture(Path(f"large.{suffix}"), longest=90)
    assert small.size == (90, 22)
    assert np.abs(np.asarray(small).astype(int) - (250, 128, 3)).max() <= 6


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int) -> bytes:
    """A PNG whose header says a size, and that holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
UNREADABLE = {
    "a bomb": (png(20_000, 20_000), r"'picture\.png' has more than 100,000,000 pixels\. Make it smaller"),
    "a large one": (png(13_000, 13_000), r"'picture\.png' has 13000×13000 pixels; at most 100,000,000 are read"),
    "a short header": (png(9, 9)[:8] + struct.pack(">I", 5) + b"IHDR" + bytes(40), r"'picture\.png' is damaged"),
    "no content": (png(9, 9), r"'picture\.png' is damaged"),
    "EPS": (EPS, r"'picture\.png' is not a picture that Pillow can read"),
    "nothing": (b"", r"'picture\.png' is not a picture that Pillow can read"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_named(case: str) -> None:
    """The file is in the error, which is ours."""
    content, message = UNREADABLE[case]
    Path("picture.png").write_bytes(content)
    with pytest.raises(GradCAMError, match=message):
        ProbeSet.from_files(["picture.png"], image_size=(8, 8))


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_no_pipe_and_no_endless_file_is_read(kind: str) -> None:
    """Nothing waits for another process."""
    if kind == "pipe":
        os.mkfifo("picture.png")
    else:
        Path("picture.png").symlink_to("/dev/zero")
    with pytest.raises(GradCAMError, match=r"'picture\.png' is no regular file"):
        read_picture(Path("picture.png"))

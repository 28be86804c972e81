"""Pictures from files."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.regular_files import open_regular

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
"""What is opened; other formats that Pillow knows start programs, or are rarely read and rarely mended."""
MOST_PIXELS = 100_000_000
"""Of a picture that is read: it takes four bytes a pixel."""
_SMALLER = "Make it smaller, or cut out what matters."
_BAND = 256  # rows
_SAMPLE_FORMAT, _UNSIGNED = 339, 1  # a tag of TIFF


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts "cat_2" before "cat_10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]


def pictures_in(folder: Path, *, in_folders: bool) -> list[Path]:
    """The pictures of a folder in natural order, hidden ones left out.

    Args:
        folder: where they are.
        in_folders: whether they lie in its sub-folders, and not in itself.

    Raises:
        GradCAMError: if the folder does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise GradCAMError(f"No folder '{folder}' to read probes from.")
    files = [
        file
        for file in folder.glob("*/*" if in_folders else "*")
        if file.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if files:
        return sorted(files, key=lambda file: [natural(part) for part in file.relative_to(folder).parts])
    problem = f"No picture in folder '{folder}': none of {sorted(PICTURE_SUFFIXES)} lies in "
    if in_folders:
        raise GradCAMError(f"{problem}its sub-folders.")
    raise GradCAMError(f"{problem}it;", "{argument} looks into its sub-folders.", argument="labels", value="folder")


def read_picture(file: Path, *, longest: int | None = None) -> Image.Image:
    """The whole picture as RGB, upright.

    Numbers that are no bytes are brought to them by the least of these ranges that holds them: 0 to 1 for floats,
    0 to 255, 0 to 65,535, or the next power of 2.

    Args:
        file: of the picture.
        longest: the longest side wanted, in pixels; a larger picture is made smaller.

    Raises:
        GradCAMError: if the file cannot be read to its end, is of another format than `FORMATS`, or has more than
            `MOST_PIXELS` pixels.
    """
    try:
        with open_regular(file) as opened:
            return _read(opened, file, longest)
    except FileNotFoundError:
        raise GradCAMError(f"No picture '{file}'.") from None
    except GradCAMError:
        raise
    except UnidentifiedImageError:
        raise GradCAMError(f"'{file}' is not a picture that Pillow can read.") from None
    except OSError as error:
        if error.errno is not None:
            raise GradCAMError(f"Picture '{file}' cannot be read: {error.strerror}.") from error
        raise GradCAMError(f"Picture '{file}' is damaged or truncated: {error}.") from error
    except Exception as error:  # the readers of the formats raise a dozen kinds at damaged bytes
        raise GradCAMError(f"Picture '{file}' is damaged or truncated: its content cannot be decoded.") from error


def _read(opened: BinaryIO, file: Path, longest: int | None) -> Image.Image:
    """See `read_picture`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is compared here
        try:
            picture = Image.open(opened, formats=FORMATS)
        except Image.DecompressionBombError:
            raise GradCAMError(f"Picture '{file}' has more than {MOST_PIXELS:,} pixels.", _SMALLER) from None
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise GradCAMError(f"Picture '{file}' has {width}×{height} pixels; at most {MOST_PIXELS:,} are read.", _SMALLER)
    if longest is not None and max(width, height) > longest:
        picture.draft("RGB", (longest, longest))  # a JPEG is read at a half, a quarter or an eighth of its size
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)  # else Pillow copies also what stands upright
    grey = picture.mode.startswith("I") or picture.mode == "F"
    shown = _as_bytes(picture) if grey else picture
    shown = shown if shown.mode == "RGB" else shown.convert("RGB")
    if longest is None or max(shown.size) <= longest:
        return shown
    scale = longest / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    return shown.resize(size, Image.Resampling.BOX)


def _as_bytes(picture: ImageFile) -> Image.Image:
    """A grey picture of floats or of larger integers as one of bytes."""
    values = np.asarray(picture)
    # Pillow reads unsigned numbers of 32 bits as signed ones.
    if picture.mode == "I" and getattr(picture, "tag_v2", {}).get(_SAMPLE_FORMAT, (1,))[0] == _UNSIGNED:
        values = values.view(np.uint32)
    is_float = values.dtype.kind == "f"
    bands = range(0, len(values), _BAND)
    highest = max(float(np.nan_to_num(values[at : at + _BAND], posinf=0).max()) for at in bands)
    full = next((full for full in ((1.0,) if is_float else ()) + (255.0, 65535.0) if highest <= full), 0.0)
    full = full or 2.0 ** math.ceil(math.log2(highest + 1)) - 1
    grey = np.empty(values.shape, np.uint8)
    for at in bands:  # the floats of a whole picture would take gigabytes
        shares = np.nan_to_num(values[at : at + _BAND].astype(np.float64) / full, posinf=1)
        grey[at : at + _BAND] = np.rint(np.clip(shares, 0, 1) * 255)
    return Image.fromarray(grey)

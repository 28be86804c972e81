"""Pictures from files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts "cat_2" before "cat_10"."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]


def read_picture(file: Path) -> Image.Image:
    """The whole picture as RGB, upright.

    Raises:
        ValueError: if the file cannot be read to its end.
    """
    try:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I") or upright.mode == "F":  # Pillow would clip 16 bits to 255
                values = np.asarray(upright, np.float64)
                highest = 65535 if values.max() > 255 else 255
                upright = Image.fromarray(np.rint(np.clip(values / highest, 0, 1) * 255).astype(np.uint8))
            return upright.convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"No picture '{file}'.") from None
    except UnidentifiedImageError:
        raise ValueError(f"'{file}' is not a picture that Pillow can read.") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"Picture '{file}' is damaged or truncated: {error}.") from error

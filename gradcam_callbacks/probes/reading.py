"""Pictures from files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gradcam_callbacks.errors import GradCAMError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts "cat_2" before "cat_10"."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]


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


def read_picture(file: Path) -> Image.Image:
    """The whole picture as RGB, upright.

    Raises:
        GradCAMError: if the file cannot be read to its end.
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
        raise GradCAMError(f"No picture '{file}'.") from None
    except UnidentifiedImageError:
        raise GradCAMError(f"'{file}' is not a picture that Pillow can read.") from None
    except (OSError, SyntaxError) as error:
        raise GradCAMError(f"Picture '{file}' is damaged or truncated: {error}.") from error

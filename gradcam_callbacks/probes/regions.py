"""Where a person says that a model should look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.probes.inputs import frozen
from gradcam_callbacks.probes.reading import read_picture

Region = Any  # (H, W) bool mask, (y0, x0, y1, x1) box, or None
Regions = Sequence[Region] | str | Path | None  # one a probe, or a folder of masks


def as_regions(regions: Sequence[Region] | None, count: int, size: tuple[int, ...]) -> Array | None:
    """(N, H, W) bool masks from masks and boxes."""
    if regions is None:
        return None
    if len(regions) != count:
        raise GradCAMError(f"{count} images but {len(regions)} regions; pass one a picture, None where there is none.")
    masks = np.zeros((count, *size), bool)
    for position, region in enumerate(regions):
        if region is None:
            continue
        try:
            array = np.asarray(region)
        except ValueError:  # lists of several lengths
            array = np.empty(0, object)
        if array.shape == size:
            masks[position] = array.astype(bool)
        elif array.shape == (4,):
            y0, x0, y1, x1 = box = tuple(array.tolist())
            is_box = array.dtype.kind in "uif" and 0 <= y0 < y1 <= size[0] and 0 <= x0 < x1 <= size[1]
            if not is_box or int(y0) == int(y1) or int(x0) == int(x1):
                raise GradCAMError(f"Region {position} is {box}; a box is (y0, x0, y1, x1) inside {size}.")
            masks[position, int(y0) : int(y1), int(x0) : int(x1)] = True
        else:
            raise GradCAMError(
                f"Region {position} has shape {array.shape}; expected a mask {tuple(size)} or a box (y0, x0, y1, x1)."
            )
    return frozen(masks)


def read_masks(folder: Path, files: Sequence[Path], size: tuple[int, ...]) -> list[Array | None]:
    """The masks of a folder, at the pictures' size (height, width); None where there is no file."""
    if not folder.is_dir():
        raise GradCAMError(f"No folder '{folder}' to read regions from.")
    height, width = size
    masks: list[Array | None] = []
    for file in files:
        if not (folder / file).is_file():
            masks.append(None)
            continue
        mask = read_picture(folder / file).convert("L").resize((width, height), Image.Resampling.NEAREST)
        masks.append(np.asarray(mask) > 0)
    if all(mask is None for mask in masks):
        raise GradCAMError(f"No mask in folder '{folder}' is named like a probe; expected '{files[0]}' and so on.")
    return masks

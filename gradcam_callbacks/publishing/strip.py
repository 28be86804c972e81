"""The strip: a low band of the map that moved the most, for the description of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gradcam_callbacks import drawing
from gradcam_callbacks.arrays import Array
from gradcam_callbacks.publishing.tiles import overlays_of, thinned
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import BASELINE, Step

# MLflow shows 87 pixels of a description, and fades out what is longer, so that it cannot be clicked: room for a line
# of the user's and this.
_STRIP_HEIGHT, _STRIP_CAPTION, _STRIP_TITLE, _STRIP_GAP, _STRIP_FRAMES = 55, 13, 66, 3, 12


def strip(steps: Sequence[Step], manifest: Manifest, pictures: Array) -> Array:
    """A low band of the map that moved the most, at up to 12 steps from the first to the last; made to be a link.

    Args:
        steps: at least one, in order.
        manifest: of the journal.
        pictures: (N, H, W, 3) uint8, of the journal.

    Returns:
        (55, width, 3) uint8.
    """
    moved = np.sum([np.nan_to_num(recorded.measured("drift")) for recorded in steps], axis=0)
    n, k = np.unravel_index(int(moved.argmax()), moved.shape)
    font = ImageFont.truetype(drawing.font_path(), 10)
    height, width = pictures.shape[1:3]
    size = (max(20, round((_STRIP_HEIGHT - _STRIP_CAPTION) * width / height)), _STRIP_HEIGHT - _STRIP_CAPTION)
    frames = thinned(steps, _STRIP_FRAMES)
    sheet = Image.new("RGB", (_STRIP_TITLE + len(frames) * (size[0] + _STRIP_GAP) - _STRIP_GAP, _STRIP_HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    middle = (_STRIP_HEIGHT + _STRIP_CAPTION) / 2
    title = ImageFont.truetype(drawing.font_path(), 12)
    draw.text((0, middle), "Grad-CAM\nreview ›", fill="#2272b4", font=title, anchor="lm")
    for place, recorded in enumerate(frames):
        overlay = overlays_of(recorded, manifest, pictures, int(n))[k]
        x = _STRIP_TITLE + place * (size[0] + _STRIP_GAP)
        sheet.paste(Image.fromarray(overlay).resize(size, Image.Resampling.LANCZOS), (x, _STRIP_CAPTION))
        number = "start" if recorded.step == BASELINE else str(recorded.step)
        draw.text((x + size[0] / 2, _STRIP_CAPTION / 2), number, fill="#444444", font=font, anchor="mm")
    return np.asarray(sheet)

"""Masks as pictures of one bit a pixel, as records hold them."""

from __future__ import annotations

import base64
import io

from PIL import Image

from gradcam_callbacks.arrays import Array


def encode_mask(mask: Array) -> str | None:
    """A mask (H, W) bool as a base64 PNG of one bit a pixel; None where it is empty."""
    if not mask.any():
        return None
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()

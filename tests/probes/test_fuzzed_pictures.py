"""Whatever bytes a picture has: our errors only."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.fuzzing import damaged, fuzzed

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.probes.reading import FORMATS, read_picture


@fuzzed
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what is wrong in TIFF and EXIF
@pytest.mark.parametrize("format_", FORMATS)
def test_fuzzed_pictures(tmp_path: Path, format_: str, data: st.DataObject) -> None:
    """Damaged files of each format are read as RGB, or named."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)).save(buffer, format_)
    file = tmp_path / "picture"
    file.write_bytes(data.draw(damaged(buffer.getvalue())))
    with suppress(GradCAMError):
        picture = read_picture(file)
        assert picture.mode == "RGB"
        assert np.asarray(picture).ndim == 3

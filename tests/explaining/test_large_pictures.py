"""What is drawn on photographs of any size takes bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
from PIL import Image
from support.models import small_model

from gradcam_callbacks import drawing, explain
from gradcam_callbacks.explaining.explain import save_panels
from gradcam_callbacks.probes.reading import read_picture


def test_a_large_photograph_is_drawn_on_at_4096_pixels() -> None:
    """A smaller one is drawn on at its own size."""
    Image.new("RGB", (6000, 300), (200, 30, 30)).save("large.png")
    Image.new("RGB", (900, 300), (200, 30, 30)).save("small.png")
    explanation = explain(small_model(), ["large.png", "small.png"], targets=[0, 1])
    written = save_panels(explanation, ["large.png", "small.png"], "looks")
    assert all(file.exists() for file in written)
    sizes = {file.name: read_picture(file).size for file in written if file.name.count(".") == 2}
    assert {size for name, size in sizes.items() if "large" in name and "panels" not in name} == {(4096, 205)}
    assert {size for name, size in sizes.items() if "small" in name and "panels" not in name} == {(900, 300)}


def test_blending_takes_no_more_than_the_pictures() -> None:
    """The floats of 2000 x 2000 pixels would take 48 MB and more beside the 12 MB of the result."""
    picture = np.zeros((1, 2000, 2000, 3), np.uint8)
    heat = np.linspace(0, 1, 2000 * 2000, dtype=np.float32).reshape(1, 1, 2000, 2000)
    tracemalloc.start()
    blended = drawing.overlays(picture, heat)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < blended.nbytes + (40 << 20)
    np.testing.assert_array_equal(
        blended[0, 0, 1000], drawing.overlays(picture[:, 1000:1001], heat[:, :, 1000:1001])[0, 0, 0]
    )

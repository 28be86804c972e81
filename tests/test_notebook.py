"""What a notebook shows, in a fresh kernel: each object as the last expression of a cell."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from support.models import pictures, small_model
from support.notebooks import executed

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet, evaluate, measure_reliance
from gradcam_callbacks.sweeping.sweep import Sweep

SET_UP = """
import logging
logging.disable(logging.WARNING)
from support.models import pictures, small_model
from gradcam_callbacks import Explainer, ProbeSet, evaluate, explain
model = small_model(classes=2, size=16)
names = ["<b>bold & brave</b>", *"bcdef"]
probes = ProbeSet(pictures(6), labels=[0, 1] * 3, names=names, targets=["predicted", "label"])
explanation = explain(model, probes)
"""
CELLS = {
    "probes": "probes",
    "explanation": "explanation",
    "plot": "explanation.plot()",
    "explainer": "Explainer(model)",
    "used explainer": "e = Explainer(model); e(probes); e",
    "evaluation": "evaluate(Explainer(model), pictures(2), steps=2, randomise=False)",
}


@pytest.fixture(scope="module")
def shown(process: None) -> dict[str, dict[str, Any]]:
    """Of each cell what the kernel sends to be shown, by MIME type."""
    book, _ = executed([SET_UP, *CELLS.values()])
    found = {}
    for name, cell in zip(CELLS, book.cells[1:], strict=True):
        (result,) = [output for output in cell.outputs if output.output_type == "execute_result"]
        found[name] = result.data
    return found


def picture_in(html: str) -> Image.Image:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert found is not None
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def test_an_explanation_is_shown_as_its_panels(shown: dict[str, dict[str, Any]]) -> None:
    """The first 4 of 6 pictures, each in a row with its two panels; the text says that there are more."""
    html = shown["explanation"]["text/html"]
    drawn = picture_in(html)
    assert 0.6 < drawn.width / 3 / (drawn.height / 4) < 1.4
    assert "Explanation(6 pictures x 2 targets, maps 14x14, layer=&#x27;conv&#x27;" in html
    assert "The first 4 of 6 pictures are shown; plot() draws all." in html


def test_a_figure_is_a_picture(shown: dict[str, dict[str, Any]]) -> None:
    """Where pyplot was never loaded, too."""
    drawn = Image.open(io.BytesIO(base64.b64decode(shown["plot"]["image/png"])))
    assert drawn.height > drawn.width > 600


def test_a_probe_set_is_shown_as_a_contact_sheet(shown: dict[str, dict[str, Any]]) -> None:
    """In one row, with names as they are and labels; no name is read as HTML."""
    html = shown["probes"]["text/html"]
    drawn = picture_in(html)
    assert drawn.width > 3 * drawn.height
    assert "&lt;b&gt;bold &amp; brave&lt;/b&gt;: class_0, b: class_1" in html
    assert "<b>" not in html
    assert "ProbeSet(6 probes of 16x16x3" in html


def test_an_explainer_says_model_layer_and_method(shown: dict[str, dict[str, Any]]) -> None:
    """The layer once it is chosen."""
    assert "layer=chosen when the first pictures come" in shown["explainer"]["text/plain"]
    assert shown["used explainer"]["text/plain"] == "Explainer('small', layer='conv', method='gradcam')"


def test_an_evaluation_is_shown_as_a_table(shown: dict[str, dict[str, Any]]) -> None:
    """With what was not measured named so."""
    html = shown["evaluation"]["text/html"]
    assert html.count("<tr>") == 3 * (1 + 4)  # three tables of a head, the method and three controls
    assert re.search(r"ROAD ↑</th>.*gradcam</td><td[^>]*>-?\d\.\d{3}\*?</td>", html)
    assert html.count("<img") == 1  # the curves
    assert "Random weights: not measured." in html


def test_a_sweep_is_shown_with_what_failed() -> None:
    """Its verdict, its counts and each problem with its reason."""
    reasons = {"m-03.keras": GradCAMError("It is <damaged>.")}
    html = Sweep("run0", (0, 1), (2,), (), "moved", "Attention moved.", reasons)._repr_html_()
    assert "Sweep: moved. Attention moved." in html
    assert "2 steps recorded, 1 recorded before, 0 without a checkpoint. MLflow run run0." in html
    assert re.search(r"m-03\.keras</td><td[^>]*>It is &lt;damaged&gt;", html)


def test_regions_are_outlined_on_the_contact_sheet(tmp_path: Path) -> None:
    """A set with regions looks other than the same one without."""
    black = np.zeros((2, 32, 32, 3), np.uint8)
    plain = ProbeSet(black)._repr_html_()
    outlined = ProbeSet(black, regions=[(8, 8, 24, 24), None])._repr_html_()
    values = [np.asarray(picture_in(html).convert("L")) for html in (plain, outlined)]
    assert (values[0] != values[1]).sum() > 100


@pytest.mark.parametrize("ask", [evaluate, measure_reliance])
def test_a_model_is_no_explainer(ask: Any) -> None:
    """Who passes the model itself is told what to pass."""
    model: keras.Model = small_model()
    with pytest.raises(
        GradCAMError, match=r"Expected an Explainer, not the model 'small' itself\. Pass Explainer\(model\)"
    ):
        ask(model, pictures(1))
    assert repr(Explainer(model, layer="conv")) == "Explainer('small', layer='conv', method='gradcam')"

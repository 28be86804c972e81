"""A notebook shows the newest maps while a training goes on, in one place; and a review as a page in a frame."""

from __future__ import annotations

import base64
import html as escaping
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.models import pictures
from support.notebooks import executed
from support.trainings import fit

from gradcam_callbacks import GradCAMCallback, GradCAMError, InMemoryStore, notebook, report
from gradcam_callbacks.publishing.live import LiveView

SET_UP = """
import keras, numpy as np
from support.models import pictures, small_model
from gradcam_callbacks import GradCAMCallback, InMemoryStore, report

def fit(epochs=1, **settings):
    callback = GradCAMCallback(pictures(10), live=True, **settings)
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pictures(64), np.arange(64) % 4, epochs=epochs, callbacks=[callback])
"""
CELLS = {
    "training": 'store = InMemoryStore(); fit(3, store=store, journal_dir="kept"); print(store.summary)',
    "loop": "store = InMemoryStore()\nfor _ in range(3): fit(store=store)",
    "batches": "fit(every_batches=1, store=InMemoryStore())",
    "report": 'report("kept").show(height=500)',
    "page": 'report("kept")',
}


@pytest.fixture(scope="module")
def book(
    process: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, list[Any]], list[tuple[str, dict[str, Any]]]]:
    """Of each cell its outputs, and all messages of the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        run, heard = executed([SET_UP, *CELLS.values()])
    return dict(zip(CELLS, (cell.outputs for cell in run.cells[1:]), strict=True)), heard


Book = tuple[dict[str, list[Any]], list[tuple[str, dict[str, Any]]]]


def shown_in(outputs: list[Any]) -> list[str]:
    """The HTML of each place in the output of a cell."""
    return [output.data["text/html"] for output in outputs if output.output_type == "display_data"]


def picture_in(html: str) -> np.ndarray:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_a_training_has_one_place_that_changes(book: Book) -> None:
    """Under Keras's bar of the first epoch, which is whole; at the end with the last maps and the verdict."""
    outputs = book[0]["training"]
    (html,) = shown_in(outputs)
    drawn = picture_in(html)
    assert 5 < drawn.shape[1] / drawn.shape[0] < 7  # eight in a row, and their names
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    summary = printed.strip().splitlines()[-1]
    sentence = escaping.unescape(re.findall(r"<p>(.*?)</p>", html)[0])
    assert re.match(r"Verdict: [a-z]+\. ", sentence)
    assert summary.startswith(sentence.partition(". ")[2])
    first, place = next((n, output) for n, output in enumerate(outputs) if output.output_type != "stream")
    before = "".join(output.text for output in outputs[:first] if output.name == "stdout")
    assert place.output_type == "display_data"
    assert "Epoch 1/3" in before
    assert "Epoch 2/3" not in before
    assert before.endswith("\n")
    assert "2/2" in before.splitlines()[-1]


def test_what_is_shown_changes_with_each_epoch(book: Book) -> None:
    """Each message but the first replaces what is there; the pictures of the steps differ."""
    of_training = [
        content["data"]["text/html"] for kind, content in book[1] if kind == "update_display_data" and content["data"]
    ]
    pictures_shown = {html.partition("base64,")[2].partition('"')[0] for html in of_training if "base64," in html}
    assert len(pictures_shown) >= 3


def test_trainings_of_one_run_in_one_cell_share_the_place(book: Book) -> None:
    """A loop of fits shows one strip."""
    assert len(shown_in(book[0]["loop"])) == 1


def test_an_epoch_whose_batches_are_recorded_has_its_place_at_the_beginning(book: Book) -> None:
    """It may last an hour."""
    outputs = book[0]["batches"]
    assert len(shown_in(outputs)) == 1
    first = next(n for n, output in enumerate(outputs) if output.output_type == "display_data")
    assert not any("Epoch" in output.text for output in outputs[:first] if output.name == "stdout")


def test_a_review_is_shown_in_a_frame_of_its_own(book: Book) -> None:
    """Whole, with scripts and downloads and nothing else; as the last expression, too."""
    (shown,) = shown_in(book[0]["report"])
    (last,) = [output.data["text/html"] for output in book[0]["page"]]
    for html, height in ((shown, 500), (last, 720)):
        assert f"height: {height}px" in html
        assert re.findall(r'sandbox="([^"]*)"', html) == ["allow-scripts allow-downloads allow-popups"]
        source = re.search(r'srcdoc="([^"]*)"', html)
        assert source is not None
        page = escaping.unescape(source[1])
        assert page.startswith("<!doctype html>")
        assert page.rstrip().endswith("</html>")


def test_nothing_is_shown_where_there_is_no_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """A script trains as without; a page is not shown there, which is said, with what to do."""
    assert notebook.cell() is None
    assert LiveView.of("run") is None
    fit(GradCAMCallback(pictures(2), live=True, store=InMemoryStore(), journal_dir="kept", verbose=False), epochs=1)
    assert capsys.readouterr().out == ""
    made = report("kept")
    assert re.fullmatch(r"Report\('[0-9a-f]{32}', 0\.\d MB\)", repr(made))
    with pytest.raises(GradCAMError, match=r"no notebook .* `write_report`"):
        made.show()

"""Makes the pictures of README and site, from the demo's journals and from a real network, and runs the notebook.

    gradcam demo && python docs/make_pictures.py gradcam-demo
    python docs/make_pictures.py notebook

Needs the test extra, since EfficientNet-Lite0 and the photographs are those of the tests, Playwright and Chromium.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
from PIL import Image

from gradcam_callbacks import ProbeSet, drawing, explain
from gradcam_callbacks.demo.run import RUNS
from gradcam_callbacks.publishing import tiles
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.step import BASELINE

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))


def demo(journals: dict[str, Journal], probe: int) -> None:
    """One probe over the epochs, a row a run."""
    steps = [step for step in journals["clean"].steps() if step != BASELINE]
    figure = matplotlib.figure.Figure(figsize=(1.55 * (len(steps) + 1), 3.6), layout="compressed", dpi=110)
    rows = figure.subplots(2, len(steps) + 1)
    for axes, (name, journal) in zip(rows, journals.items(), strict=True):
        picture = journal.pictures()[probe]
        axes[0].imshow(picture)
        axes[0].set_ylabel(f"{name}\ntraining pictures", fontsize=9)
        for panel, step in zip(axes[1:], steps, strict=True):
            recorded = journal.read(step)
            heat = drawing.heatmaps(recorded.arrays["maps"][probe : probe + 1], picture.shape[:2])
            panel.imshow(drawing.overlays(picture[None], heat)[0, 0])
            panel.set_title(f"epoch {step}", fontsize=9)
            panel.set_xlabel(f"accuracy {recorded.logs['val_accuracy']:.0%}", fontsize=8)
        for panel in axes:
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_visible(False)
    rows[0][0].set_title("a sailboat", fontsize=9)
    figure.savefig(HERE / "demo.png")


def tile(journal: Journal, probe: int) -> None:
    """A card of MLflow."""
    step = journal.steps()[-1]
    tile = tiles.step_tile(journal.read(step), journal.manifest, journal.pictures(), probe)
    Image.fromarray(tile).save(HERE / "tile.png")


def all_probes(journal: Journal) -> None:
    """The card of all probes."""
    shown = tiles.Sheet(tuple(range(len(journal.manifest.names))))
    sheet = tiles.step_sheet(journal.read(journal.steps()[-1]), journal.manifest, journal.pictures(), shown)
    Image.fromarray(sheet).save(HERE / "all.png")


def panels() -> None:
    """The tutorial's question to a real network."""
    from support.efficientnet_lite import efficientnet_lite0, preprocess
    from support.photographs import EGYPTIAN_CAT, ESPRESSO, cat_beside_espresso

    names = [f"class {index}" for index in range(1000)]
    names[EGYPTIAN_CAT], names[ESPRESSO] = "Egyptian cat", "espresso"
    probes = ProbeSet(
        cat_beside_espresso()[None],
        names=["a cat beside an espresso"],
        targets=["Egyptian cat", "espresso"],
        preprocess=preprocess,
        class_names=names,
    )
    explanation = explain(efficientnet_lite0(), probes, keep_gradients=True)
    explanation.plot().savefig(HERE / "panels.png", dpi=90)
    explanation.plot_gradients(0, 1).savefig(HERE / "gradients.png", dpi=75)


def review(page: Path) -> None:
    """The page that compares the demo's two runs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1180, "height": 1060})
        opened.goto(page.resolve().as_uri())
        opened.wait_for_timeout(1000)
        opened.screenshot(path=HERE / "review.png")
        browser.close()


def notebook() -> None:
    """Runs the notebook in its place, and keeps its pictures small: 256 colours, and one format of each."""
    import nbclient
    import nbformat

    file = HERE / "tutorials" / "what-made-you-think.ipynb"
    book = nbformat.read(file, as_version=4)
    place = {"metadata": {"path": str(file.parent)}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=place).execute()
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                data = output.get("data", {})
                data.pop("image/jpeg", None)
                if "image/png" in data:
                    data["image/png"] = _smaller(data["image/png"])
                if "text/html" in data:
                    data["text/html"] = re.sub(
                        r"(?<=data:image/png;base64,)[^\"]+", lambda found: _smaller(found[0]), data["text/html"]
                    )
    nbformat.write(book, file)


def _smaller(png: str) -> str:
    """A PNG in base64 with 256 colours, and at most 1000 pixels wide."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.thumbnail((1000, 4000))
    written = io.BytesIO()
    picture.quantize(256).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def main() -> None:
    """Makes them all, or runs the notebook."""
    import sqlite3

    if sys.argv[1] == "notebook":
        notebook()
        return
    folder = Path(sys.argv[1])
    with sqlite3.connect(folder / "mlflow.db") as store:
        ids = dict(store.execute("select name, run_uuid from runs order by start_time").fetchall())
    journals = {name: Journal(folder / "journals" / ids[name]) for name in RUNS}
    # The probe on which the last epochs differ the most between the two runs.
    shares = [journal.read(journal.steps()[-1]).arrays["focus"][:, 0] for journal in journals.values()]
    probe = int(np.argmax(shares[0] - shares[1]))
    demo(journals, probe)
    tile(journals["watermarked"], probe)
    all_probes(journals["watermarked"])
    panels()
    review(folder / "compare.html")


if __name__ == "__main__":
    main()

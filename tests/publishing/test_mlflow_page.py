"""What a person sees in MLflow after a real `fit`: from the experiment to the cards, from the run to the review."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from support.models import pictures, small_model

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

from support.pages import PIXELS  # noqa: E402 (it needs Playwright too)

from gradcam_callbacks import GradCAMCallback, ProbeSet  # noqa: E402
from gradcam_callbacks.probes.slugs import ascii_slugs, slugs  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE, JAPANESE = "</script><script>document.title='x'</script>", "柴犬"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a browser context of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def shoot(page: Page, name: str) -> None:
    """Keeps a screenshot where CI wants them."""
    folder = os.environ.get("GRADCAM_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder, f"{name}.png"))


def test_the_way_from_the_experiment_to_the_cards_and_to_the_review(client: MlflowClient, page: Page) -> None:
    """The cards show tiles; the link in the description opens the review, whose slider changes the pictures."""
    keras.utils.set_random_seed(1)
    model = small_model()
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    probes = ProbeSet(
        pictures(2),
        names=[JAPANESE, "dog"],
        targets=[0, "predicted"],
        class_names=[HOSTILE, JAPANESE, "cup", "rocket"],
        regions=[(2, 2, 10, 10), None],
    )
    with mlflow.start_run(run_name="watched", description="What the user wrote.") as run:
        model.fit(
            pictures(32), np.arange(32) % 4, epochs=4, callbacks=[GradCAMCallback(probes, animation=True)], verbose=0
        )
    info = run.info
    files = {entry.path for entry in client.list_artifacts(info.run_id, "gradcam/animation")}
    assert files == {f"gradcam/animation/{slug}.webp" for slug in ascii_slugs(slugs(probes.names))}

    # From the experiment to the cards.
    page.goto(f"{client.tracking_uri}/#/experiments/{info.experiment_id}?workflowType=machine_learning")
    page.get_by_role("link", name="watched").first.click()
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_text("gradcam/dog").first.wait_for()
    page.wait_for_function("[...document.images].filter(image => image.naturalWidth > 180).length >= 3")
    shoot(page, "mlflow-cards")
    assert page.get_by_text(re.compile("^gradcam/")).all_inner_texts()[:3] == [
        "gradcam/all",
        "gradcam/dog",
        "gradcam/n0",
    ]
    shown = page.evaluate("[...document.images].filter(image => image.naturalWidth > 180).map(image => image.height)")
    assert max(shown) <= 200  # all of it: MLflow cuts off what is higher

    # From the overview to the review.
    page.get_by_role("tab", name="Overview").click()
    page.get_by_text("What the user wrote.").wait_for()
    strip = page.locator("img[src*='strip.png']")
    strip.wait_for()
    assert strip.evaluate("image => image.complete && image.naturalHeight") == 55
    shoot(page, "mlflow-overview")
    errors: list[tuple[Page | None, str]] = []
    requests: list[str] = []
    page.context.on("weberror", lambda error: errors.append((error.page, str(error.error))))
    page.context.on(
        "console",
        lambda said: (
            errors.append((said.page, f"{said.text} {said.location['url']}")) if said.type == "error" else None
        ),
    )
    page.context.on("request", lambda request: requests.append(request.url))
    # The verdict is seen at once. Below a text of the user's, the strip is where MLflow fades the description out.
    playwright_api.expect(page.get_by_text("Grad-CAM verdict:").first).to_be_in_viewport()
    with page.context.expect_page() as opening:
        page.locator("a:has(img[src*='strip.png'])").press("Enter")
    review = opening.value
    frame = review.frame_locator("iframe")
    canvas = frame.locator(".cell canvas").first
    canvas.scroll_into_view_if_needed()  # what nobody sees is not drawn
    playwright_api.expect(canvas).not_to_have_js_property("width", 1, timeout=30_000)
    slider = frame.locator("#epoch")
    assert HOSTILE in frame.locator("body").inner_text()
    assert JAPANESE in frame.locator("body").inner_text()
    at_the_end = canvas.evaluate(PIXELS)
    slider.focus()
    slider.press("Home")
    review.wait_for_timeout(300)
    before_training = canvas.evaluate(PIXELS)
    assert before_training != at_the_end
    slider.press("End")
    review.wait_for_timeout(300)
    assert canvas.evaluate(PIXELS) == at_the_end
    shoot(review, "mlflow-review")
    assert review.title() != "x"
    own = "/ajax-api/2.0/mlflow/users/current"  # which MLflow asks for, and has not without accounts
    assert [text for of_page, text in errors if of_page == review and not text.endswith(own)] == []
    assert {url for url in requests if not url.startswith((client.tracking_uri, "blob:", "data:"))} == set()

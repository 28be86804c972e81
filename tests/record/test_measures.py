"""MEASURES is the one place: a row and a function are all that a new measure needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from support.manifests import a_manifest

from gradcam_callbacks.publishing.metrics import step_metrics
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.measures import MEASURES, Measure
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import drift
from gradcam_callbacks.reviewing.measuring import Explained, function_of, measure, measure_step
from gradcam_callbacks.reviewing.report import build

MAPS = np.random.default_rng(0).random((2, 1, 4, 4)).astype(np.float32)


def test_each_row_that_is_computed_has_its_function() -> None:
    """Its values lie in its range, on random maps, and have its shape."""
    regions = np.zeros((2, 8, 8), bool)
    regions[:, :4] = True
    for row in MEASURES.values():
        if row.of == "model":
            continue
        others = {"map": (MAPS,), "region": (MAPS, regions)}.get(row.of, (MAPS, MAPS[::-1].copy()))
        values = function_of(row)(*others)
        assert values.shape == (2, 1), row.name
        assert row.low is None or (values >= row.low).all(), row.name
        assert row.high is None or (values <= row.high).all(), row.name


def test_each_row_says_what_it_is() -> None:
    """Title, sentence and unit are there; a recorded one has a metric, and no two share a name of a metric."""
    keys = [row.mean for row in MEASURES.values() if row.mean is not None]
    assert len(keys) == len(set(keys))
    for name, row in MEASURES.items():
        assert row.name == name
        assert row.title
        assert row.says
        assert row.unit
        assert not row.is_recorded or row.section is not None


@pytest.mark.parametrize("name", ["focus", "pointing"])
def test_attention_inside_the_region_is_better(name: str) -> None:
    """A map that lies in the region has the higher value, and the row says that higher is better."""
    regions = np.zeros((2, 8, 8), bool)
    regions[:, :4] = True
    maps = np.zeros((2, 1, 4, 4), np.float32)
    maps[0, 0, 1, 2] = maps[1, 0, 3, 2] = 1
    inside, outside = function_of(MEASURES[name])(maps, regions)[:, 0]
    assert (inside, outside) == (1, 0)
    assert MEASURES[name].lower_is_better is False


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """A new measure, as somebody would add it: a row, and a function of its name."""

    def spread(maps: Any) -> Any:
        """Share of the places that hold more than the mean."""
        return (maps > maps.mean(axis=(2, 3), keepdims=True)).mean(axis=(2, 3))

    row = Measure("spread", "Spread", "share of the places above the mean", "map", 0, 1, "share",
                  section="gradcam_spread", mean="gradcam_spread/mean")  # fmt: skip
    monkeypatch.setattr(drift, "spread", spread, raising=False)
    monkeypatch.setitem(cast(dict[str, Measure], MEASURES), "spread", row)
    return row


def test_a_new_row_reaches_record_metrics_and_page(spread: Measure, tmp_path: Path) -> None:
    """It is measured at a step, becomes a metric a map and a mean, and stands on the page."""
    classes = np.zeros((2, 1), np.int32)
    found = measure_step(Explained(MAPS, classes))
    assert "spread" in found
    health = np.full((2, 1), "ok")
    arrays = {"maps": MAPS, "scores": classes, "explained": classes, "predicted": classes[:, 0], "health": health}
    manifest = a_manifest(["cat", "dog"], ["tabby"], metrics="all")
    metrics = step_metrics(Step(0, arrays | found, {}, 0.0), manifest)
    assert metrics["gradcam_spread/cat.tabby"] == pytest.approx(float(found["spread"][0, 0]))
    assert metrics["gradcam_spread/mean"] == pytest.approx(float(found["spread"].mean()))
    journal = Journal.create(tmp_path / "journal", manifest=manifest, pictures=np.zeros((2, 8, 8, 3), np.uint8))
    journal.append(0, arrays | found, {})
    np.testing.assert_allclose(measure([journal.read(0)])["spread"][0], found["spread"])
    page = re.search(r'<script type="application/json" id="data">(.*?)</script>', build([journal]), re.DOTALL)
    assert page is not None
    told = json.loads(page[1])
    assert told["measures"]["spread"]["title"] == "Spread"
    assert "spread" in told["runs"][0]["measures"]


def test_spread_is_two_means_and_no_more() -> None:
    """By default, and where all metrics are asked for: neither a map nor a class has one of its own."""
    arrays = {"maps": MAPS, "health": np.full((2, 1), "ok"), "scores": np.zeros((2, 1)), "predicted": np.zeros(2, int)}
    arrays |= {"explained": np.zeros((2, 1), int)} | measure_step(Explained(MAPS, np.zeros((2, 1), np.int32)))
    for wanted in ("means", "all"):
        manifest = a_manifest(["cat", "dog"], ["tabby"], metrics=wanted, labels=[0, 1])
        metrics = step_metrics(Step(0, arrays, {}, 0.0), manifest)
        named = {key: value for key, value in metrics.items() if key.startswith("gradcam_spread/")}
        assert named == {
            "gradcam_spread/entropy": pytest.approx(drift.entropy(MAPS).mean()),
            "gradcam_spread/sparseness": pytest.approx(drift.gini(MAPS).mean()),
        }

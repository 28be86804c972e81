"""Attention as a gate: what was asked holds, or a line says what does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from support.journals import encoded_mask
from support.manifests import a_manifest
from support.reliance import a_test, box

from gradcam_callbacks import GradCAMError, check
from gradcam_callbacks.publishing.mlflow_store import find_run
from gradcam_callbacks.publishing.uploader import Uploader
from gradcam_callbacks.record.journal import Journal

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


def trained(
    folder: str | Path,
    focus: Sequence[float] = (0.8, 0.8, 0.8, 0.8),
    *,
    grid: int = 2,
    probes: Sequence[int] = (0, 1),
    has_regions: bool = True,
    explained: int = 0,
    **about: Any,
) -> Journal:
    """A journal whose attention has these shares in the left half of the pictures, and whose accuracy rises."""
    region = encoded_mask(box(0, 0, 8, 4, size=(8, 8)))
    manifest = a_manifest(
        [f"cat_{n}" for n in probes],
        ("tabby",),
        **{"class_names": ("tabby", "lynx"), "labels": [0] * len(probes), "run_id": Path(folder).name} | about,
        regions=[region if has_regions else None] * len(probes),
    )
    journal = Journal.create(folder, manifest=manifest, pictures=PICTURES[list(probes)])
    count = len(probes)
    for step, share in enumerate(focus):
        maps = np.zeros((count, 1, grid, grid), np.float32)
        maps[..., : grid // 2], maps[..., grid // 2 :] = share, 1 - share
        arrays = {
            "maps": maps,
            "scores": np.arange(count, dtype=np.float32)[:, None],
            "explained": np.full((count, 1), explained),
            "predicted": np.zeros(count, int),
            "health": np.full((count, 1), "ok"),
        }
        if has_regions:
            arrays["focus"] = np.full((count, 1), share)
        journal.append(step, arrays, {"accuracy": 0.6 + 0.1 * step})
    return journal


def test_nothing_is_said_where_all_holds() -> None:
    """A healthy training passes, whatever is asked of it up to what it is."""
    trained("run")
    assert check("run") == []
    assert check(Path("run"), min_focus=0.8, max_drift=0.0, fail_on="unsettled") == []


def test_the_verdict_fails_from_a_limit_on() -> None:
    """One as serious as the limit fails, and a less serious one does not."""
    trained("falling", (0.9, 0.8, 0.5, 0.4))
    (line,) = check("falling")
    assert line.startswith(
        "The verdict is suspect, and fails on suspect: Suspected, not tested: attention on the marked"
    )
    assert "\n" not in line
    assert check("falling", fail_on="shortcut") == []
    assert check("falling", fail_on=None) == []
    trained("late", (0.5, 0.8))
    assert check("late") == []
    (line,) = check("late", fail_on="unsettled")
    assert line == (
        "The verdict is unsettled, and fails on unsettled: Attention had not settled by epoch 1: 30 % of it moved from "
        "epoch 0 to epoch 1."
    )


def test_a_confirmed_shortcut_fails() -> None:
    """What the test in the journal says counts."""
    trained("run").leave_test(3, a_test("confirmed"))
    (line,) = check("run", fail_on="shortcut")
    assert line.startswith("The verdict is shortcut, and fails on shortcut: Confirmed by the test: without an area")
    assert line.endswith("change.") or line.endswith("changes.")


def test_focus_has_a_least_value() -> None:
    """It is that of the last step; where it is not known, it cannot be enough."""
    trained("run", (0.8, 0.8, 0.8, 0.7))
    assert check("run", min_focus=0.7) == []
    assert check("run", min_focus=0.71) == ["Focus is 70 % at epoch 3, and must be 71 % at least."]
    trained("unmarked", has_regions=False)
    assert check("unmarked", min_focus=0.0) == ["Focus is not known at epoch 3, and must be 0 % at least."]
    trained("other class", explained=1)
    assert check("other class", min_focus=0.1) == ["Focus is not known at epoch 3, and must be 10 % at least."]


def test_drift_has_a_largest_value() -> None:
    """It is that of the last step to the one before; a single step has none."""
    trained("run", (0.8, 0.8, 0.7, 0.75))
    assert check("run", max_drift=0.06) == []
    assert check("run", max_drift=0.04) == ["Drift is 5 % from the step before to epoch 3, and must be 4 % at most."]
    trained("one", (0.8,))
    assert check("one", max_drift=1.0) == [
        "Drift is not known from the step before to epoch 0, and must be 100 % at most."
    ]


def test_another_run_is_a_limit() -> None:
    """The verdict must not be more serious than its, and the focus not lower by more than a tenth."""
    trained("production", (0.8, 0.8, 0.8, 0.8), run_name="live")
    trained("better", (0.9, 0.9, 0.9, 0.9))
    assert check("better", against="production", max_drift=0.11) == []
    trained("a little worse", (0.71, 0.71, 0.71, 0.71))
    assert check("a little worse", against="production") == []
    assert check("a little worse", against="production", max_fall=0.05) == [
        "Focus is 71 % at epoch 3, and is 80 % in 'live': it may be 5 % of the attention less."
    ]
    trained("worse", (0.69, 0.69, 0.69, 0.69))
    assert check("worse", against="production", max_drift=0.1) == [
        "Focus is 69 % at epoch 3, and is 80 % in 'live': it may be 10 % of the attention less.",
        "Drift is 11 % from 'live' to epoch 3, and must be 10 % at most.",
    ]
    trained("late", (0.5, 0.8))
    (line,) = check("late", against="production")
    assert line.startswith("The verdict is unsettled, and that of 'live' is ok: Attention had not settled by epoch 1")
    assert check("production", against="late") == []


def test_two_runs_need_not_be_alike() -> None:
    """Compared are the pictures and targets that both have, on the coarser grid, where the same class is explained."""
    trained("production", (0.8, 0.8), grid=4, probes=(2, 1, 0))
    trained("run", (0.7, 0.7), probes=(0, 1))
    assert check("run", against="production", max_drift=0.101) == []
    (line,) = check("run", against="production", max_drift=0.099)
    assert line.startswith("Drift is 10 % from 'production'")
    trained("others", (0.8, 0.8), explained=1)
    (line,) = check("run", against="others", max_drift=1.0)
    assert line.startswith("Drift is not known from 'others'")
    trained("targets", (0.8, 0.8))
    trained("strange", probes=(2,))
    with pytest.raises(GradCAMError, match=r"'run' and 'strange' have no picture in common.*Pass another against=\."):
        check("run", against="strange")


def test_what_makes_no_sense_is_refused() -> None:
    """Before anything is opened."""
    for wrong in ({"min_focus": 1.2}, {"max_drift": -0.1}, {"max_fall": float("nan")}):
        with pytest.raises(GradCAMError, match=rf"from 0 to 1.* Change {next(iter(wrong))}=\."):
            check("nowhere", **wrong)
    with pytest.raises(GradCAMError, match=r"No verdict 'ok' to fail on; expected one of shortcut, suspect,"):
        check("nowhere", fail_on="ok")
    with pytest.raises(GradCAMError, match=r"'nowhere' is no journal") as raised:
        check("nowhere")
    assert raised.value.argument == "source"


def test_a_run_on_a_server(client: MlflowClient, tmp_path: Path) -> None:
    """It is fetched with its tests, and compared with another one."""
    for name, outcome in (("clean", "cleared"), ("marked", "confirmed")):
        run = client.create_run(client.get_experiment_by_name("Default").experiment_id, run_name=name)
        journal = trained(tmp_path / name, run_id=run.info.run_id)
        journal.leave_test(3, a_test(outcome))
        assert Uploader(journal, find_run(run.info.run_id, client.tracking_uri)).send()
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs(["0"])}
    assert check(f"runs:/{runs['clean']}", against=f"runs:/{runs['marked']}", tracking_uri=client.tracking_uri) == []
    marked = check(f"runs:/{runs['marked']}", against=f"runs:/{runs['clean']}", tracking_uri=client.tracking_uri)
    assert [line.partition(":")[0] for line in marked] == [
        "The verdict is shortcut, and fails on suspect",
        "The verdict is shortcut, and that of 'clean' is ok",
    ]

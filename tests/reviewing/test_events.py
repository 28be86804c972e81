"""What the review says of synthetic trainings whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.manifests import a_manifest

from gradcam_callbacks import ProbeSet
from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.reviewing import drift
from gradcam_callbacks.reviewing.events import Event, find_events
from gradcam_callbacks.reviewing.measuring import Measures, measure
from gradcam_callbacks.reviewing.sentences import summary

CLASSES = ["tabby", "lynx", "puma"]


def manifest(probes: int = 1, targets: Sequence[str] = ("tabby",), unit: str = "epoch") -> Manifest:
    return a_manifest([f"cat_{n}" for n in range(probes)], targets, class_names=CLASSES, unit=unit)


def training(
    places: Any,
    *,
    first: int = 0,
    probabilities: Any = 0.9,
    scores: Any = 3.0,
    predicted: Any = 0,
    explained: Any = 0,
    logs: Sequence[dict[str, float]] | None = None,
    **arrays: Any,
) -> list[Step]:
    """Steps whose maps are two cells (1 - x, x), so that the drift between two steps is the difference of their x.

    Args:
        places: (S, N, K) or (S,), x in [0, 1]; NaN for a map of zeros, infinity for one that was not finite.
        first: the number of the first step.
        probabilities: broadcast to (S, N, K), as all that follow; None where the model has none.
        scores: of the targets.
        predicted: (S, N).
        explained: classes.
        logs: one a step.
        arrays: others to record; None at the steps that have none.
    """
    x = np.asarray(places, float)
    x = x.reshape(len(x), 1, 1) if x.ndim == 1 else x
    health = np.select([np.isnan(x), np.isinf(x)], ["empty", "non-finite"], "ok")
    maps = np.stack([1 - x, x], axis=-1)[..., None, :]
    maps[health != "ok"] = 0
    steps = []
    for s in range(len(x)):
        recorded = {
            "maps": maps[s],
            "scores": np.broadcast_to(scores, x.shape)[s],
            "predicted": np.broadcast_to(predicted, x.shape[:2])[s],
            "explained": np.broadcast_to(explained, x.shape)[s],
            "health": health[s],
        }
        if probabilities is not None:
            recorded["probabilities"] = np.broadcast_to(probabilities, x.shape)[s]
        for name, values in arrays.items():
            if values[s] is not None:
                recorded[name] = np.broadcast_to(values[s], x.shape[1:])
        steps.append(Step(first + s, recorded, {} if logs is None else logs[s], 0.0))
    return steps


def reviewed(steps: list[Step], **described: Any) -> tuple[Measures, list[Event], str]:
    described.setdefault("probes", steps[0].arrays["maps"].shape[0])
    about = manifest(**described)
    measures = measure(steps)
    events = find_events(steps, measures, about)
    return measures, events, summary(steps, measures, about, events)


def path(*drifts: float) -> np.ndarray:
    """(S,) places that go there and back by these drifts."""
    place, places = 0.1, [0.1]
    for moved in drifts:
        place += moved if place <= 0.5 else -moved
        places.append(place)
    assert 0 <= min(places) <= max(places) <= 1
    return np.array(places)


# ---- Measures ----


def test_measures_are_those_of_drift() -> None:
    """Each step is compared with the one before and with the first; the first has nothing to be compared with."""
    measures = measure(training([0.2, 0.3, 0.7], first=-1))
    assert measures.steps == (-1, 0, 1)
    np.testing.assert_allclose(measures["drift"][:, 0, 0], [np.nan, 0.1, 0.4])
    np.testing.assert_allclose(measures["from_first"][:, 0, 0], [np.nan, 0.1, 0.5])
    np.testing.assert_allclose(measures["shift"][:, 0, 0], np.array([np.nan, 0.1, 0.4]) / 2 / np.sqrt(2))
    np.testing.assert_allclose(measures["rank"][:, 0, 0], [np.nan, 1, -1])
    assert measures.same_class.all()
    for name in ("floor", "focus", "pointing"):
        assert np.isnan(measures[name]).all()
    for name in ("drift", "from_first", "shift", "rank", "floor", "focus", "pointing"):
        assert measures[name].shape == (3, 1, 1)
        assert measures[name].dtype == np.float64


def test_the_floor_is_the_last_one_measured() -> None:
    """Before the first measurement it is unknown; a map that was empty when it was measured keeps its earlier floor."""
    floors = [None, [[0.1, 0.2]], None, [[0.3, np.nan]], None]
    measures = measure(training(np.full((5, 1, 2), 0.5), floor=floors))
    np.testing.assert_array_equal(measures["floor"][:, 0, 0], [np.nan, 0.1, 0.1, 0.3, 0.3])
    np.testing.assert_array_equal(measures["floor"][:, 0, 1], [np.nan, 0.2, 0.2, 0.2, 0.2])


def test_focus_comes_from_the_regions_or_the_record() -> None:
    """Regions that are given decide; without them it is what was recorded."""
    steps = training([[[0.2]], [[0.7]]], focus=[None, 0.25], pointing=[None, 1])
    measures = measure(steps)
    np.testing.assert_array_equal(measures["focus"][:, 0, 0], [np.nan, 0.25])
    np.testing.assert_array_equal(measures["pointing"][:, 0, 0], [np.nan, 1])
    measures = measure(steps, np.array([[[False, True]]]))
    np.testing.assert_allclose(measures["focus"][:, 0, 0], [0.2, 0.7])
    np.testing.assert_array_equal(measures["pointing"][:, 0, 0], [0, 1])


def test_only_maps_of_one_class_are_compared() -> None:
    """Where a target explains another class than before, or than at first, that comparison is undefined."""
    measures = measure(training([0.1, 0.2, 0.4, 0.7], explained=np.reshape([0, 0, 1, 0], (4, 1, 1))))
    assert measures.same_class[:, 0, 0].tolist() == [True, True, False, False]
    np.testing.assert_allclose(measures["drift"][:, 0, 0], [np.nan, 0.1, np.nan, np.nan])
    np.testing.assert_allclose(measures["from_first"][:, 0, 0], [np.nan, 0.1, np.nan, 0.6])
    for values in (measures["shift"], measures["rank"]):
        assert np.isnan(values[:, 0, 0]).tolist() == [True, False, True, True]


@pytest.mark.parametrize("grid", [(6,), (2, 3, 4)])
def test_signals_and_volumes_are_reviewed_too(grid: tuple[int, ...]) -> None:
    """Any grid has its drift; a region of a picture says nothing of it."""
    maps = np.random.default_rng(0).random((4, 2, 1, *grid))
    steps = training(np.full((4, 2, 1), 0.5))
    for step, each in zip(steps, maps, strict=True):
        step.arrays["maps"] = each  # type: ignore[index]
    measures = measure(steps, np.ones((2, 8, 8), bool))
    for s in range(1, 4):
        np.testing.assert_array_equal(measures["drift"][s], drift.drift(maps[s - 1], maps[s]))
        np.testing.assert_array_equal(measures["rank"][s], drift.rank(maps[s - 1], maps[s]))
    assert np.isnan(measures["focus"]).all()


# ---- Attention that jumps ----

QUIET = (0.4, 0.3, 0.2, 0.12, 0.05, 0.04, 0.06, 0.05, 0.04)


def test_a_jump_at_epoch_9_of_3_of_8_probes() -> None:
    """Just these three are flagged, at this epoch, and the sentence says so and when attention had settled."""
    places = np.stack([path(*QUIET[:8], 0.5 if n in (1, 4, 6) else 0.05, 0.04, 0.05) for n in range(8)], axis=1)[
        ..., None
    ]
    _, events, text = reviewed(training(places))
    assert [(event.step, event.kind, event.probe, event.target) for event in events] == [
        (9, "moved", n, 0) for n in (1, 4, 6)
    ]
    assert events[0].text == (
        "On cat_1, 50 % of the attention for tabby moved at epoch 9, after at most 6 % in each of the 3 steps before, "
        "while the prediction stayed tabby (probability 0.90, now 0.90)."
    )
    assert text == "Attention settled at epoch 4. It jumped on 3 of 8 probes at epoch 9 while the predictions stayed."


def test_one_probe_and_one_target() -> None:
    """The sentence counts no probes where there is one."""
    _, events, text = reviewed(training(path(*QUIET, 0.5, 0.03)))
    assert [event.step for event in events] == [10]
    assert text == "Attention settled at epoch 4. It jumped at epoch 10 while the prediction stayed."


def test_many_jumps_are_named_up_to_three() -> None:
    """Each is an event; the sentence names the first three epochs and counts the others."""
    quiet = (0.01,) * 4
    drifts = [moved for jump in range(5) for moved in (*quiet, 0.3)]
    places = np.stack([path(*drifts), path(*[0.01] * 25)], axis=1)[..., None]
    _, events, text = reviewed(training(places))
    assert [event.step for event in events] == [5, 10, 15, 20, 25]
    assert text == (
        "From epoch 0 to epoch 25 attention was steady: 1 % of it moved in a step. It jumped on 1 of 2 probes at epoch "
        "5, on 1 of 2 probes at epoch 10, on 1 of 2 probes at epoch 15 and at 2 more steps while the prediction stayed."
    )


@pytest.mark.parametrize("seed", range(20))
def test_early_learning_is_not_flagged(seed: int) -> None:
    """Attention that moves a lot, less and less, by chance, with an answer that stays, is a healthy training."""
    generator = np.random.default_rng(seed)
    usual = 0.04 + 0.5 * np.exp(-np.arange(20) / 3)[:, None]
    drifts = np.minimum(usual * np.exp(0.3 * generator.normal(size=(20, 24))), 0.5)
    places = np.stack([path(*column) for column in drifts.T], axis=1)[..., None]
    _, events, text = reviewed(training(places))
    assert events == []
    assert text.startswith("Attention settled at epoch ")


def test_a_jump_is_known_only_after_three_quiet_steps() -> None:
    """The third drift is too early, the fourth is not."""
    assert reviewed(training(path(0.05, 0.05, 0.6)))[1] == []
    assert [event.step for event in reviewed(training(path(0.05, 0.05, 0.05, 0.6)))[1]] == [4]
    assert reviewed(training([0.1, 0.15, np.nan, 0.1, 0.15, 0.75]))[1][-1].kind == "health"


@pytest.mark.parametrize(
    ("jump", "usual", "floor", "is_flagged"),
    [
        (0.19, 0.0, None, False),
        (0.21, 0.0, None, True),
        (0.29, 0.1, None, False),
        (0.31, 0.1, None, True),
        (0.39, 0.05, 0.1, False),
        (0.41, 0.05, 0.1, True),
        (0.21, 0.05, 0.001, True),
    ],
)
def test_what_is_a_jump(jump: float, usual: float, floor: float | None, is_flagged: bool) -> None:
    """More than a fifth of the attention, three times the usual, and four times the noise."""
    steps = training(path(usual, usual, usual, usual, jump), floor=[floor, *[None] * 5])
    assert [event.kind for event in reviewed(steps)[1]] == ["moved"] * is_flagged


@pytest.mark.parametrize(
    ("before", "after", "is_flagged"),
    [
        (0.9, 0.81, True),
        (0.9, 0.79, False),
        (0.3, 0.39, True),
        (0.05, 0.09, True),
        (0.001, 0.05, False),
        (0.02, 0.005, False),
    ],
)
def test_a_jump_with_another_probability_is_learning(before: float, after: float, is_flagged: bool) -> None:
    """It stays within 0.1, and is neither halved nor doubled."""
    steps = training(path(0.05, 0.05, 0.05, 0.5), probabilities=np.reshape([before] * 4 + [after], (5, 1, 1)))
    assert bool(reviewed(steps)[1]) == is_flagged


def test_a_jump_with_another_prediction_is_learning() -> None:
    """The map of a fixed class may jump when the network decides for another one."""
    steps = training(path(0.05, 0.05, 0.05, 0.5), predicted=np.reshape([1, 1, 1, 1, 2], (5, 1)))
    assert reviewed(steps)[1] == []


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 5), (100, -1e4)])
@pytest.mark.parametrize("has_classes", [True, False])
def test_scores_stay_where_there_are_no_probabilities(scale: float, offset: float, has_classes: bool) -> None:
    """Within a tenth of the range of the target's scores, whatever their unit; infinite scores never stay."""
    scores = np.array([0, 4, 8, 10, 10.0])
    for last, is_flagged in ((10.8, True), (11.5, False), (np.inf, False)):
        with_last = scale * np.append(scores, last).reshape(6, 1, 1) + offset
        probabilities = np.nan if has_classes else None
        predicted = 0 if has_classes else -1
        steps = training(
            path(0.05, 0.05, 0.05, 0.05, 0.5),
            scores=with_last,
            probabilities=probabilities,
            predicted=predicted,
            explained=predicted,
        )
        _, events, text = reviewed(steps, targets=["height"])
        assert bool(events) == is_flagged
        if is_flagged:
            assert ("prediction" in text, "score" in text) == (has_classes, not has_classes)
            assert f"(score {with_last[4, 0, 0]:.2f}, now {with_last[5, 0, 0]:.2f})." in events[0].text


def test_one_wild_score_does_not_stretch_the_range() -> None:
    """A spike of the loss early in the training must not make every later change look small."""
    scores = np.linspace(0, 10, 44)
    scores[3], scores[-1] = 1e6, 13
    drifts = [0.05] * 42 + [0.5]
    steps = training(path(*drifts), scores=scores.reshape(44, 1, 1), probabilities=None)
    assert reviewed(steps)[1] == []


@pytest.mark.parametrize(
    ("target", "explained", "shown"),
    [
        ("tabby", 0, "tabby"),
        ("predicted", 1, "lynx (predicted)"),
        ("tabby − lynx", 0, "tabby − lynx"),
        ("area", -1, "area"),
    ],
)
def test_what_jumped_is_named(target: str, explained: int, shown: str) -> None:
    """A target that names no class also says which class it explains."""
    _, events, _ = reviewed(training(path(0.05, 0.05, 0.05, 0.5), explained=explained), targets=[target])
    assert f"50 % of the attention for {shown} moved at epoch 4" in events[0].text


# ---- Attention that settles ----


@pytest.mark.parametrize(
    ("drifts", "floor", "text"),
    [
        ((0.5, 0.3, 0.12, 0.08, 0.05), None, "Attention settled at epoch 3."),
        ((0.5, 0.3, 0.12, 0.08, 0.05), 0.2, "Attention settled at epoch 1."),
        ((0.5, 0.3, 0.12, 0.08, 0.05), 0.01, "Attention settled at epoch 3."),
        ((0.5, 0.08, 0.05, 0.3, 0.05, 0.04, 0.09), None, "Attention settled at epoch 4."),
        (
            (0.5, 0.4, 0.3, 0.21),
            None,
            "Attention had not settled by epoch 4: 21 % of it moved from epoch 3 to epoch 4.",
        ),
        (
            (0.5, 0.4, 0.3, 0.05),
            None,
            "Attention had not settled by epoch 4: 30 % of it moved from epoch 2 to epoch 3.",
        ),
        ((0.02, 0.04, 0.03), None, "From epoch 0 to epoch 3 attention was steady: 3 % of it moved in a step."),
        ((0.004, 0.002), None, "From epoch 0 to epoch 2 attention was steady: 0.3 % of it moved in a step."),
        ((0.7,), None, "Attention had not settled by epoch 1: 70 % of it moved from epoch 0 to epoch 1."),
        ((0.0, 0.0, 0.0), None, "The maps did not change: drift is exactly 0 from epoch 0 to epoch 3."),
    ],
)
def test_when_attention_settled(drifts: tuple[float, ...], floor: float | None, text: str) -> None:
    """After its last step with a mean drift over a tenth and over twice the noise, if two steps have followed."""
    steps = training(path(*drifts), floor=[floor, *[None] * len(drifts)])
    assert reviewed(steps)[1:] == ([], text)


def test_settling_is_of_the_mean_over_all_maps() -> None:
    """One of four maps that still moves does not keep the attention from settling."""
    drifts = [[0.5, 0.4, 0.05, 0.04, 0.03]] * 3 + [[0.4, 0.3, 0.2, 0.2, 0.2]]
    places = np.stack([path(*row) for row in drifts], axis=1).reshape(6, 2, 2)
    assert reviewed(training(places), targets=["tabby", "lynx"])[1:] == ([], "Attention settled at epoch 2.")


def test_from_before_the_training() -> None:
    """The baseline is called what it is, and the unit is that of the journal."""
    assert reviewed(training([0.5, 0.5], first=-1), unit="batch")[2] == (
        "The maps did not change: drift is exactly 0 from before training to batch 0."
    )
    text = reviewed(training([0.1, 0.7], first=-1))[2]
    assert text == "Attention had not settled by epoch 0: 60 % of it moved from before training to epoch 0."
    assert reviewed(training(path(0.01, 0.02, 0.4, 0.03, 0.02), first=99), unit="batch")[2] == (
        "Attention settled at batch 102."
    )


@pytest.mark.parametrize(("first", "name"), [(0, "epoch 0"), (-1, "before training")])
def test_a_single_step(first: int, name: str) -> None:
    """Nothing is said to have settled or stayed."""
    measures, events, text = reviewed(training([0.3], first=first))
    assert np.isnan(measures["drift"]).all()
    assert events == []
    assert text == f"Only one step was recorded, {name}: there is nothing to compare it with."


# ---- Shortcuts ----


def watched(
    focus: Sequence[float], accuracy: Sequence[float], *, first: int = 0, name: str = "val_accuracy"
) -> list[Step]:
    """Quiet maps; two probes whose focus has these means; a NaN accuracy was not logged."""
    spread = [np.array([[mean + 0.04], [mean - 0.04]]) for mean in focus]
    logs = [{"loss": 1.0} if np.isnan(value) else {"loss": 1.0, name: value} for value in accuracy]
    return training(np.full((len(focus), 2, 1), 0.3), first=first, focus=spread, logs=logs)


def shortcuts(steps: list[Step]) -> list[Event]:
    """What the maps alone let suspect; without a test nothing is called a shortcut."""
    _, events, text = reviewed(steps)
    found = [event for event in events if event.kind == "suspect"]
    assert found == events
    assert ("shortcut" in text) == bool(found)
    assert all(event.text in text for event in found)
    return found


def test_a_suspicion_is_flagged_once_where_it_began() -> None:
    """The step is the first one that lies below for good; the sentence goes from the best step to the last."""
    (event,) = shortcuts(watched([0.3, 0.46, 0.4, 0.3, 0.25, 0.22, 0.21], [0.5, 0.81, 0.85, 0.9, 0.93, 0.97, 0.98]))
    assert (event.step, event.probe, event.target) == (3, None, None)
    assert event.text == (
        "Suspected, not tested: attention on the marked regions fell from 46 % at epoch 1 to 21 % at epoch 6 while "
        "val_accuracy rose from 81 % to 98 %, which looks like a shortcut."
    )


@pytest.mark.parametrize(
    ("focus", "accuracy"),
    [
        ([0.5, 0.45, 0.5, 0.46], [0.6, 0.7, 0.8, 0.9]),  # within the noise
        ([0.9, 0.85, 0.8, 0.75], [0.6, 0.7, 0.8, 0.9]),  # by more than a tenth, but not by much of what it was
        ([0.12, 0.08, 0.05, 0.04], [0.6, 0.7, 0.8, 0.9]),  # by much of what it was, but that was little
        ([0.5, 0.5, 0.2, 0.5], [0.6, 0.7, 0.8, 0.9]),  # not for good
        ([0.5, 0.4, 0.3, 0.2], [0.9, 0.8, 0.7, 0.6]),  # the network got worse
        ([0.5, 0.4, 0.3, 0.2], [0.25, 0.26, 0.25, 0.26]),  # it learned nothing
        ([0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9]),  # the other way
        ([0.5, 0.4, 0.3, 0.2], [np.nan] * 4),  # nobody knows
        ([np.nan] * 4, [0.6, 0.7, 0.8, 0.9]),  # no regions
    ],
)
def test_what_is_no_shortcut(focus: list[float], accuracy: list[float]) -> None:
    assert shortcuts(watched(focus, accuracy)) == []


def test_a_high_accuracy_that_stays_is_enough() -> None:
    """Within two hundredths, it stays."""
    (event,) = shortcuts(watched([0.5, 0.5, 0.2], [0.97, 0.98, 0.97]))
    assert "fell from 50 % at epoch 0 to 20 % at epoch 2 while val_accuracy stayed at 97 %" in event.text


def test_a_fall_from_before_the_training_counts() -> None:
    """The untrained network has no accuracy; it is taken to have that of the first epoch at most."""
    (event,) = shortcuts(watched([0.5, 0.3, 0.2, 0.1], [np.nan, 0.4, 0.6, 0.8], first=-1))
    assert event.step == 1
    assert "from 50 % before training to 10 % at epoch 2 while val_accuracy reached 80 %" in event.text
    assert shortcuts(watched([0.5, 0.3, 0.2, 0.1], [np.nan, 0.4, 0.4, 0.4], first=-1)) == []


def test_a_last_epoch_that_was_cut_short_changes_nothing() -> None:
    """It has no metrics, so the last epoch that has some is asked."""
    (event,) = shortcuts(watched([0.5, 0.5, 0.2, 0.4], [0.6, 0.7, 0.9, np.nan]))
    assert "to 20 % at epoch 2 while val_accuracy rose from 60 % to 90 %" in event.text


@pytest.mark.parametrize(
    ("logs", "text"),
    [
        ({"val_accuracy": (0.5, 0.9), "accuracy": (0.4, 0.8)}, "val_accuracy rose from 50 % to 90 %"),
        ({"accuracy": (0.4, 0.8), "val_binary_accuracy": (0.1, 0.9)}, "accuracy rose from 40 % to 80 %"),
        (
            {"binary_accuracy": (0.4, 0.8), "val_binary_accuracy": (0.1, 0.9)},
            "val_binary_accuracy rose from 10 % to 90 %",
        ),
        ({"accuracy": (40.0, 80.0)}, "accuracy rose from 40 to 80"),
        ({"loss": (1.23456, 0.12345)}, "loss fell from 1.23 to 0.123"),
        ({"loss": (0.12, 1.2)}, None),
        ({"loss": (0.5, 0.5)}, None),
        ({"loss": (np.inf, np.nan)}, None),
    ],
)
def test_which_metric_says_how_well_it_does(logs: dict[str, tuple[float, float]], text: str | None) -> None:
    """val_accuracy, accuracy, another accuracy, or a falling loss."""
    at = [{"mse": 0.0, **{name: values[s] for name, values in logs.items()}} for s in range(2)]
    events = shortcuts(training([0.3, 0.3], focus=[0.5, 0.2], logs=at))
    said = [event.text.split(" while ")[1].removesuffix(", which looks like a shortcut.") for event in events]
    assert said == ([] if text is None else [text])


def test_focus_is_compared_over_the_same_maps() -> None:
    """A probe with much focus whose map becomes empty is no fall."""
    focus = [[[0.9], [0.2]], [[0.9], [0.2]], [[np.nan], [0.2]], [[np.nan], [0.2]]]
    logs = [{"accuracy": value} for value in (0.5, 0.6, 0.7, 0.8)]
    assert shortcuts(training(np.full((4, 2, 1), 0.3), focus=focus, logs=logs)) == []


def test_what_speaks_for_another_class_may_lie_beside_the_object() -> None:
    """A network that learns to look elsewhere for the other target is no shortcut; with labels they say which it is."""
    logs = [{"accuracy": value} for value in (0.5, 0.8, 0.95)]
    focus = [[[0.5, 0.5]], [[0.6, 0.1]], [[0.7, 0.0]]]
    steps = training(np.full((3, 1, 2), 0.3), explained=[0, 1], predicted=0, focus=focus, logs=logs)

    def kinds(**labels: Any) -> list[str]:
        about = replace(manifest(probes=1, targets=("cat", "dog")), **labels)
        return [event.kind for event in find_events(steps, measure(steps), about)]

    assert kinds() == []
    assert kinds(labels=[0]) == []
    assert kinds(labels=[1]) == ["suspect"]


def test_the_probability_that_stayed_is_that_of_the_class_explained() -> None:
    """Where another class than the prediction is explained, the numbers are said to be its."""
    steps = training(path(0.01, 0.01, 0.01, 0.6), probabilities=0.02, explained=1, predicted=0)
    (text,) = [event.text for event in reviewed(steps)[1] if event.kind == "moved"]
    assert text.endswith("while the prediction stayed tabby (probability of lynx 0.02, now 0.02).")


# ---- Classes and health ----


def test_a_prediction_that_changes_is_an_event_of_its_own() -> None:
    """At the step where it changed, and no movement is made up of it."""
    explained = np.zeros((6, 2, 2), int)
    explained[4:, 1, 1] = 2
    places = np.full((6, 2, 2), 0.1)
    places[4:, 1, 1] = 0.9
    _, events, text = reviewed(training(places, explained=explained), targets=["tabby", "predicted"])
    assert events == [
        Event(4, "class", 1, 1, "On cat_1, the target 'predicted' changed from tabby to puma at epoch 4.")
    ]
    assert text == "The maps did not change: drift is exactly 0 from epoch 0 to epoch 5."


def test_classes_without_names() -> None:
    """They are numbered."""
    steps = training([0.1, 0.1], explained=np.reshape([3, 5], (2, 1, 1)))
    about = replace(manifest(targets=["predicted"]), class_names=None)
    (event,) = find_events(steps, measure(steps), about)
    assert "changed from class_3 to class_5" in event.text


def test_a_target_whose_class_changes_all_the_time() -> None:
    """There is nothing to compare, and that is said."""
    steps = training([0.1, 0.5, 0.9], explained=np.reshape([0, 1, 2], (3, 1, 1)))
    assert reviewed(steps)[2] == "From epoch 0 to epoch 2, no map can be compared with the one before it."


def test_a_map_that_becomes_empty_and_comes_back() -> None:
    """Two events, and no sentence about what is fine again."""
    places = np.full((5, 2, 1), 0.4)
    places[2:4, 1] = np.nan
    _, events, text = reviewed(training(places))
    assert events == [
        Event(2, "health", 1, 0, "The map of cat_1 for tabby became empty at epoch 2; it was ok."),
        Event(4, "health", 1, 0, "The map of cat_1 for tabby became ok at epoch 4; it was empty."),
    ]
    assert text == "The maps did not change: drift is exactly 0 from epoch 0 to epoch 4."


def test_a_training_that_diverges() -> None:
    """All maps at once are one event; the sentence says how it ended."""
    places = np.tile(path(0.5, 0.4, 0.03, 0.02, 0.04)[:, None, None], (1, 4, 2))
    places[5] = np.inf
    _, events, text = reviewed(training(places), targets=["tabby", "lynx"])
    assert events == [Event(5, "health", None, None, "All 8 maps became non-finite at epoch 5.")]
    assert text == "Attention settled at epoch 2. Of 8 maps at epoch 5, all are non-finite."


@pytest.mark.parametrize(
    ("last", "text"),
    [
        ([np.nan, 0.5, 0.5, 0.5], "Of 4 maps at epoch 2, 1 is empty."),
        ([np.nan, np.nan, 0.5, np.inf], "Of 4 maps at epoch 2, 2 are empty and 1 is non-finite."),
    ],
)
def test_maps_that_say_nothing_at_the_end(last: list[float], text: str) -> None:
    """They are counted by what is wrong with them."""
    places = np.full((3, 4, 1), 0.5)
    places[2, :, 0] = last
    assert reviewed(training(places))[2].endswith(text)


def test_maps_that_were_never_anything() -> None:
    """No event, since nothing changed, but the sentences say it."""
    _, events, text = reviewed(training([np.nan] * 3, first=-1))
    assert events == []
    assert text == (
        "From before training to epoch 1, no map can be compared with the one before it. The map at epoch 1 is empty."
    )


def test_events_come_in_the_order_of_the_steps() -> None:
    """Whatever their kinds."""
    places = np.stack([path(0.01, 0.01, 0.01, 0.5, 0.01), path(*[0.01] * 5)], axis=1)[..., None]
    places[2:, 1] = np.nan
    logs = [{"accuracy": value} for value in (0.5, 0.6, 0.7, 0.8, 0.9, 0.9)]
    steps = training(places, focus=[0.6, 0.6, 0.6, 0.6, 0.6, 0.1], logs=logs)
    _, events, _ = reviewed(steps)
    assert [(event.step, event.kind) for event in events] == [(2, "health"), (4, "moved"), (5, "suspect")]


def test_a_network_that_is_right_and_never_looks_there_is_flagged() -> None:
    """Less than 1.5 times the regions' share of the picture, from the epoch on in which it is right; else not."""
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True  # a quarter
    images = np.zeros((2, 8, 8, 3), np.uint8)
    described = replace(manifest(2), regions=ProbeSet(images, regions=[mask, mask]).description()["regions"])

    def found(focus: list[float], accuracy: list[float]) -> list[Event]:
        steps = watched(focus, accuracy)
        return [event for event in find_events(steps, measure(steps), described) if event.kind == "suspect"]

    (event,) = found([0.25, 0.27, 0.3], [0.5, 0.93, 0.97])
    assert event.step == 1
    assert event.text == (
        "Suspected, not tested: only 30 % of the attention lies on the marked regions at epoch 2, where a map without "
        "any preference has 25 %, while val_accuracy is 97 %, which looks like a shortcut."
    )
    assert found([0.25, 0.3, 0.45], [0.5, 0.93, 0.97]) == []  # it found the object in the end
    assert found([0.25, 0.27, 0.3], [0.5, 0.7, 0.8]) == []  # it is not right


# ---- Answers and maps that are the same whatever the picture ----

ALIKE = (
    "Whatever the picture, scores and maps are the same on all 3 probes {}. Look for batch-normalisation statistics "
    "that do not fit the pictures, a learning rate that is too high, ReLUs that are dead, and pictures that are "
    "preprocessed twice or not at all, so that all become one value."
)


def constant(
    steps: list[Step], pictures: Sequence[str] = ("a", "b", "c"), targets: Sequence[str] = ("tabby",)
) -> tuple[list[Event], str]:
    about = replace(manifest(3, targets), pictures=tuple(pictures))
    events = find_events(steps, measure(steps), about)
    told = summary(steps, measure(steps), about, events)
    return [event for event in events if event.kind == "constant"], told


def test_constant_answers_are_one_event_from_when_to_when() -> None:
    """Of the steps at which scores and maps of all probes are the same; what ended is not in the summary."""
    places = np.full((6, 3, 1), 0.4)
    places[0, :, 0] = places[3, :, 0] = 0.2, 0.4, 0.5
    events, told = constant(training(places, first=-1))
    assert events == [
        Event(0, "constant", None, None, ALIKE.format("from epoch 0 to epoch 1"), last=1),
        Event(3, "constant", None, None, ALIKE.format("from epoch 3 to epoch 4"), last=4),
    ]
    assert told == events[1].text
    events, told = constant(training(places[:4], first=-1))
    assert [(event.step, event.last) for event in events] == [(0, 1)]
    assert "Whatever the picture" not in told
    (event,), told = constant(training(places[1:2]))
    assert event.text == ALIKE.format("at epoch 0")
    (event,), _ = constant(training(places[1:2], first=-1))
    assert event.text == ALIKE.format("before training")


def test_constant_answers_are_told_instead_of_how_attention_moved() -> None:
    """A network that ignores its input has the steadiest attention of all, and that is no good news."""
    _, told = constant(training(np.full((4, 3, 1), 0.4)))
    assert told == ALIKE.format("from epoch 0 to epoch 3")
    places = np.full((4, 3, 1), np.nan)
    _, told = constant(training(places))
    assert told == ALIKE.format("from epoch 0 to epoch 3") + " Of 3 maps at epoch 3, all are empty."


@pytest.mark.parametrize(
    ("changed", "is_constant"),
    [
        ({}, True),
        ({"scores": [[3.0], [3.0 * (1 + 1e-6)], [3.0]]}, True),  # noise of the numbers
        ({"scores": [[3.0], [3.0 * (1 - 5e-5)], [3.0]]}, True),
        ({"scores": [[3.0], [3.0 * 0.999], [3.0]]}, False),
        ({"scores": [[1e-11], [0.6e-11], [1e-11]]}, False),  # random MobileNetV2: tiny scores that differ
        ({"scores": [[0.0], [0.0], [0.0]]}, True),
        ({"scores": [[np.nan], [np.nan], [np.nan]]}, False),  # that is another trouble
        ({"predicted": [0, 1, 0]}, False),
        ({"places": [[0.4], [0.4 + 1e-6], [0.4]]}, True),
        ({"places": [[0.4], [0.4005], [0.4]]}, True),
        ({"places": [[0.4], [0.405], [0.4]]}, False),
        ({"places": [[np.nan], [np.nan], [np.nan]]}, True),  # a dead network: nothing speaks for anything
        ({"places": [[np.nan], [0.4], [0.4]]}, False),
        ({"pictures": ["a", "a", "b"]}, True),
        ({"pictures": ["a", "a", "a"]}, False),  # one picture, three times
        ({"pictures": []}, False),  # nobody knows
        ({"explained": [[0], [1], [2]]}, False),  # each of its own class: nothing to compare
        ({"explained": [[0], [1], [1]]}, True),
        ({"explained": [[0], [1], [1]], "pictures": ["a", "b", "b"]}, False),
        ({"explained": [[-1], [-1], [-1]], "predicted": [-1, -1, -1]}, True),  # a function of a model without classes
    ],
)
def test_what_is_constant(changed: dict[str, Any], is_constant: bool) -> None:
    """Up to noise, of pictures that differ, as far as they explain the same class."""
    pictures = changed.pop("pictures", ["a", "b", "c"])
    places = np.array([changed.pop("places", [[0.4]] * 3)])
    arrays = {name: np.array([values]) for name, values in changed.items()}
    events, _ = constant(training(places, **arrays), pictures)
    assert len(events) == is_constant


def test_one_target_that_tells_pictures_apart_is_enough() -> None:
    """Answers are constant where those of every target are."""
    places = np.full((2, 3, 2), 0.4)
    assert constant(training(places), targets=["tabby", "lynx"])[0]
    places[:, 1, 1] = 0.6
    assert not constant(training(places), targets=["tabby", "lynx"])[0]


def test_the_scale_of_a_map_is_none_of_its_places() -> None:
    """Maps of the same shares are the same; how high they are, the scores say."""
    steps = training(np.full((1, 3, 1), 0.4))
    steps[0].arrays["maps"][1] *= 2  # type: ignore[index]
    assert constant(steps)[0]

"""One verdict a record, the most serious that holds: each has a record that makes it true, and one near it not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from support.journals import encoded_mask
from support.manifests import a_manifest
from support.reliance import a_finding, a_test, box

from gradcam_callbacks.record.manifest import Manifest
from gradcam_callbacks.record.reliance import Reliance
from gradcam_callbacks.record.step import Step
from gradcam_callbacks.record.verdicts import VERDICTS, is_serious
from gradcam_callbacks.reviewing import verdict
from gradcam_callbacks.reviewing.events import Event, find_events
from gradcam_callbacks.reviewing.measuring import measure
from gradcam_callbacks.reviewing.verdict import MOST_SUMMARY, Verdict, find_verdict

PROBES = 4
REGION = encoded_mask(box(0, 0, 24, 32))
ABOUT = a_manifest(
    [f"boat_{n}" for n in range(PROBES)],
    ("sailboat",),
    class_names=("sailboat", "rowboat"),
    labels=[0] * PROBES,
    regions=[REGION] * PROBES,
    pictures=[f"picture {n}" for n in range(PROBES)],
)
FALLING = (0.9, 0.75, 0.6, 0.3, 0.2, 0.2)
STEADY = (0.8,) * 6
NOTHING = Reliance(reason="No class has two pictures that are answered alike.")


def record(
    focus: Sequence[float] = STEADY,
    *,
    drifts: Sequence[Any] = (),
    health: Mapping[int, Sequence[str]] | None = None,
    is_constant: bool = False,
) -> list[Step]:
    """Steps of four probes whose maps are two cells (1 - x, x); x moves by the drifts, there and back, a probe each."""
    x = np.full(PROBES, 0.2)
    steps = []
    for s, value in enumerate(focus):
        moved = np.broadcast_to(drifts[s - 1] if 0 < s <= len(drifts) else 0.01, PROBES)
        x = np.where(x <= 0.5, x + moved, x - moved)
        maps = np.stack([1 - x, x], axis=-1).reshape(PROBES, 1, 1, 2)
        arrays = {
            "maps": maps.astype(np.float32),
            "scores": np.full((PROBES, 1), 3.0) + (0 if is_constant else np.arange(PROBES)[:, None]),
            "probabilities": np.full((PROBES, 1), 0.9),
            "explained": np.zeros((PROBES, 1), int),
            "predicted": np.zeros(PROBES, int),
            "health": np.array((health or {}).get(s, ["ok"] * PROBES)).reshape(PROBES, 1),
            "focus": np.full((PROBES, 1), value),
        }
        steps.append(Step(s, arrays, {"val_accuracy": 0.5 + 0.09 * s}, 0.0))
    return steps


def judged(
    steps: Sequence[Step], tests: Mapping[int, Reliance] | None = None, about: Manifest = ABOUT
) -> tuple[Verdict, list[Event]]:
    measures = measure(steps)
    events = find_events(steps, measures, about, tests)
    return find_verdict(steps, measures, about, events, tests or {}), events


def kinds(events: Sequence[Event]) -> list[tuple[int, str]]:
    return [(event.step, event.kind) for event in events]


# ---- Shortcuts, suspected, confirmed and cleared ----


def test_maps_alone_are_a_suspicion() -> None:
    """Focus that fell while accuracy rose is suspect where no test was made, and no shortcut."""
    found, events = judged(record(FALLING))
    assert kinds(events) == [(3, "suspect")]
    assert found.name == "suspect"
    assert found.summary == (
        "Suspected, not tested: attention on the marked regions fell from 90 % at epoch 0 to 20 % at epoch 5 while "
        "val_accuracy rose from 50 % to 95 %, which looks like a shortcut. From epoch 0 to epoch 5 attention was "
        "steady: 1 % of it moved in a step."
    )
    assert judged(record(STEADY))[0].name == "ok"


def test_a_test_that_confirms_makes_it_a_shortcut() -> None:
    """The event lies where the maps began to say it, and has the counts, and what was seen."""
    found, events = judged(record(FALLING), {5: a_test("confirmed", covered=(4, 4), elsewhere=(0, 12))})
    assert kinds(events) == [(3, "shortcut")]
    assert found.name == "shortcut"
    assert events[0].text == (
        "Confirmed by the test: without an area outside the marked regions (25 % of the picture), 4 of 4 answers "
        "“sailboat” change; without as much elsewhere, 0 of 12. Attention on the marked regions fell from 90 % at "
        "epoch 0 to 20 % at epoch 5 while val_accuracy rose from 50 % to 95 %."
    )
    assert found.summary.startswith(events[0].text)


def test_a_test_that_cleared_it_leaves_no_suspicion() -> None:
    """It is said what was seen and what became of it; the verdict is that of the rest."""
    found, events = judged(record(FALLING), {5: a_test("cleared", covered=(0, 4), elsewhere=(0, 12), pasted=(0, 9))})
    assert kinds(events) == [(3, "cleared")]
    assert events[0].text == (
        "Cleared by the test: attention on the marked regions fell from 90 % at epoch 0 to 20 % at epoch 5 while "
        "val_accuracy rose from 50 % to 95 %, which looks like a shortcut; but without areas outside of these, 0 of 4 "
        "answers change, and without as much elsewhere 0 of 12; pasted on other pictures, the areas change 0 of 9 "
        "answers to their class."
    )
    assert found.name == "ok"
    assert found.summary.endswith(events[0].text)


def test_a_test_that_could_not_tell_leaves_the_suspicion() -> None:
    """One event has both, what the test counted and what the maps say."""
    found, events = judged(record(FALLING), {5: a_test("untold", covered=(2, 4))})
    assert kinds(events) == [(3, "suspect")]
    assert found.name == "suspect"
    assert found.summary.startswith("Suspected, and the test could not tell: without an area outside")
    assert "Attention on the marked regions fell from 90 %" in found.summary


def test_a_test_that_could_test_nothing_leaves_the_suspicion() -> None:
    """The reason is said."""
    found, events = judged(record(FALLING), {5: NOTHING})
    assert kinds(events) == [(3, "suspect")]
    assert found.name == "suspect"
    assert found.summary.startswith("Suspected, and nothing could be tested: attention on the marked regions fell")
    assert "which looks like a shortcut. No class has two pictures that are answered alike." in found.summary


def test_a_test_before_the_suspicion_clears_nothing() -> None:
    """What the maps began to say after the last test is not tested."""
    found, events = judged(record(FALLING), {2: a_test("cleared")})
    assert kinds(events) == [(3, "suspect")]
    assert found.summary.startswith("Suspected, not tested:")
    assert judged(record(FALLING), {3: a_test("cleared")})[0].name == "ok"


def test_the_last_test_decides() -> None:
    """What it clears is no shortcut any more, and that is said; one in which nothing could be tested is none."""
    confirmed, cleared = a_test("confirmed"), a_test("cleared")
    found, events = judged(record(), {1: confirmed, 4: cleared})
    assert (found.name, kinds(events)) == ("ok", [(4, "cleared")])
    assert events[0].text.startswith("Cleared by the test: without an area")
    assert events[0].text.endswith("A test at epoch 1 had confirmed it.")
    assert judged(record(), {1: cleared, 4: confirmed})[0].name == "shortcut"
    assert judged(record(), {1: confirmed, 4: NOTHING})[0].name == "shortcut"
    assert judged(record(), {1: confirmed, 4: Reliance()})[0].name == "ok"


def test_without_the_maps_a_finding_lies_where_attention_turned_to_its_area() -> None:
    """The record's maps do not point at it, and the test does: the event is where attention on the area rose."""
    mask = np.zeros((48, 64), bool)
    mask[:, 32:] = True  # the second cell
    steps = record(drifts=(0.01, 0.01, 0.6, 0.01, 0.01))
    finding = a_finding(kind="common", areas=(mask,), in_place=True)
    found, events = judged(steps, {5: Reliance(findings=(finding,))})
    assert [event.step for event in events if event.kind == "shortcut"] == [3]
    assert found.name == "shortcut"
    # As of step 2, when an earlier test was made, it had not risen.
    assert kinds(judged(steps[:3], {2: Reliance(findings=(finding,))})[1]) == [(2, "shortcut")]


def test_what_pictures_have_in_common_is_no_answer_to_the_regions() -> None:
    """A look at the marked regions is cleared by findings outside of them alone."""
    common = a_test("cleared", kind="common")
    assert judged(record(FALLING), {5: common})[0].name == "suspect"


def test_several_findings() -> None:
    """Each is an event; what the maps say is told once."""
    found, events = judged(record(FALLING), {5: a_test("confirmed", "untold", "cleared")})
    assert kinds(events) == [(3, "shortcut"), (3, "suspect")]
    assert sum("Attention on the marked regions fell" in event.text for event in events) == 1
    assert found.name == "shortcut"


def test_a_test_is_mentioned_where_nothing_is_wrong() -> None:
    """So that one knows that the network was asked."""
    assert judged(record(), {5: a_test("cleared", covered=(1, 8))})[0] == Verdict(
        "ok",
        "From epoch 0 to epoch 5 attention was steady: 1 % of it moved in a step. Cleared by the test at epoch 5: 1 of "
        "8 answers change when an area is covered.",
    )
    assert judged(record(), {5: NOTHING})[0].summary.endswith(f"Nothing could be tested: {NOTHING.reason}")
    assert judged(record(), {5: Reliance(passes=30)})[0].summary.endswith(
        "A test at epoch 5 found no area of the pictures that answers rest on."
    )
    assert judged(record(), {5: Reliance()})[0].summary == judged(record())[0].summary


# ---- The others ----


def test_constant() -> None:
    """Answers and maps are the same at the last step; where they were, and are not any more, it is not."""
    assert judged(record(is_constant=True))[0].name == "constant"
    healed = [*record(is_constant=True)[:-1], record()[-1]]
    assert judged(healed)[0].name == "ok"


@pytest.mark.parametrize(("empty", "name"), [(2, "ok"), (3, "unfit"), (4, "unfit")])
def test_unfit(empty: int, name: str) -> None:
    """More than half of the maps of the last step say nothing; what earlier ones said does not count."""
    states = ["empty"] * empty + ["ok"] * (PROBES - empty)
    found = judged(record(health={5: states}))[0]
    assert found.name == name
    if name == "unfit":
        counted = "all are" if empty == PROBES else "3 are"
        assert found.summary.startswith(f"Of 4 maps at epoch 5, {counted} empty.")
    assert judged(record(health={4: states}))[0].name == "ok"


QUIET = (0.01,) * 3


@pytest.mark.parametrize(
    ("drifts", "length", "name"),
    [
        ((*QUIET, (0.5, 0, 0, 0), 0.01, 0.01), 7, "moved"),
        ((*QUIET, 0.5, 0.01, 0.01), 7, "moved"),
        ((*QUIET, 0.5, *QUIET, *QUIET), 10, "ok"),  # in the first half
        ((0.01, 0.01, 0.5, 0.01, 0.01), 6, "ok"),  # of early learning
        ((*QUIET, 0.15, 0.01, 0.01), 7, "unsettled"),  # no jump, but too much to have settled, but for two steps after
    ],
)
def test_moved(drifts: Sequence[Any], length: int, name: str) -> None:
    """A jump on a quarter of the probes at once, in the later half, at the fourth step or later."""
    if name == "unsettled":
        drifts = (*QUIET, 0.15, 0.01)
        length = 6
    found = judged(record(STEADY[:1] * length, drifts=drifts))[0]
    assert found.name == name
    if name == "moved":
        assert found.summary.startswith("It jumped on ")
        assert "of 4 probes at epoch 4 while the predictions stayed." in found.summary.replace(
            "prediction ", "predictions "
        )


def test_a_jump_on_few_probes_is_not_the_verdict() -> None:
    """One of five probes is less than a quarter; it stays an event."""
    about = a_manifest([f"boat_{n}" for n in range(5)], ("sailboat",))
    steps = record(STEADY[:1] * 7, drifts=(*QUIET, (0.5, 0, 0, 0), 0.01, 0.01))
    for step in steps:
        for name, array in step.arrays.items():
            step.arrays[name] = np.concatenate([array, array[-1:]])  # type: ignore[index]
    found, events = judged(steps, about=about)
    assert kinds(events) == [(4, "moved")]
    assert found.name == "ok"


@pytest.mark.parametrize(
    ("drifts", "length", "name"),
    [((0.3,), 2, "unsettled"), ((), 1, "ok"), ((0.3, 0.01, 0.01), 4, "ok"), ((0.01,), 2, "ok")],
)
def test_unsettled(drifts: Sequence[float], length: int, name: str) -> None:
    """Attention still moved at the end; of one step nobody can say."""
    found = judged(record(STEADY[:1] * length, drifts=drifts))[0]
    assert found.name == name
    assert found.summary.startswith("Attention had not settled by ") == (name == "unsettled")


def test_the_most_serious_comes_first() -> None:
    """A record of which several hold gets the first of the list, and its summary all of them, in that order."""
    steps = record(FALLING, health={5: ["empty"] * PROBES}, is_constant=True, drifts=(0.3,) * 5)
    found, _ = judged(steps, {5: a_test("confirmed", "untold")})
    assert found.name == "shortcut"
    texts = ("Confirmed by the test", "Suspected, and the test")
    assert [found.summary.find(text) for text in texts] == sorted(found.summary.find(text) for text in texts)
    assert found.summary.startswith(texts[0])
    assert judged(steps)[0].name == "suspect"
    assert judged(record(health={5: ["empty"] * PROBES}, drifts=(0.3,) * 5))[0].name == "unfit"


def test_a_summary_is_cut_at_a_sentence() -> None:
    """It has 500 characters at most, and ends with a full stop."""
    tests = {5: a_test(*["confirmed"] * 5, elsewhere=(0, 12), hidden=(0, 4), hidden_covered=(4, 4))}
    found, _ = judged(record(FALLING), tests)
    assert 300 < len(found.summary) <= MOST_SUMMARY
    assert found.summary.endswith(".")
    assert len(verdict._cut("word " * 400)) <= MOST_SUMMARY
    assert verdict._cut("word " * 400).endswith("word…")
    assert verdict._cut(f"{'a' * 400}. {'B' * 97}. C") == f"{'a' * 400}. {'B' * 97}."


def test_the_list_is_closed() -> None:
    """Its order is that of seriousness."""
    assert VERDICTS == ("shortcut", "suspect", "constant", "unfit", "moved", "unsettled", "ok")
    assert is_serious("shortcut", "suspect")
    assert is_serious("suspect", "suspect")
    assert not is_serious("constant", "suspect")

"""Which step a training is at, which are recorded, and what a fault leaves: in plain numbers, without a training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest

from gradcam_callbacks.training.schedule import Rest, Schedule

BATCHES = 4
"""In an epoch."""


def begun(*, next_free: int = 0, iterations: int | None = 0, **plan: int | None) -> Schedule:
    """A schedule whose training has begun; it is planned for 9 epochs of 4 batches where nothing else is said."""
    schedule = Schedule(**({"epochs": 9, "batches": BATCHES} | plan))
    schedule.train_began(next_free, iterations)
    return schedule


def play(schedule: Schedule, epochs: Iterable[int], *, stop: int | None = None, at_once: int = 1) -> list[int]:
    """Calls what `fit` calls for these epochs, `at_once` batches an execution.

    Returns:
        The steps to record, in the order of the answers.
    """
    answers, iterations = [], 0
    for epoch in epochs:
        schedule.epoch_began(epoch)
        for batch in range(at_once - 1, BATCHES, at_once):
            iterations += at_once
            if schedule.counts_batches:
                answers.append(schedule.batch_ended(batch, iterations))
        answers.append(schedule.epoch_ended(epoch, iterations, is_stopping=epoch == stop))
    return [answer for answer in answers if answer is not None]


def test_it_needs_neither_keras_nor_numpy() -> None:
    """Importing the schedule loads none of the large libraries."""
    code = "import gradcam_callbacks.training.schedule, sys; print({'keras', 'numpy', 'mlflow'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# ---- Epochs ----


def test_every_epoch_is_recorded_once() -> None:
    """With every=1 each epoch is recorded when it ends, and nothing is left for the end of the training."""
    schedule = begun()
    assert play(schedule, range(9)) == [*range(9)]
    assert schedule.train_ended() is None


def test_every_third_epoch_the_first_and_the_last_are_recorded() -> None:
    """every=3 over 8 epochs records 0, 3, 6 and 7."""
    assert play(begun(every=3, epochs=8), range(8)) == [0, 3, 6, 7]


def test_the_first_epoch_of_a_resumed_training_is_recorded() -> None:
    """Resumed at epoch 4, every=3 records that one too, though its number is none of 0, 3, 6."""
    assert play(begun(every=3, epochs=8), range(4, 8)) == [4, 6, 7]


def test_the_epoch_that_the_training_was_asked_to_stop_with_is_recorded() -> None:
    """stop_training, set by a callback before ours, makes its epoch the last one."""
    assert play(begun(every=5), range(3), stop=2) == [0, 2]


def test_the_last_epoch_is_recorded_at_the_end_where_nobody_knew_that_it_was() -> None:
    """stop_training, set by a callback behind ours, or a loop of unknown length: the end of the training tells."""
    schedule = begun(every=5, epochs=None)
    assert play(schedule, range(4)) == [0]
    assert schedule.step == 3
    assert schedule.train_ended() == 3
    assert schedule.train_ended() is None


def test_a_training_without_an_epoch_has_nothing_to_record() -> None:
    """`fit(epochs=0)` ends where it began."""
    schedule = begun()
    assert schedule.step is None
    assert schedule.train_ended() is None
    assert schedule.train_failed(0) is None


def test_a_loop_that_never_says_that_an_epoch_begins() -> None:
    """A training loop of the user's own that only calls on_epoch_end gets the same steps."""
    schedule = begun(every=2, next_free=3, epochs=4)
    assert [schedule.epoch_ended(epoch, None) for epoch in range(4)] == [3, None, 5, 6]
    schedule = begun(every=2, epochs=None)
    assert [schedule.epoch_ended(epoch, 4 * epoch + 4) for epoch in (3, 4, 5)] == [3, 4, None]
    assert schedule.train_failed(26) == Rest(6, is_cut_short=True)
    assert begun(next_free=3).train_failed(BATCHES) == Rest(3, is_cut_short=False)


# ---- Batches ----


def test_every_batches_counts_batches_through_the_epochs() -> None:
    """every_batches=3 over 2 epochs of 4 batches records batches 0, 3 and 6, and the last one, 7."""
    schedule = begun(every_batches=3, epochs=2)
    assert play(schedule, range(2)) == [0, 3, 6, 7]
    assert schedule.train_ended() is None


def test_the_last_batch_is_recorded_once() -> None:
    """Where it is due anyway, the end of the last epoch does not ask for it again."""
    assert play(begun(every_batches=7, epochs=2), range(2)) == [0, 7]


def test_with_batches_the_end_of_an_epoch_in_between_asks_for_nothing() -> None:
    """Neither the first epoch's end nor every second one's: `every` is not looked at."""
    assert play(begun(every=2, every_batches=100), range(3)) == [0]


def test_with_several_batches_an_execution_a_step_is_still_a_batch() -> None:
    """Of two batches run at once the second is told, and stands for the first where that is due."""
    assert play(begun(every_batches=4, epochs=3), range(3), at_once=2) == [1, 5, 9, 11]
    assert play(begun(every_batches=3, epochs=3), range(3), at_once=2) == [1, 3, 7, 9, 11]
    assert play(begun(every_batches=4, epochs=3), range(3), at_once=4) == [3, 7, 11]


def test_the_last_batch_of_a_training_that_was_asked_to_stop_is_recorded() -> None:
    """It is recorded at the end of its epoch, before EarlyStopping puts other weights back."""
    assert play(begun(every_batches=5), range(2), stop=1) == [0, 5, 7]


def test_an_epoch_without_a_batch_has_nothing_to_record() -> None:
    """Data that ran out at once: the next epoch's batches have the numbers that were meant for this one's."""
    schedule = begun(every_batches=1, epochs=1)
    assert schedule.epoch_ended(0, 0) is None
    assert schedule.batch_ended(0, 1) == 0


# ---- Several trainings in a run ----


def test_a_second_training_goes_on_after_the_first() -> None:
    """In a run that holds the steps 0 and 1, epochs 0 and 1 are the steps 2 and 3, whatever their turn."""
    assert play(begun(next_free=2), range(2)) == [2, 3]
    assert play(begun(next_free=2, every=3, epochs=8), range(8)) == [2, 5, 8, 9]
    assert play(begun(next_free=8, every_batches=4, epochs=2), range(2)) == [8, 12, 15]


def test_a_resumed_training_keeps_its_numbers() -> None:
    """With initial_epoch=3 the steps are 3, 4, ... whatever the run holds."""
    assert play(begun(epochs=5), range(3, 5)) == [3, 4]
    assert play(begun(next_free=7, epochs=5), range(3, 5)) == [3, 4]


def test_the_batches_of_a_resumed_training_keep_their_numbers() -> None:
    """Resumed at epoch 2 of 4 batches, the first batch is 8; in the middle of it, 10, which stands for 8."""
    assert play(begun(next_free=3, every_batches=4, epochs=4), range(2, 4)) == [8, 12, 15]
    schedule = begun(next_free=9, every_batches=4, epochs=4)
    schedule.epoch_began(2)
    assert [schedule.batch_ended(batch, batch) for batch in (2, 3)] == [10, None]
    assert schedule.step == 11


def test_the_batches_of_a_resumed_training_follow_where_nobody_knows_how_many_an_epoch_has() -> None:
    """A dataset of unknown length: they go on after what the run holds."""
    assert play(begun(next_free=5, every_batches=2, epochs=3, batches=None), range(2, 3)) == [6, 8]


# ---- Faults ----


def test_ctrl_c_in_the_middle_of_an_epoch_cuts_it_short() -> None:
    """With every=3, epoch 1 was left out and is gone, so the half epoch 2 is recorded, and said to be half."""
    schedule = begun(every=3)
    assert play(schedule, range(2)) == [0]
    schedule.epoch_began(2)
    assert schedule.train_failed(2 * BATCHES + 2) == Rest(2, is_cut_short=True)
    assert schedule.train_failed(2 * BATCHES + 2) is None, "once is enough"


def test_ctrl_c_leaves_nothing_where_the_last_epoch_is_on_record() -> None:
    """A half epoch after one that was recorded is none: the training that is resumed will do it whole."""
    schedule = begun()
    assert play(schedule, range(2)) == [0, 1]
    schedule.epoch_began(2)
    assert schedule.train_failed(2 * BATCHES + 2) is None
    schedule = begun()
    schedule.epoch_began(0)
    assert schedule.train_failed(2) is None, "before it, there is the baseline"


def test_a_fault_between_two_epochs_leaves_the_last_one_whole() -> None:
    """Where the model is as epoch 1 left it, that epoch is recorded; in a second training under the run's number."""
    schedule = begun(every=3, next_free=5)
    assert play(schedule, range(2)) == [5]
    assert schedule.train_failed(2 * BATCHES) == Rest(6, is_cut_short=False)


@pytest.mark.parametrize("every", [1, 3])
def test_a_fault_at_the_end_of_an_epoch_leaves_that_epoch_whole(every: int) -> None:
    """Where a callback before ours raises after the last batch, the epoch lacks nothing, and is recorded."""
    schedule = begun(every=every)
    play(schedule, range(2))
    schedule.epoch_began(2)
    assert schedule.train_failed(3 * BATCHES) == Rest(2, is_cut_short=False)


def test_how_long_an_epoch_is_may_be_unknown() -> None:
    """Then one that has not ended counts as cut short, however many batches it had."""
    schedule = begun(every=3, batches=None)
    play(schedule, range(2))
    schedule.epoch_began(2)
    assert schedule.train_failed(1000) == Rest(2, is_cut_short=True)


def test_the_fault_of_a_training_of_batches_leaves_the_last_batch() -> None:
    """It is recorded unless it was; where an execution has begun since, it is cut short."""
    schedule = begun(every_batches=4)
    schedule.epoch_began(0)
    assert [schedule.batch_ended(batch, batch + 1) for batch in range(2)] == [0, None]
    assert schedule.train_failed(2) == Rest(1, is_cut_short=False)
    schedule = begun(every_batches=4)
    schedule.epoch_began(0)
    assert [schedule.batch_ended(batch, batch + 1) for batch in range(2)] == [0, None]
    assert schedule.train_failed(3) == Rest(1, is_cut_short=True)
    schedule = begun(every_batches=4)
    schedule.epoch_began(0)
    assert schedule.batch_ended(0, 1) == 0
    assert schedule.train_failed(1) is None


def test_a_model_that_was_trained_on_elsewhere_is_not_recorded() -> None:
    """The exception was held and the model trained in another `fit`: by more than an epoch, or from older weights."""
    for iterations in (3 * BATCHES + 1, 2 * BATCHES - 1):
        schedule = begun(every=3)
        play(schedule, range(2))
        schedule.epoch_began(2)
        assert schedule.train_failed(iterations) is None


def test_the_first_epoch_is_counted_from_the_iterations_that_the_training_began_with() -> None:
    """A model that was trained before has an optimizer that does not begin at 0."""
    schedule = begun(iterations=100)
    schedule.epoch_began(0)
    assert schedule.train_failed(100 + BATCHES) == Rest(0, is_cut_short=False)
    schedule = begun(iterations=100)
    schedule.epoch_began(0)
    assert schedule.train_failed(BATCHES) is None


def test_nothing_is_recorded_of_a_fault_where_nobody_counts_the_batches() -> None:
    """A loop of the user's own without an optimizer, or a model that was compiled anew since."""
    for before, after in ((None, 4), (0, None), (None, None)):
        schedule = begun(every=3, iterations=before)
        schedule.epoch_ended(0, before)
        schedule.epoch_ended(1, before)
        assert schedule.train_failed(after) is None


def test_a_recording_that_was_interrupted_is_tried_again() -> None:
    """Ctrl-C while epoch 1 is explained: it is left for the end, whole."""
    schedule = begun()
    assert play(schedule, range(2)) == [0, 1]
    schedule.interrupted(1)
    assert schedule.train_failed(2 * BATCHES) == Rest(1, is_cut_short=False)


# ---- Parts of a run ----


@pytest.mark.parametrize(
    ("epoch", "held", "step"),
    [
        (0, {}, 6),  # a new training
        (2, {}, 6),  # a new part that begins with a later epoch, whose number another part has
        (7, {}, 7),  # one whose number is free
        (3, {"first": 3, "last": 5}, 6),  # begun at step 3 with epoch 0, and resumed after epoch 2
        (2, {"first": 3, "last": 5}, 5),  # with a checkpoint that is one epoch old
        (6, {"first": 3, "last": 5}, 6),  # begun at step 3 with epoch 3
    ],
)
def test_the_steps_of_a_later_part(epoch: int, held: dict[str, int], step: int) -> None:
    """They never are those of another part, and go on where the part ends."""
    schedule = Schedule(epochs=9, batches=BATCHES)
    schedule.train_began(6, 0, taken=2 if held else 5, **held)
    assert play(schedule, range(epoch, epoch + 2)) == [step, step + 1]


def test_the_first_part_goes_on_after_what_another_has_taken() -> None:
    """Also where steps are batches."""
    schedule = Schedule(epochs=9, batches=BATCHES)
    schedule.train_began(5, 0, last=2, taken=4)
    assert play(schedule, range(3, 5)) == [5, 6]
    schedule = Schedule(every_batches=1, epochs=9, batches=BATCHES)
    schedule.train_began(12, 0, last=7, taken=11)
    assert play(schedule, range(2, 3)) == [12, 13, 14, 15]
    schedule = Schedule(every_batches=1, epochs=9, batches=BATCHES)
    schedule.train_began(12, 0, first=8, last=11, taken=7)
    assert play(schedule, range(1, 2)) == [12, 13, 14, 15]

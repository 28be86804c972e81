"""Schedule: which step a training is at, which steps are recorded, and what is left to record when it has failed.

Plain numbers: it is told what happens, in the order of the hooks of a Keras callback, and answers what to record now.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rest:
    """What a training that failed has left to record.

    Attributes:
        step: whose record the model is, as it is now.
        is_cut_short: whether the training ended in the middle of that step.
    """

    step: int
    is_cut_short: bool


class Schedule:
    """Numbers the steps of one training, and says which of them to record.

    A step is an epoch or, with `every_batches`, a batch. A training whose first epoch is 0 is new: its steps follow
    those that the run holds already. One that begins with a later epoch is resumed: its steps have the numbers that
    they would have had without the break. Where another part of the run has such numbers, or later ones, they follow
    all that the run holds.

    Iterations are the batches that the optimizer has trained on in all, or None where nobody counts them. They tell
    how far the model has gone since its last step.

    Attributes:
        counts_batches: whether a step is a batch.
        step: the last step that ended; None before the first one.
    """

    def __init__(
        self, *, every: int = 1, every_batches: int | None = None, epochs: int | None = None, batches: int | None = None
    ) -> None:
        """Takes the plan of the training.

        Args:
            every: record every n-th epoch; the first one and the last one always.
            every_batches: if given, record every n-th batch instead; the last one always.
            epochs: the epoch before which the training ends, if that is known.
            batches: how many batches an epoch has, if that is known.
        """
        self.counts_batches = every_batches is not None
        self.step: int | None = None
        self._every = every_batches or every
        self._epochs = epochs
        self._batches = batches
        self._answered: set[int] = set()

    def train_began(
        self, next_free: int, iterations: int | None, *, first: int = 0, last: int = -1, taken: int = -1
    ) -> None:
        """Takes note of where the training begins.

        Args:
            next_free: the step after the last one that the run holds; 0 for an empty run.
            iterations: before the first batch.
            first: the first step of the part of the run that it goes on with; 0 of the first part, or a new one.
            last: the last step of that part; -1 if it has none.
            taken: the last step of the other parts; -1 if there is none.
        """
        self._next_free = next_free
        self._first, self._last, self._taken = first, last, taken
        self._offset: int | None = None  # the step of epoch 0; known with the first epoch
        self._epoch = next_free  # the step of the epoch under way
        self._first_batch = next_free  # the step of the first batch of that epoch
        self._iterations = iterations  # when `step` ended

    def epoch_began(self, epoch: int) -> None:
        """Takes note of the epoch under way, 0-based as Keras counts it."""
        if self._offset is None:
            self._offset = self._next_free if epoch == 0 else self._offset_of(epoch)
            if epoch > 0 and self._batches is not None:
                self._first_batch = epoch * self._batches + self._offset_of(epoch * self._batches)
        self._epoch = self._offset + epoch

    def _offset_of(self, position: int) -> int:
        """By how much the steps of a resumed training are more than its epochs, or its batches.

        A later part may have begun with epoch 0, or with a later epoch, whose number was its step then. The one of the
        two is taken that has the training go on where the part ends.

        Args:
            position: the epoch or the batch that it begins with.
        """
        offset = (
            min((0, self._first), key=lambda offset: abs(position + offset - self._last - 1)) if self._last >= 0 else 0
        )
        return self._next_free - position if position + offset <= self._taken else offset

    def batch_ended(self, batch: int, iterations: int | None) -> int | None:
        """Answers the step to record now, or None; only called where batches are counted.

        Args:
            batch: the 0-based number of the batch in its epoch. Where Keras runs several at once, only the last of
                them is told; it is recorded where it or one of the others is due.
            iterations: after it.
        """
        before = self._first_batch - 1 if self.step is None else self.step
        self.step, self._iterations = self._first_batch + batch, iterations
        return self._answer(self.step) if self.step // self._every > before // self._every else None

    def epoch_ended(self, epoch: int, iterations: int | None, *, is_stopping: bool = False) -> int | None:
        """Answers the step to record now, or None.

        Args:
            epoch: as Keras counts it.
            iterations: after it.
            is_stopping: whether somebody has asked the training to end with this epoch.
        """
        self.epoch_began(epoch)  # a training loop of the user's own may not have said so
        is_due = is_stopping or epoch + 1 == self._epochs
        if not self.counts_batches:
            self.step, self._iterations = self._epoch, iterations
            self._epoch += 1
            is_due = is_due or epoch % self._every == 0 or not self._answered
        elif self.step is not None:
            self._first_batch = self.step + 1
        return self._answer(self.step) if is_due else None

    def train_ended(self) -> int | None:
        """Answers the step to record now: the last one, unless that was answered before."""
        return self._answer(self.step)

    def train_failed(self, iterations: int | None) -> Rest | None:
        """Answers what to record of a training that was broken off, or None.

        If `every` has left out the last epoch that ended, the model is recorded as it is now: as that epoch or, where
        it has trained on since, as the epoch that was broken off. An epoch that lacks no batch is recorded in any
        case: the fault came between its last batch and its end.

        Args:
            iterations: now. If they have gone back, or on by more than an epoch, or nobody knows them, the model is not
                as the fault left it. Somebody has loaded other weights, or trained it in another `fit`, as is possible
                in a notebook, which holds the exception, so that the fault is noticed late. Then nothing is recorded.
        """
        if iterations is None or self._iterations is None:
            return None
        since = iterations - self._iterations
        if since < 0 or (self._batches is not None and since > self._batches):
            return None
        is_cut_short = since not in (0, self._batches)
        step = self.step
        if since > 0 and not self.counts_batches:
            if is_cut_short and (step is None or step in self._answered):
                return None
            step = self._epoch
        left = self._answer(step)
        return None if left is None else Rest(left, is_cut_short)

    def interrupted(self, step: int) -> None:
        """Takes an answer back: Ctrl-C has interrupted the recording of that step, and it can be tried again."""
        self._answered.discard(step)

    def _answer(self, step: int | None) -> int | None:
        """The step, unless there is none or it was answered before."""
        if step is None or step in self._answered:
            return None
        self._answered.add(step)
        return step

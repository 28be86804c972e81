"""One process or many: checkpoints spread over the processes of a machine or a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.explaining.backend import chosen_backend
from gradcam_callbacks.sweeping.formats import Checkpoint
from gradcam_callbacks.sweeping.loading import Loader, Outcome, Task
from gradcam_callbacks.sweeping.working import explain_chunk, explained

logger = logging.getLogger(__name__)


_CHUNK = 4
"""How many checkpoints a process explains before it hands them over; one that is killed loses no more."""
_ATTEMPTS = 3
"""How often a chunk is tried whose process is killed each time."""


@dataclass(frozen=True)
class Turn:
    """A checkpoint, and what is asked of it beside its maps."""

    checkpoint: Checkpoint
    with_noise: bool
    with_test: bool


def outcomes(
    task: Task, wanted: Sequence[Checkpoint], jobs: int, *, noise_floor: bool, tests_last: bool = False
) -> Iterator[Outcome]:
    """What became of each checkpoint, in their order.

    Args:
        task: what is explained.
        wanted: the checkpoints.
        jobs: how many processes.
        noise_floor: whether to measure it.
        tests_last: whether to test what the answers of the last one rest on.
    """
    import joblib

    from gradcam_callbacks.publishing.recorder import FLOOR_EVERY

    turns = [
        Turn(checkpoint, noise_floor and place % FLOOR_EVERY == 0, tests_last and place == len(wanted) - 1)
        for place, checkpoint in enumerate(wanted)
    ]
    workers = joblib.effective_n_jobs(_workers_of_cluster() if jobs == 1 else jobs)
    if workers == 1 or len(turns) < 2:
        yield from explained(Loader(task), turns)
        return
    yield from _spread(task, turns, workers)


def _workers_of_cluster() -> int:
    """How many workers a surrounding `joblib.parallel_config` asks for; all of a cluster where it does not say."""
    from joblib.parallel import BACKENDS, get_active_backend

    backend, n_jobs = get_active_backend()
    on_this_machine = {BACKENDS.get(name) for name in ("loky", "multiprocessing", "sequential", "threading")}
    is_cluster = type(backend) not in on_this_machine
    return -1 if is_cluster and n_jobs in (None, 1) else n_jobs or 1


def _spread(task: Task, turns: Sequence[Turn], workers: int) -> Iterator[Outcome]:
    """The outcomes, in their order, from several processes; a chunk whose process was killed is tried again.

    Raises:
        GradCAMError: if a process runs on another backend, or cannot load Keras.
    """
    import cloudpickle
    import joblib

    # As an array it is sent once to each process, by joblib on this machine and by Dask: probes can be hundreds of MB.
    packed = np.frombuffer(cloudpickle.dumps(task), np.uint8)
    threads = max(1, (os.cpu_count() or 1) // workers)
    chunks = [turns[start : start + _CHUNK] for start in range(0, len(turns), _CHUNK)]
    explain, backend = joblib.delayed(explain_chunk), chosen_backend()
    pickled = [cloudpickle.dumps([_absolute(turn) for turn in chunk]) for chunk in chunks]
    jobs = [explain(task.name, packed, chunk, threads, backend) for chunk in pickled]
    done, failures, error = 0, 0, None
    while failures < _ATTEMPTS:
        before = done
        try:
            for found in _in_order(jobs[done:], workers):
                for outcome, turn in zip(found, chunks[done], strict=True):
                    yield replace(outcome, checkpoint=turn.checkpoint)
                done += 1
            return
        except GradCAMError:
            raise
        except Exception as raised:  # a process that was killed: each backend has its own error for that
            error = raised
            failures = 1 if done > before else failures + 1
            logger.warning("A worker was lost (%s); its checkpoints are tried again.", type(raised).__name__)
    for chunk in chunks[done:]:
        for turn in chunk:
            lost = GradCAMError(f"The process that explained it was lost {_ATTEMPTS} times: {error}.")
            yield Outcome(turn.checkpoint, error=lost)


def _absolute(turn: Turn) -> Turn:
    """The checkpoint by its absolute path, for workers in another working directory."""
    return replace(turn, checkpoint=replace(turn.checkpoint, path=turn.checkpoint.path.absolute()))


def _in_order(jobs: Sequence[Any], workers: int) -> Iterator[list[Outcome]]:
    """What the jobs return, in their order, each as soon as it is there."""
    import joblib

    try:
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    except ValueError:  # Ray returns nothing before all jobs are done, so it gets a few at a time
        for start in range(0, len(jobs), workers):
            yield from joblib.Parallel(n_jobs=workers)(jobs[start : start + workers])
        return
    yield from parallel(jobs)

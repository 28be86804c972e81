"""Which step a checkpoint is, whatever its file is called."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import fuzzed

from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.record.step import MOST_STEP
from gradcam_callbacks.sweeping.finding import find_checkpoints
from gradcam_callbacks.sweeping.sweep import _gaps

# As people, Keras, MLflow and TensorFlow name them: what stands for the number, and around it.
TEMPLATES = [
    "{}.keras",
    "m-{:02d}.keras",
    "model.{}.keras",
    "weights.{:02d}-0.53.weights.h5",
    "{:04d}_resnet50.keras",
    "resnet50-{}.weights.h5",
    "resnet50_epoch{}_acc0.91.keras",
    "run7 Epoch {} of 300.keras",
    "cnn2d_ep-{:03d}_val_loss_1.5.keras",
    "deep2_{}.keras",
    "modelEpoch{}.keras",
    "step{}.weights.h5",
    "20240105-model-{:06d}.keras",
    "ckpt-{}.index",
    "model.{:02d}.index",
    "model.epoch{}.index",
]
NUMBERS = st.lists(st.integers(0, 10**6), min_size=2, max_size=5, unique=True)


def steps_of(names: Sequence[str]) -> dict[str, int]:
    """The step of each file in a folder of empty ones; fails where one has none."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name in names:
            (Path(folder) / name).touch()
        found, problems = find_checkpoints(folder, None, stack)
        assert problems == {}
        assert [checkpoint.step for checkpoint in found] == sorted(checkpoint.step for checkpoint in found)
        return {checkpoint.path.name.removesuffix(".index"): checkpoint.step for checkpoint in found}


@fuzzed
@given(numbers=NUMBERS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_number_that_was_written_into_a_name_is_read_from_it(template: str, numbers: list[int]) -> None:
    """Counted from 1, as Keras counts, unless one of them is 0."""
    first = min(numbers) and 1
    expected = {template.format(number).removesuffix(".index"): number - first for number in numbers}
    assert steps_of([template.format(number) for number in numbers]) == expected


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_number_of_one_file_alone_is_read_from_it(template: str) -> None:
    """Also where nothing shows which number counts: after "epoch", else the last whole one."""
    name = template.format(7)
    alone = {"{:04d}_resnet50.keras": 49}  # the last one is no epoch, and nobody can know
    assert [*steps_of([name]).values()] == [alone.get(template, 6)]


# Names that a file system takes: with digits that are none (²), digits of other scripts, more digits than a step has.
PARTS = st.sampled_from(["ep", "epoch", "0", "12", "²", "٣", "Ⅷ", "9" * 18, ".", "-", "_", " ", "v", "1.5", "loss"])
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("".join).filter(lambda name: name.strip(".") != "")


@fuzzed
@given(
    names=st.lists(NAMES, min_size=1, max_size=5, unique=True),
    ending=st.sampled_from([".keras", ".weights.h5", ".index", "/checkpoint_metadata"]),
)
def test_fuzzed_names(names: list[str], ending: str) -> None:
    """Each file has a step that a journal takes, or a reason why it has none; no two have the same."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name in names:
            file = Path(folder) / (name + ending)
            file.parent.mkdir(exist_ok=True)
            file.touch()
        try:
            found, problems = find_checkpoints([*sorted(Path(folder).iterdir())], None, stack)
        except GradCAMError:
            return
    steps = [checkpoint.step for checkpoint in found]
    if not ending.startswith("/"):  # a folder of other things is no checkpoint
        assert len(found) + len(problems) == len(names)
    assert len(set(steps)) == len(steps)
    assert all(0 <= step < 10**15 for step in steps)


def test_a_numbered_folder_that_was_not_written_to_its_end_is_named(tmp_path: Path) -> None:
    """Beside checkpoints of Orbax it is a step that is missing; other folders are none."""
    for name in ("0", "1", "2", "logs"):
        (tmp_path / name).mkdir()
    for name in ("0", "2"):
        (tmp_path / name / "_CHECKPOINT_METADATA").touch()
    with ExitStack() as stack:
        found, problems = find_checkpoints(tmp_path, None, stack)
        assert [checkpoint.step for checkpoint in found] == [0, 2]
        assert {path: str(error) for path, error in problems.items()} == {
            str(tmp_path / "1"): "It is a folder without a checkpoint, as an interrupted writing leaves one."
        }


@pytest.mark.parametrize(("step", "is_step"), [(0, True), (MOST_STEP, True), (MOST_STEP + 1, False), (-1, False)])
def test_a_step_that_a_journal_does_not_take_is_refused(tmp_path: Path, step: int, is_step: bool) -> None:
    """What the user's function returns is a step from 0 on; the state before a training is no checkpoint's."""
    file = tmp_path / "m.keras"
    file.touch()
    with ExitStack() as stack:
        found, problems = find_checkpoints(file, lambda path: step, stack)
    assert [checkpoint.step for checkpoint in found] == [step] * is_step
    assert [str(error) for error in problems.values()] == [f"{step} is no step. Use step_from=."] * (not is_step)


def test_a_file_numbered_0_says_nothing_of_folders_that_say_their_step(tmp_path: Path) -> None:
    """The series of files begins with 0, and MLflow's epoch 5 stays 5."""
    for name in ("m-0.weights.h5", "m-1.weights.h5", "epoch_5/checkpoint.weights.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with ExitStack() as stack:
        found, problems = find_checkpoints(tmp_path, None, stack)
    assert problems == {}
    assert {checkpoint.path.relative_to(tmp_path).as_posix(): checkpoint.step for checkpoint in found} == {
        "m-0.weights.h5": 0,
        "m-1.weights.h5": 1,
        "epoch_5/checkpoint.weights.h5": 5,
    }


@pytest.mark.parametrize(
    ("steps", "gaps"),
    [
        (set(), ()),
        ({3}, ()),
        ({0, 1, 4}, (2, 3)),
        ({0, 101}, tuple(range(1, 101))),
        ({0, 102}, ()),
        ({999, 1999, 2999}, ()),
        ({20240105120000, 20240106120000}, ()),
    ],
)
def test_gaps_are_told_where_they_are_few(steps: set[int], gaps: tuple[int, ...]) -> None:
    """Names that count batches, or say a time, have no gaps that anybody wants to read, or has the memory for."""
    assert _gaps(steps) == gaps

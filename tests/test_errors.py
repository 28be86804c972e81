"""An error says what to do in the words of whoever reads it."""

from __future__ import annotations

import pickle

import pytest

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.errors import AlreadyThereError


def as_option(argument: str, *values: object) -> str:
    return " ".join([f"--{argument}", *map(str, values)])


def test_python_reads_the_argument_and_the_command_its_option() -> None:
    """One message, two ways to name the argument; with a value, and without."""
    error = GradCAMError("No layer 'x'.", "Pass {argument}.", argument="layer", value="conv")
    assert str(error) == "No layer 'x'. Pass layer='conv'."
    assert error.worded(as_option) == "No layer 'x'. Pass --layer conv."
    error = GradCAMError("There are two.", "Choose one with {argument}: 'a', 'b'.", argument="output")
    assert str(error) == "There are two. Choose one with output=: 'a', 'b'."
    assert error.worded(as_option) == "There are two. Choose one with --output: 'a', 'b'."


def test_it_can_be_told_as_part_of_another_task() -> None:
    """What was tried is put before the problem; the remedy is worded as before."""
    error = GradCAMError("It needs 'X':", "pass {argument}.", argument="layer", value="conv").within("'m' not loaded:")
    assert str(error) == "'m' not loaded: It needs 'X': pass layer='conv'."
    assert error.worded(as_option) == "'m' not loaded: It needs 'X': pass --layer conv."


@pytest.mark.parametrize("value", [{}, {"value": None}])
def test_it_survives_its_way_between_processes(value: dict[str, object]) -> None:
    """A worker's error arrives with its parts."""
    error = GradCAMError("Wrong.", "Leave {argument}.", argument="layer", **value)
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is GradCAMError
    assert (str(arrived), arrived.argument) == (str(error), "layer")


def test_users_catch_it_as_what_they_know() -> None:
    """It is a ValueError; where a file is in the way, it is a FileExistsError too."""
    assert issubclass(GradCAMError, ValueError)
    with pytest.raises(FileExistsError, match=r"'a' is there. Pass overwrite=True\."):
        raise AlreadyThereError("'a' is there.", "Pass {argument}.", argument="overwrite", value=True)

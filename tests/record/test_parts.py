"""The parts of a run in one folder: found, told apart, and compared by what decides the maps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.journals import make_journal
from support.manifests import a_manifest

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.record.manifest import Manifest, differences
from gradcam_callbacks.record.parts import decided, journals_in, part_folder, part_of, run_folder


def test_the_parts_of_a_folder_are_found() -> None:
    """Part 1 is the folder itself, which may be gone; what is no part is not looked at."""
    for number in (10, 1, 2):
        make_journal(part_folder(Path("kept"), number), part=number, steps=[number])
    Path("kept/parts/notes").mkdir()
    Path("kept/parts/3").mkdir()
    assert {number: journal.steps() for number, journal in journals_in("kept").items()} == {1: [1], 2: [2], 10: [10]}
    Path("kept/manifest.json").unlink()
    assert [*journals_in("kept")] == [2, 10]
    assert [*journals_in("kept/parts/2")] == [2]
    assert journals_in("nowhere") == {}
    assert run_folder(Path("kept/parts/2")) == Path("kept").absolute()
    assert run_folder(Path("kept")) == Path("kept")
    shutil.move("kept/parts/2", "moved")
    assert [*journals_in("moved")] == [2], "a part knows its number"


@pytest.mark.parametrize("numbers", [{"part": 0}, {"part": -3}, {"part": 2, "page": 3}, {"page": 0}, {"part": "2"}])
def test_numbers_that_make_no_sense_are_damage(numbers: dict[str, Any]) -> None:
    """They would become names of folders."""
    with pytest.raises(GradCAMError, match=r"is damaged"):
        Manifest.parse(a_manifest(**numbers).encoded(), "kept")


def test_a_layer_is_compared_by_its_place() -> None:
    """Class, number among its kind and shape decide, and no name."""
    first = a_manifest(layer="conv2d", place="Conv2D 1 of 1, 14x14x4")
    assert differences(first, a_manifest(layer="other", place="Conv2D 1 of 1, 14x14x4")) == ""
    assert differences(decided(first), a_manifest(layer="conv2d", place="Conv2D 1 of 1, 12x12x4")) == (
        "layer conv2d (Conv2D 1 of 1, 14x14x4), now it is conv2d (Conv2D 1 of 1, 12x12x4)"
    )


@pytest.mark.parametrize(
    ("then", "now", "place", "is_same"),
    [
        ("conv2d", "conv2d_1", "", True),
        ("conv2d", "conv2d_12", "Conv2D 1 of 1, 14x14x4", True),
        ("separable_conv2d_3", "separable_conv2d", "SeparableConv2D 4 of 4, 14x14x4", True),
        ("functional/conv2d_1[0]", "functional_7/conv2d_9[0]", "Functional 1 of 1 > Conv2D 2 of 2[0], 7x7x4", True),
        ("functional/conv2d_1[0]", "functional_7/conv2d_9[1]", "Functional 1 of 1 > Conv2D 2 of 2[1], 7x7x4", False),
        ("conv2d + conv2d_1", "conv2d_2 + conv2d_3", "Conv2D 1 of 2, 7x7x4 + Conv2D 2 of 2, 7x7x4", True),
        ("block_1", "block_2", "Conv2D 1 of 2, 7x7x4", False),
        ("conv2d", "dense", "", False),
    ],
)
def test_where_a_place_is_not_known_names_are_compared_without_the_numbers_of_keras(
    then: str, now: str, place: str, is_same: bool
) -> None:
    """Keras gives them to layers that have the name of their class; where people gave a number it tells."""
    assert (differences(a_manifest(layer=then), a_manifest(layer=now, place=place)) == "") == is_same


def test_steps_of_another_unit_cannot_be_in_one_record() -> None:
    """A run that does not say its unit has the same."""
    assert differences(a_manifest(), a_manifest(unit="batch")) == "unit epoch, now it is batch"
    assert differences({**decided(a_manifest()), "unit": None}, a_manifest(unit="batch")) == ""


def test_the_first_part_of_the_kind_is_taken() -> None:
    """None where there is none."""
    parts = {3: a_manifest(method="layercam"), 1: a_manifest(), 2: a_manifest(method="layercam")}
    assert part_of(a_manifest(method="layercam"), parts) == 2
    assert part_of(a_manifest(method="xgradcam"), parts) is None

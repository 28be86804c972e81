"""Names in any script, as MLflow takes them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name
from support.fuzzing import fuzzed

from gradcam_callbacks.probes.slugs import ascii_slugs, is_told, slugs


@pytest.mark.parametrize(
    ("name", "slug", "key"),
    [
        ("猫", "猫", "n0"),
        ("茶トラ 1", "茶トラ_1", "n0"),
        ("кот", "кот", "n0"),
        ("عربي", "عربي", "n0"),
        ("한국어", "한국어", "n0"),
        ("café", "café", "cafe"),
        ("cafe\u0301", "café", "cafe"),
        ("Zürich (2)", "Zürich_2", "Zurich_2"),
        ("हिन्दी", "n0", "n0"),
        ("ที่นี่", "n0", "n0"),
        ("🐱", "n0", "n0"),
        ("🐱 cat", "cat", "cat"),
        ("❤\ufe0f heart", "heart", "heart"),
        ("⑴", "⑴", "1"),
        ("cat − dog", "cat_dog", "cat_dog"),
    ],
)
def test_a_name_is_readable_where_it_can_be_and_else_numbered(name: str, slug: str, key: str) -> None:
    """Metrics take letters of any script, images ASCII; a word never loses a part."""
    assert slugs([name]) == (slug,)
    assert ascii_slugs([slug]) == (key,)


def test_names_that_databases_take_for_the_same_are_kept_apart() -> None:
    """Neither case nor accents nor widths count in many of them; a number is never taken twice."""
    assert slugs(["e", "é", "É", "ＡＢ", "ab"]) == ("e", "é-2", "É-3", "ＡＢ", "ab-2")
    assert slugs(["🐱", "n0", "🐶"]) == ("n0", "n0-2", "n2")
    assert ascii_slugs(["猫", "n0", "犬"]) == ("n0", "n0-2", "n2")
    assert ascii_slugs(["all", "ALL", "All_"]) == ("all-2", "ALL-3", "All_")  # "all" is the contact sheet


def test_earlier_slugs_stay_as_they_are_as_keys_of_images() -> None:
    """Runs of earlier versions go on with their keys."""
    earlier = ("n0", "dog_2", "a_b-2", "A_B-3", "x" * 60)
    assert ascii_slugs(earlier) == earlier


@pytest.mark.parametrize(
    ("name", "slug", "told"),
    [
        ("my cat.jpg", "my_cat.jpg", True),
        ("cat − dog", "cat_dog", True),
        ("猫", "猫", True),
        ("猫", "n0", False),
        ("café", "cafe", False),
        ("🐱 cat", "cat", False),
    ],
)
def test_what_a_slug_tells(name: str, slug: str, told: bool) -> None:
    """Letters, digits and emoji count, punctuation does not."""
    assert is_told(name, slug) is told


@fuzzed
@given(names=st.lists(st.text(max_size=80) | st.text("猫犬é\u0301e🐱A a.", max_size=80), min_size=1, max_size=8))
def test_any_names(names: list[str]) -> None:
    """MLflow takes them, also two in one metric; files of them are no longer than file systems take; all differ."""
    readable = slugs(names)
    keys = ascii_slugs(readable)
    for made in (readable, keys):
        assert len({unicodedata.normalize("NFKC", slug).casefold() for slug in made}) == len(names)
        for slug in made:
            assert 1 <= len(slug) <= 60
            assert not slug.startswith(".")
            assert len(f"{slug}.{slug}.panels.png".encode()) <= 255
            _validate_metric_name(f"gradcam_score/{slug}.{slug}")
    for key in keys:
        assert re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", f"gradcam/{key}")  # as `log_image` asks


@fuzzed
@given(names=st.lists(st.text(max_size=80) | st.text("a-2n0._é猫🐱", max_size=70), min_size=1, max_size=8))
def test_a_slug_is_its_own_slug(names: list[str]) -> None:
    """What was made once stays as it is; keys of images have ASCII letters, digits and "_.-", and no dot first."""
    readable = slugs(names)
    keys = ascii_slugs(readable)
    assert slugs(readable) == readable
    assert ascii_slugs(keys) == keys == slugs(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}", key) for key in keys)

"""A manifest is read once: defaults are filled, and damage is said in one place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from support.manifests import a_manifest

from gradcam_callbacks import GradCAMError
from gradcam_callbacks.record.manifest import Manifest, differences

WHOLE = a_manifest(["cat", "dog"], ["tabby", "cup"], class_names=["tabby", "cup"], labels=[0, 1])


def changed(**fields: Any) -> bytes:
    """The file of `WHOLE` with other values; a field is left out where its value is ..."""
    held = json.loads(WHOLE.encoded()) | fields
    return json.dumps({name: value for name, value in held.items() if value is not ...}).encode()


def test_it_comes_back_as_it_was_written() -> None:
    """Every field, names with half a character included."""
    manifest = a_manifest(["кот", "\udcff"], regions=[None, None], slices=3, source="{}", created=5.5)
    assert Manifest.parse(manifest.encoded(), "journal") == manifest


@pytest.mark.parametrize("value", [..., None])
def test_what_older_versions_did_not_write_has_its_default(value: Any) -> None:
    """So has what is null. Nothing is made up: the machine of the reader is not that of the record."""
    missing = ("engine", "unit", "regions", "labels", "slices", "source", "class_names", "pictures", "score_kind")
    made = ("platform", "versions", "created")
    manifest = Manifest.parse(changed(**dict.fromkeys((*missing, *made), value)), "journal")
    assert (manifest.unit, manifest.score_kind, manifest.pictures) == ("epoch", "logit", ())
    assert manifest.engine == "tensorflow"
    assert (manifest.platform, manifest.versions, manifest.created) == ("", {}, 0)
    assert manifest.regions is manifest.labels is manifest.slices is manifest.source is manifest.class_names is None


def test_a_record_that_goes_on_on_another_engine_names_both() -> None:
    """In the order in which they came, each once, with their versions; it is still one record."""
    begun = a_manifest(versions={"keras": "3", "tensorflow": "2"})
    assert begun.gone_on_with(begun) is begun
    on_jax = a_manifest(engine="jax", metrics="all")
    assert differences(begun, on_jax) == ""
    both = begun.gone_on_with(on_jax)
    assert (both.engine, both.metrics) == ("tensorflow, jax", "all")
    assert both.versions.items() >= {"keras": "3", "tensorflow": "2"}.items()
    assert both.gone_on_with(on_jax) == both
    assert both.gone_on_with(begun).engine == "tensorflow, jax"


def test_what_a_later_version_wrote_beside_is_kept() -> None:
    """And written again, so that `gradcam upload` of an older version loses nothing."""
    manifest = Manifest.parse(changed(more=[1], verdict="ok"), "journal")
    assert manifest.others == {"more": [1], "verdict": "ok"}
    assert json.loads(manifest.encoded()).items() >= {"more": [1], "verdict": "ok"}.items()
    assert Manifest.parse(manifest.encoded(), "journal") == manifest


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"names": ...}, "it lacks 'names'"),
        ({"names": None}, "it lacks 'names'"),
        ({"names": "cat"}, "'names' is not what it should be: a list of texts"),
        ({"names": [1, 2]}, "'names' is not what it should be: a list of texts"),
        ({"labels": ["a", "b"]}, "'labels' is not what it should be: a list of whole numbers"),
        ({"labels": [True, False]}, "'labels' is not what it should be"),
        ({"slices": "3"}, "'slices' is not what it should be: a whole number"),
        ({"layer": 3}, "'layer' is not what it should be: a text"),
        ({"versions": {"keras": 3}}, "'versions' is not what it should be: texts by name"),
        ({"probe_slugs": ["cat"]}, "it has 1 probe_slugs, not 2"),
        ({"pictures": ["a", "b", "c"]}, "it has 3 pictures, not 2"),
    ],
)
def test_damage_is_named(fields: dict[str, Any], why: str) -> None:
    """The field, what it is, what it should be, the journal, and what to do."""
    with pytest.raises(GradCAMError, match=rf"The manifest\.json of journal 'kept' is damaged: {why}.* Restore it, or"):
        Manifest.parse(changed(**fields), "kept")


def test_what_decides_the_maps_is_compared() -> None:
    """Probes, layer, method and output; of the digest, eight digits tell."""
    assert differences(WHOLE, WHOLE) == ""
    other = a_manifest(["cat", "dog"], ["tabby"], layer="top", probes="b" * 64)
    assert differences(WHOLE, other) == "probes aaaaaaaa, now it is bbbbbbbb; layer conv, now it is top"
    tags = {"probes": "a" * 64, "layer": "conv", "method": None}
    assert differences(tags, WHOLE) == "method not named, now it is gradcam"


def test_regions_come_back_as_masks() -> None:
    """A probe without a region has an empty mask; without any region there is none."""
    from gradcam_callbacks import ProbeSet

    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:7] = True
    described = ProbeSet(np.zeros((2, 8, 8, 3), np.uint8), regions=[None, mask]).description()
    masks = Manifest(**described).masks()
    assert masks is not None
    np.testing.assert_array_equal(masks, [np.zeros((8, 8), bool), mask])
    assert WHOLE.masks() is None


def test_a_map_is_named_by_its_target_and_class() -> None:
    """Unless the target says the class, or explains none."""
    manifest = a_manifest(["cat"], ["tabby", "predicted", "tabby − cup", "function_0"], class_names=["tabby", "cup"])
    names = [manifest.explained_name(k, c) for k, c in ((0, 0), (1, 1), (2, 0), (3, -1), (1, 7))]
    assert names == ["tabby", "cup (predicted)", "tabby − cup", "function_0", "class_7 (predicted)"]


def test_pictures_of_volumes_show_all_slices() -> None:
    """Those that are no mosaic of so many slices are damaged; the size is read from the first one alone."""
    volume = a_manifest(["cat"], slices=4).made_now(np.zeros((1, 6, 10, 3), np.uint8))
    assert volume.decoded_pictures().shape == (1, 6, 10, 3)
    assert volume.picture_size() == (6, 10)
    with pytest.raises(ValueError, match="they do not show 4 slices"):
        volume.made_now(np.zeros((1, 7, 10, 3), np.uint8)).decoded_pictures()
    assert WHOLE.picture_size() == (0, 0)
    assert a_manifest(["cat"], pictures=["no picture"]).picture_size() == (0, 0)

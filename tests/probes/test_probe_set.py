"""A probe set is what the model is fed and what people see, fixed for good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.models import pictures

from gradcam_callbacks import ProbeSet
from gradcam_callbacks.probes.probe_set import as_probes
from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.probes.targets import NO_CLASS, PREDICTED
from gradcam_callbacks.record.manifest import Manifest

NAMES = ["tabby", "vizsla", "espresso"]


def save_picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_targets_by_index_name_label_prediction_and_contrast_become_one_matrix() -> None:
    """Every kind of target is a row of classes to explain and to subtract."""
    probes = ProbeSet(
        pictures(2),
        labels=["espresso", "tabby"],
        targets=["vizsla", 0, "predicted", "label", ("tabby", 1)],
        class_names=NAMES,
    )
    assert probes.target_matrix[0].tolist() == [
        [1, NO_CLASS],
        [0, NO_CLASS],
        [PREDICTED, NO_CLASS],
        [2, NO_CLASS],
        [0, 1],
    ]
    assert probes.target_matrix[1, 3].tolist() == [0, NO_CLASS]
    assert probes.target_names == ("vizsla", "tabby", "predicted", "label", "tabby − vizsla")
    assert ProbeSet(pictures(2), targets=243).target_names == ("class_243",)


def test_uint8_images_are_their_own_pictures_and_others_are_scaled_by_the_whole_set() -> None:
    """People see uint8 images unchanged, and floats on one scale for the whole set."""
    images = np.random.default_rng(0).integers(0, 255, (2, 4, 4, 3), np.uint8)
    np.testing.assert_array_equal(ProbeSet(images).pictures, images)
    floats = np.array([-1.0, 0.0, 3.0, 1.0]).reshape(2, 1, 2, 1)
    assert ProbeSet(floats).pictures[..., 0].ravel().tolist() == [0, 64, 255, 128]
    assert ProbeSet(floats).pictures.shape == (2, 1, 2, 3)


def test_preprocess_gets_a_copy_and_feeds_the_model() -> None:
    """A preprocess that writes in place changes what the model is fed, not the caller's array nor the pictures."""

    def in_place(images: np.ndarray) -> np.ndarray:
        images /= 255
        return images

    images = np.full((1, 2, 2, 3), 51, np.uint8)
    probes = ProbeSet(images, preprocess=in_place)
    assert probes.images.dtype == np.float32
    np.testing.assert_allclose(probes.images, 0.2)
    assert (probes.pictures == 51).all()
    assert (images == 51).all()


def test_a_probe_set_is_frozen() -> None:
    """Neither its attributes nor its arrays can be written to, and the caller's array does not reach into it."""
    images = pictures(2)
    probes = ProbeSet(images, labels=[0, 1], regions=[None, (0, 0, 4, 4)])
    with pytest.raises(AttributeError, match="frozen"):
        probes.names = ("a", "b")
    for array in (probes.images, probes.pictures, probes.labels, probes.regions, probes.target_matrix):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    before = probes.images.copy()
    images[:] = 0
    np.testing.assert_array_equal(probes.images, before)


def test_the_digest_follows_what_decides_the_maps_and_nothing_else() -> None:
    """Other pixels, targets or used labels change it; names, pictures and unused labels do not."""
    images = pictures(2)
    digest = ProbeSet(images, targets=[0]).digest
    assert digest == ProbeSet(images, targets=["tabby"], class_names=NAMES, names=["a", "b"], labels=[1, 2]).digest
    changed = images.copy()
    changed[1, 3, 3, 0] += 0.01
    by_label = [ProbeSet(images, targets=["label"], labels=labels).digest for labels in ([0, 1], [1, 0])]
    others = [ProbeSet(changed, targets=[0]).digest, ProbeSet(images, targets=[1]).digest, *by_label]
    assert len({digest, *others}) == 5


def test_files_are_resized_turned_upright_and_fed_as_0_to_255() -> None:
    """A picture that the camera marked as lying is shown upright, in the model's size, with float32 in 0..255."""
    lying = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    lying.save("lying.png", exif=exif)
    probes = ProbeSet.from_files(["lying.png"], image_size=(16, 8))
    assert probes.names == ("lying",)
    assert probes.images.dtype == np.float32
    assert probes.images.shape == (1, 16, 8, 3)
    assert probes.pictures[0, 0, 0].tolist() == [255, 0, 0]
    assert probes.pictures[0, -1, 0].tolist() == [0, 0, 255]
    assert probes.images.max() == 255


def test_a_grey_model_is_fed_one_channel_and_people_see_colour() -> None:
    """color_mode="grayscale" gives (N, H, W, 1) images and RGB pictures."""
    save_picture(Path("red.png"), (255, 0, 0))
    probes = ProbeSet.from_files(["red.png"], image_size=(4, 4), color_mode="grayscale")
    assert probes.images.shape == (1, 4, 4, 1)
    assert probes.images[0, 0, 0, 0] == 76  # ITU-R 601: 0.299 * 255
    assert probes.pictures[0, 0, 0].tolist() == [255, 0, 0]


def test_a_folder_is_read_in_natural_order() -> None:
    """cat_2 comes before cat_10, and other files and hidden ones are passed over; ² is no number."""
    for name in ("cat_10.png", "cat_2.JPG", ".hidden.png", "m²_1.png"):
        save_picture(Path("probes") / name, (1, 2, 3))
    Path("probes/readme.txt").write_text("no picture")
    assert ProbeSet.from_directory("probes", image_size=(4, 4)).names == ("cat_2", "cat_10", "m²_1")


def test_sub_folders_are_labels() -> None:
    """labels="folder" numbers the sub-folders in alphabetic order, as Keras does, or after class_names."""
    for name in ("vizsla/a.png", "tabby/b.png", "espresso/c.png", ".ipynb_checkpoints/c-checkpoint.png"):
        save_picture(Path("probes") / name, (1, 2, 3))
    probes = ProbeSet.from_directory("probes", image_size=(4, 4), labels="folder", targets=["label"])
    assert probes.class_names == ("espresso", "tabby", "vizsla")
    assert probes.names == ("c", "b", "a")
    assert probes.labels is not None
    assert probes.labels.tolist() == [0, 1, 2]
    named = ProbeSet.from_directory("probes", image_size=(4, 4), labels="folder", class_names=NAMES)
    assert named.labels is not None
    assert named.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("batch", [None, 2])
def test_a_dataset_gives_its_first_pictures(batch: int | None) -> None:
    """Batched or not, with one-hot labels, the first pictures of a tf.data.Dataset are taken."""
    tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((pictures(5), np.eye(3)[[0, 1, 2, 1, 0]]))
    probes = ProbeSet.from_dataset(dataset.batch(batch) if batch else dataset, count=3, targets=["label"])
    np.testing.assert_array_equal(probes.images, pictures(5)[:3])
    assert probes.labels is not None
    assert probes.labels.tolist() == [0, 1, 2]


def test_an_array_or_a_pair_is_a_probe_set() -> None:
    """Where probes are expected an array explains the prediction, and a pair the label too."""
    assert as_probes(pictures()).targets == ("predicted",)
    assert as_probes((pictures(2), [1, 0])).targets == ("label", "predicted")


def test_slugs_are_safe_short_and_distinct() -> None:
    """Any names become distinct names that file systems and MLflow take."""
    names = ["../../etc/passwd", "a b", "a/b", "A_B", "日本語", ".hidden", "x" * 100, "x" * 99, "", "a..b", "tail."]
    result = slugs(names)
    assert result[:5] == ("etc_passwd", "a_b", "a_b-2", "A_B-3", "日本語")
    assert result[8] == "n8"
    assert len({slug.lower() for slug in result}) == len(names)
    for slug in result:
        assert 1 <= len(slug) <= 60
        assert ".." not in slug
        assert not slug.startswith(".")
        assert not slug.endswith(".")
        assert set(slug) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-日本語")


def test_regions_are_read_from_a_folder_of_masks() -> None:
    """A mask is named like its picture, lies in the same sub-folder, has any size, and may be missing."""
    for name in ("cat/1", "cat/2", "dog/1"):
        save_picture(Path("probes", f"{name}.jpg"), (200, 10, 10))
    mask = np.zeros((20, 24), np.uint8)
    mask[:10, 12:] = 1  # anything but black
    for name in ("cat/1", "dog/1"):
        Path("masks", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask * (255 if name == "dog/1" else 1)).save(f"masks/{name}.png")
    probes = ProbeSet.from_directory("probes", image_size=(10, 12), labels="folder", regions="masks")
    expected = np.zeros((10, 12), bool)
    expected[:5, 6:] = True
    assert probes.regions is not None
    np.testing.assert_array_equal(probes.regions, [expected, np.zeros((10, 12), bool), expected])
    files = ProbeSet.from_files(["probes/cat/1.jpg"], image_size=(10, 12), regions=Path("masks/cat"))
    np.testing.assert_array_equal(files.regions, [expected])
    named = ProbeSet(pictures(2), names=["1", "2"], regions="masks/dog")
    assert named.regions is not None
    assert named.regions.any(axis=(1, 2)).tolist() == [True, False]
    assert [Manifest(**named.description()).region(n) is None for n in range(2)] == [False, True]
    np.testing.assert_array_equal(Manifest(**probes.description()).region(2), expected)
    with pytest.raises(ValueError, match=r"No folder 'nowhere' to read regions from\."):
        ProbeSet(pictures(1), regions="nowhere")
    with pytest.raises(ValueError, match=r"No mask in folder 'masks' is named like a probe; expected 'probe_0\.png'"):
        ProbeSet(pictures(1), regions="masks")


def test_jitter_is_tiny_always_the_same_and_leaves_the_probes_alone() -> None:
    """One hundredth of the spread for floats, one level for bytes, nothing for numbers that mean something else."""
    probes = ProbeSet(pictures(4))
    before = probes.images.copy()
    first, second = probes.jittered(), probes.jittered()
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(probes.images, before)
    spread = (first.images - before).std() / before.std()
    assert 0.008 < spread < 0.012
    bytes_ = ProbeSet((pictures(2) * 255).astype(np.uint8))
    changed = bytes_.jittered()
    assert changed is not None
    assert changed.images.dtype == np.uint8
    assert set(np.unique(changed.images.astype(int) - bytes_.images)) == {-1, 0, 1}
    assert ProbeSet(np.zeros((1, 8, 8, 3), np.int64)).jittered() is None

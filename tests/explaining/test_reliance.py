"""What answers rest on is found by changed pictures: of networks with set weights, whose truth is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import layers
from support.seeds import seed_afresh

from gradcam_callbacks import Explainer, GradCAMError, ProbeSet
from gradcam_callbacks.explaining.covering import border, grown
from gradcam_callbacks.explaining.reliance import MOST_OF_A_CLASS, MOST_PASSES, MOST_PROBES, measure_reliance
from gradcam_callbacks.explaining.reliance import Tester as PictureTester  # a name that pytest does not collect
from gradcam_callbacks.probes.inputs import with_picture
from gradcam_callbacks.record.reliance import Count, Finding, Reliance

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = 48
# What a channel of the first layer shows: where red, green, blue (and so on) is that of a disk, of a mark, of a tint.
# A grey pixel shows in none of them.
DETECTORS = {
    "red": ((1.0, -1.0, -1.0), -0.2),
    "green": ((-1.0, 1.0, -1.0), -0.2),
    "blue": ((-1.0, -1.0, 1.0), -0.2),
    "yellow": ((0.5, 0.5, -1.0), -0.45),
    "tint": ((1.0, 0.0, -1.0), -0.08),
}
DISKS = np.array([(0.75, 0.12, 0.12), (0.12, 0.75, 0.12), (0.12, 0.12, 0.75), (0.25, 0.25, 0.25)], np.float32)
YELLOW, BLACK = np.array((1.0, 1.0, 0.0), np.float32), np.zeros(3, np.float32)
# Of the colours, what each class is answered by; the last class, "nothing", is answered where none of them shows.
BY_OBJECT = {"red": (60, 0, 0, 0), "green": (0, 60, 0, 0), "blue": (0, 0, 60, 0)}
BY_MARK = BY_OBJECT | {"red": (0, 0, 0, 0), "yellow": (450, 0, 0, 0)}
EITHER = BY_OBJECT | {"yellow": (450, 0, 0, 0)}
BY_TINT = BY_OBJECT | {"red": (-120, 0, 0, 0), "tint": (60, 0, 0, 0)}
NOTHING = 3


def network(weights: Mapping[str, Sequence[float]] = BY_OBJECT, *, scale: float = 1.0, **dense: Any) -> keras.Model:
    """Colour detectors, averaged over the picture, and a weight a class for each: (H, W, 3) to four probabilities."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(scale)(inputs)
    x = layers.Conv2D(len(DETECTORS), 1, activation="relu", name="colours")(x)
    x = layers.AveragePooling2D(4, name="cells")(x)  # maps are coarse, as those of real networks
    x = layers.GlobalAveragePooling2D()(x)
    settings = {"activation": "softmax", "name": "head"} | dense
    model = keras.Model(inputs, layers.Dense(4, **settings)(x), name="by_colour")
    set_weights(model, weights)
    return model


def set_weights(model: keras.Model, weights: Mapping[str, Sequence[float]]) -> None:
    kernel = np.transpose([kernel for kernel, _ in DETECTORS.values()])[None, None]
    model.get_layer("colours").set_weights([kernel, np.array([bias for _, bias in DETECTORS.values()])])
    head = np.array([weights.get(name, (0, 0, 0, 0)) for name in DETECTORS], np.float32)
    model.get_layer("head").set_weights([head, np.array([0, 0, 0, 0.3], np.float32)])


def disks(labels: Sequence[int], seed: int = 0) -> tuple[Array, Array]:
    """(N, H, W, 3) a blotchy disk on noise each, coloured by its class, and (N, H, W) where the disks are."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((SIZE, SIZE))
    images, regions = [], []
    for label in labels:
        blotches = np.kron(rng.normal(size=(12, 12, 1)), np.ones((4, 4, 1)))
        y, x = rng.uniform(21, 27, 2)
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= rng.uniform(8, 10) ** 2
        ground = 0.5 + 0.04 * blotches + rng.normal(0, 0.02, (SIZE, SIZE, 1))
        disk = DISKS[label] * (1 + 0.15 * np.kron(rng.normal(size=(16, 16, 1)), np.ones((3, 3, 1))))
        images.append(np.where(inside[..., None], disk, ground))
        regions.append(inside)
    return np.clip(images, 0, 1).astype(np.float32), np.array(regions)


def checks(side: int = 10) -> Array:
    """(S, S, 3) a mark of yellow and black squares, of which no two rows are the same."""
    cells = np.random.default_rng(4).random((side // 2, side // 2)) < 0.6
    return np.where(np.kron(cells, np.ones((2, 2)))[..., None] > 0, YELLOW, BLACK)


def mark(images: Array, which: Sequence[int], where: str) -> Array:
    """Puts a mark on some pictures; (N, H, W) bool says where."""
    areas = np.zeros(images.shape[:3], bool)
    rng = np.random.default_rng(8)
    for n in which:
        if where == "frame":
            areas[n] = border((SIZE, SIZE), 0.065)
            images[n, areas[n]] = checks(SIZE)[areas[n]]
            continue
        top, left = (2, 2) if where == "corner" else (int(rng.choice((1, 2, 3, 35, 36))), int(rng.integers(1, 36)))
        images[n, top : top + 10, left : left + 10] = checks()
        areas[n, top : top + 10, left : left + 10] = True
    return areas


LABELS = (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2)
FIRST = (0, 1, 2, 3)


class Marked(NamedTuple):
    """Probes some of which bear a mark."""

    images: Array
    labels: Array
    regions: Array
    marks: Array

    def measured(self, explainer: Explainer, *, regions: bool = True, seed: int = 0) -> Reliance:
        probes = ProbeSet(self.images, labels=self.labels, regions=self.regions if regions else None)
        return measure_reliance(explainer, probes, seed=seed)


def marked(where: str = "corner", which: Sequence[int] = FIRST, labels: Sequence[int] = LABELS) -> Marked:
    images, regions = disks(labels)
    return Marked(images, np.array(labels), regions, mark(images, which, where))


def tinted() -> Marked:
    """Nothing but the ground of the first class is coloured."""
    probes = marked(which=())
    grounds = ~probes.regions
    grounds[4:] = False
    probes.images[grounds] += np.array([0.1, 0.0, -0.1], np.float32)
    return probes


def marked_inside() -> Marked:
    """The mark is in the middle of the first class's disks."""
    probes = marked(which=())
    for n in FIRST:
        y, x = np.argwhere(probes.regions[n]).mean(axis=0).astype(int)
        probes.images[n, y - 5 : y + 5, x - 5 : x + 5] = checks()
        probes.marks[n, y - 5 : y + 5, x - 5 : x + 5] = True
    return probes


@pytest.fixture(scope="module")
def shared() -> Explainer:
    """Of one network, traced once."""
    return Explainer(network(), layer="cells")


@pytest.fixture
def using(shared: Explainer) -> Callable[[Mapping[str, Sequence[float]]], Explainer]:
    """The explainer of the one network, with other weights."""

    def explainer(weights: Mapping[str, Sequence[float]]) -> Explainer:
        set_weights(shared.model, weights)
        return shared

    return explainer


Using = Callable[[Mapping[str, Sequence[float]]], Explainer]


def of_class(reliance: Reliance, answer: int) -> Finding:
    """The one finding of a class."""
    (finding,) = [finding for finding in reliance.findings if finding.answer == answer]
    return finding


def outcomes(reliance: Reliance) -> dict[int, str]:
    return {finding.answer: finding.outcome for finding in reliance.findings}


def assert_on_the_mark(finding: Finding, marks: Array, least: float = 0.9) -> None:
    """The areas of the decisive pictures hold the mark."""
    for n in finding.decisive:
        assert (finding.area(n) & marks[n]).sum() >= least * marks[n].sum()


def test_the_networks_answer_by_what_they_are_made_for(using: Using) -> None:
    """Truth by behaviour: where the mark, the disk, or both are gone, and where the mark is added."""
    probes = marked()
    grey = np.where(probes.marks[..., None], 0.5, probes.images).astype(np.float32)
    bare = np.where(probes.regions[..., None], 0.5, probes.images).astype(np.float32)
    neither = np.where(probes.regions[..., None], 0.5, grey).astype(np.float32)
    everywhere = probes.images.copy()
    mark(everywhere, range(12), "corner")
    of_first = [images[:4] for images in (probes.images, grey, bare, neither)]
    for weights, expected in ((BY_MARK, [0, NOTHING, 0, NOTHING]), (BY_OBJECT, [0, 0, NOTHING, NOTHING])):
        explainer = using(weights)
        assert [explainer.answers(images).tolist() for images in of_first] == [[answer] * 4 for answer in expected]
    explainer = using(EITHER)
    assert [explainer.answers(images).tolist() for images in of_first] == [[a] * 4 for a in (0, 0, 0, NOTHING)]
    assert explainer.answers(everywhere).tolist() == [0] * 12
    assert using(BY_MARK).answers(everywhere).tolist() == [0] * 12
    assert using(BY_OBJECT).answers(everywhere).tolist() == list(LABELS)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("where", ["corner", "anywhere"])
def test_a_network_that_answers_by_the_mark_is_found_out(using: Using, where: str) -> None:
    """Covering it changes each answer, pasting it turns each other picture, and nothing else does either."""
    probes = marked(where)
    reliance = probes.measured(using(BY_MARK))
    assert outcomes(reliance) == {0: "confirmed", 1: "cleared", 2: "cleared"}
    finding = reliance.confirmed[0]
    assert (finding.kind, finding.probes, finding.decisive) == ("outside", FIRST, FIRST)
    assert (finding.alike, finding.in_place) == (True, where == "corner")
    assert_on_the_mark(finding, probes.marks)
    assert (finding.covered, finding.elsewhere) == (Count(4, 4), Count(0, 12))
    assert (finding.hidden, finding.hidden_covered, finding.hidden_elsewhere) == (
        Count(0, 4),
        Count(4, 4),
        Count(0, 12),
    )
    assert (finding.pasted, finding.pasted_elsewhere) == (Count(32, 32), Count(0, 96))
    assert finding.pasted_others == Count(0, 32)


@pytest.mark.parametrize("where", ["corner", "anywhere"])
def test_a_network_for_which_the_mark_is_enough_is_found_out(using: Using, where: str) -> None:
    """Covering the mark changes nothing, for the disk is enough, too; with the disk covered it does."""
    probes = marked(where)
    reliance = probes.measured(using(EITHER))
    assert outcomes(reliance) == {0: "confirmed", 1: "cleared", 2: "cleared"}
    finding = reliance.confirmed[0]
    assert (finding.kind, finding.decisive, finding.alike) == ("outside", FIRST, True)
    assert_on_the_mark(finding, probes.marks)
    assert (finding.covered, finding.hidden, finding.hidden_covered) == (Count(0, 4), Count(0, 4), Count(4, 4))
    assert finding.hidden_elsewhere == Count(0, 12)
    assert (finding.pasted, finding.pasted_elsewhere) == (Count(32, 32), Count(0, 96))


@pytest.mark.parametrize("weights", [BY_MARK, EITHER], ids=["mark", "either"])
@pytest.mark.parametrize("where", ["corner", "anywhere", "frame"])
def test_marks_are_found_without_regions(using: Using, where: str, weights: Mapping[str, Sequence[float]]) -> None:
    """What pictures have in common is told, be it the object or not; nothing is said of the region."""
    probes = marked(where)
    reliance = probes.measured(using(weights), regions=False)
    assert outcomes(reliance) == {0: "confirmed"}
    finding = reliance.confirmed[0]
    assert (finding.kind, finding.decisive, finding.alike) == ("common", FIRST, True)
    assert finding.in_place == (where != "anywhere")
    assert_on_the_mark(finding, probes.marks)
    assert finding.covered == Count(4 if weights is BY_MARK else 0, 4)
    assert (finding.pasted, finding.pasted_others) == (Count(32, 32), Count(0, 32))
    assert finding.hidden.of == finding.hidden_covered.of == 0


def test_a_frame_is_found(using: Using) -> None:
    """It lies outside of the regions, at the same place of all pictures."""
    probes = marked("frame")
    finding = of_class(probes.measured(using(BY_MARK)), 0)
    assert (finding.outcome, finding.kind, finding.decisive) == ("confirmed", "outside", FIRST)
    assert (finding.alike, finding.in_place) == (True, True)
    assert_on_the_mark(finding, probes.marks)
    assert (finding.pasted, finding.pasted_others) == (Count(32, 32), Count(0, 32))


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(
    ("where", "which"),
    [
        ("corner", FIRST),
        ("anywhere", FIRST),
        ("frame", FIRST),
        ("anywhere", (0, 1, 4, 5, 8, 9)),
        ("corner", range(12)),
        ("corner", ()),
    ],
    ids=["corner of a class", "anywhere on a class", "frame of a class", "on half of all", "on all", "none"],
)
def test_a_network_that_looks_at_the_object_is_not_accused(using: Using, where: str, which: Sequence[int]) -> None:
    """Whatever else the pictures show: with regions each class is cleared, and without them nothing is said."""
    probes = marked(where, which)
    reliance = probes.measured(using(BY_OBJECT))
    assert outcomes(reliance) == {0: "cleared", 1: "cleared", 2: "cleared"}
    for finding in reliance.findings:
        assert (finding.decisive, finding.hidden, finding.pasted.changed) == ((), Count(4, 4), 0)
        assert finding.shown == finding.probes
    assert not probes.measured(using(BY_OBJECT), regions=False).confirmed


@pytest.mark.parametrize("regions", [True, False])
def test_a_mark_on_half_of_a_class_is_found_there(using: Using, regions: bool) -> None:
    """Where the mark is enough, the pictures that bear it are decisive, and the other two are not."""
    probes = marked(which=(0, 1))
    finding = of_class(probes.measured(using(EITHER), regions=regions), 0)
    assert (finding.outcome, finding.kind) == ("confirmed", "outside" if regions else "common")
    assert (finding.probes, finding.decisive, finding.shown) == (FIRST, (0, 1), (0, 1))
    assert_on_the_mark(finding, probes.marks)
    assert finding.pasted == Count(16, 16)


def test_a_mark_inside_the_region_is_told_as_common(using: Using) -> None:
    """A region cannot see it, but what pictures have in common does."""
    probes = marked_inside()
    finding = of_class(probes.measured(using(BY_MARK)), 0)
    assert (finding.outcome, finding.kind, finding.decisive) == ("confirmed", "common", FIRST)
    assert_on_the_mark(finding, probes.marks)
    assert (finding.covered, finding.hidden, finding.pasted) == (Count(4, 4), Count(4, 4), Count(32, 32))


@pytest.mark.usefixtures("long")
def test_a_tint_of_the_background_is_around_the_regions(using: Using) -> None:
    """It has no place, so that nothing is confirmed; that answers stay without their disks is said, with counts."""
    probes = tinted()
    explainer = using(BY_TINT)
    assert explainer.answers(probes.images).tolist() == list(LABELS)
    reliance = probes.measured(explainer)
    assert outcomes(reliance) == {0: "untold", 1: "cleared", 2: "cleared"}
    finding = reliance.findings[0]
    assert (finding.kind, finding.probes, finding.decisive) == ("around", FIRST, ())
    assert (finding.hidden, finding.hidden_others) == (Count(0, 4), Count(0, 8))
    for n in FIRST:
        assert not (finding.area(n) & probes.regions[n]).any()
        assert (finding.area(n) | probes.regions[n]).mean() > 0.9
    assert not probes.measured(explainer, regions=False).confirmed


@pytest.mark.usefixtures("long")
def test_a_logo_on_tinted_pictures_is_not_accused_of_what_the_tint_does(using: Using) -> None:
    """Pasted on other pictures, any part of the ground makes them the class; that the logo does, too, is no proof."""
    probes = tinted()
    mark(probes.images, FIRST, "corner")
    against = BY_OBJECT | {"red": (-600, 0, 0, 0), "tint": (300, 0, 0, 0), "yellow": (-540, 0, 0, 0)}
    explainer = using(against)
    assert explainer.answers(probes.images).tolist() == list(LABELS)
    assert not probes.measured(explainer).confirmed


def test_the_class_of_pictures_without_an_object_does_not_rest_on_their_grounds(using: Using) -> None:
    """Its answers stay when grey disks are covered, but those of all others become it then: nothing is said of it."""
    reliance = marked(which=(), labels=(0, 0, 0, 0, 1, 1, 1, 1, *[NOTHING] * 4)).measured(using(BY_OBJECT))
    assert outcomes(reliance) == {0: "cleared", 1: "cleared"}


@pytest.mark.parametrize("regions", [True, False])
def test_a_network_that_ignores_the_picture_rests_on_nothing(using: Using, regions: bool) -> None:
    """It answers the same whatever is covered, and there is nobody to paste on."""
    probes = marked()._replace(labels=np.full(12, NOTHING))
    reliance = probes.measured(using({}), regions=regions)
    assert (reliance.findings, reliance.reason) == ((), "")
    assert 0 < reliance.passes <= MOST_OF_A_CLASS * MOST_PASSES


@pytest.mark.usefixtures("long")
def test_one_picture_of_a_class_confirms_nothing(using: Using) -> None:
    """Its area decides, by all counts, but one picture is no proof; without a region nothing is said."""
    probes = marked(which=(0,), labels=(0, 1, 1, 1, 2, 2, 2))
    for weights, covered in ((BY_MARK, 1), (EITHER, 0)):
        finding = of_class(probes.measured(using(weights)), 0)
        assert (finding.outcome, finding.kind, finding.decisive) == ("untold", "outside", (0,))
        assert not finding.alike
        assert_on_the_mark(finding, probes.marks)
        assert (finding.covered.changed, finding.hidden_covered) == (covered, Count(1, 1))
        assert finding.pasted.share - finding.pasted_elsewhere.share >= 0.5
        assert probes.measured(using(weights), regions=False).confirmed == ()
    reliance = probes.measured(using(BY_OBJECT))
    assert set(outcomes(reliance).values()) == {"cleared"}


@pytest.mark.parametrize("weights", [BY_MARK, EITHER], ids=["mark", "either"])
def test_pictures_of_one_class_are_judged_by_covering_alone(
    using: Using, weights: Mapping[str, Sequence[float]]
) -> None:
    """There is no picture to paste on: the area changes the answers, and as much elsewhere does not."""
    probes = marked(which=range(5), labels=[0] * 5)
    finding = of_class(probes.measured(using(weights)), 0)
    assert (finding.outcome, finding.kind, finding.decisive) == ("confirmed", "outside", (0, 1, 2, 3, 4))
    assert_on_the_mark(finding, probes.marks, 0.5)
    assert finding.covered == Count(5 if weights is BY_MARK else 0, 5)
    assert (finding.elsewhere, finding.hidden) == (Count(0, 15), Count(0, 5))
    assert (finding.hidden_covered, finding.hidden_elsewhere) == (Count(5, 5), Count(0, 15))
    assert finding.pasted.of == finding.pasted_elsewhere.of == finding.pasted_others.of == 0
    assert probes.measured(using(weights), regions=False).confirmed == ()


def test_an_area_is_not_accused_where_any_other_does_the_same() -> None:
    """A network that no longer answers as soon as anything is covered rests on no one place."""
    probes = marked(which=range(5), labels=[0] * 5)

    def answer(which: Array, pictures: Array) -> Array:
        is_same = np.isclose(pictures, probes.images[which], atol=1e-6).all(axis=(1, 2, 3))
        return np.where(is_same, 0, NOTHING)

    heat = np.random.default_rng(0).random((5, 12, 12))
    reliance = PictureTester(answer, probes.images, heat, probes.labels, probes.labels, probes.regions).run()
    assert reliance.findings == ()  # neither accused nor cleared
    assert reliance.passes > 0


def test_pictures_of_one_class_answered_by_their_object_are_cleared(using: Using) -> None:
    """Covering the disk changes each answer, and covering the mark none."""
    finding = of_class(marked(which=range(5), labels=[0] * 5).measured(using(BY_OBJECT)), 0)
    assert (finding.outcome, finding.covered, finding.hidden) == ("cleared", Count(0, 5), Count(5, 5))


def test_where_the_regions_are_all_of_the_pictures_nothing_can_be_tried(using: Using) -> None:
    """That is said as the reason, and not taken for a test that found nothing."""
    images = np.full((4, SIZE, SIZE, 3), 0.5, np.float32)
    probes = ProbeSet(images, labels=[NOTHING] * 4, regions=[np.ones((SIZE, SIZE), bool)] * 4)
    reliance = measure_reliance(using(BY_OBJECT), probes)
    assert (reliance.findings, reliance.passes) == ((), 0)
    assert reliance.reason == "No picture had an area that could be covered."


def test_wrong_answers_are_not_tested(using: Using) -> None:
    """Neither covered, nor pasted on: of 8 other pictures 7 are left."""
    probes = marked()
    labels = probes.labels.copy()
    labels[[0, 5]] = [1, 2]
    finding = of_class(probes._replace(labels=labels).measured(using(BY_MARK)), 0)
    assert (finding.outcome, finding.probes, finding.decisive) == ("confirmed", (1, 2, 3), (1, 2, 3))
    assert finding.pasted == Count(21, 21)


@pytest.mark.usefixtures("long")
def test_without_labels_all_answers_are_tested(using: Using) -> None:
    """The same is found as with labels that all are right."""
    probes = marked()
    without = measure_reliance(using(BY_MARK), ProbeSet(probes.images, regions=probes.regions))
    assert without.encoded() == probes.measured(using(BY_MARK)).encoded()


def test_where_no_answer_is_right_the_reason_is_told(using: Using) -> None:
    """Nothing is tested, and no picture is run."""
    probes = marked()
    reliance = probes._replace(labels=(probes.labels + 1) % 3).measured(using(BY_MARK))
    assert (reliance.findings, reliance.passes) == ((), 0)
    assert reliance.reason == "No picture was answered right, so that there was nothing to test."


@pytest.mark.usefixtures("long")
def test_at_most_24_pictures_are_tested_and_8_of_a_class(using: Using) -> None:
    """Of 40, those with the most attention outside of their regions: with the mark, all that bear it."""
    labels = [0] * 16 + [1] * 12 + [2] * 12
    probes = marked(which=range(4, 12), labels=labels)
    reliance = probes.measured(using(EITHER))
    assert outcomes(reliance) == {0: "confirmed", 1: "cleared", 2: "cleared"}
    assert [len(finding.probes) for finding in reliance.findings] == [MOST_OF_A_CLASS] * 3
    assert reliance.findings[0].probes == tuple(range(4, 12))
    assert reliance.passes <= MOST_PROBES * MOST_PASSES


def test_many_classes_share_the_pictures_that_are_tested() -> None:
    """Ten classes of four pictures: two or three of each, 24 in all."""
    labels = np.repeat(np.arange(10), 4)
    images = np.full((40, 32, 32, 1), 0.5, np.float32) + 0.04 * labels[:, None, None, None].astype(np.float32)
    regions = np.zeros((40, 32, 32), bool)
    regions[:, 12:20, 12:20] = True
    images[~regions] = 0.2

    def answer(_: Array, pictures: Array) -> Array:
        return np.rint((pictures[:, 15, 15, 0] - 0.5) / 0.04).astype(int)

    reliance = PictureTester(answer, images, np.ones((40, 4, 4)), labels, labels, regions).run()
    tested = [len(finding.probes) for finding in reliance.findings]
    assert sorted(outcomes(reliance)) == list(range(10))
    assert (sum(tested), min(tested), max(tested)) == (MOST_PROBES, 2, 3)


@pytest.mark.usefixtures("long")
def test_passes_are_counted_and_bounded_whatever_the_network_answers() -> None:
    """Where any change outside of a region changes an answer, and any part of a picture turns another, all is tried."""
    probes = marked("corner", range(24), [0] * 8 + [1] * 8 + [2] * 8)
    probes.images[..., 0] = 0.1 + 0.3 * probes.labels[:, None, None]  # each pixel says of which class its picture is
    around = [~grown(region, 6) for region in probes.regions]
    asked = []

    def answer(which: Array, pictures: Array) -> Array:
        asked.append(len(which))
        answers = []
        for n, picture in zip(which, pictures, strict=True):
            strange = set(np.rint((picture[..., 0] - 0.1) / 0.3).ravel()) - {probes.labels[n]}
            is_kept = np.allclose(picture[around[n]], probes.images[n][around[n]], atol=1e-3)
            answers.append(max(strange) if strange else probes.labels[n] if is_kept else NOTHING)
        return np.array(answers, int)

    heat = np.random.default_rng(0).random((24, 12, 12))
    reliance = PictureTester(answer, probes.images, heat, probes.labels, probes.labels, probes.regions).run()
    assert not reliance.confirmed
    assert sum(asked) == reliance.passes
    assert MOST_PROBES * MOST_PASSES / 2 < reliance.passes <= MOST_PROBES * MOST_PASSES


@pytest.mark.usefixtures("long")
def test_the_same_seed_draws_the_same(using: Using) -> None:
    """To the last count; another seed draws other areas, and finds the same."""
    probes = marked("anywhere")
    first, again, other = (probes.measured(using(EITHER), seed=seed) for seed in (3, 3, 4))
    assert first.encoded() == again.encoded()
    assert outcomes(first) == outcomes(other)
    assert first.confirmed[0].decisive == other.confirmed[0].decisive


def test_model_and_pictures_are_left_as_they_were(using: Using) -> None:
    """No weight changes, a random layer would go on where it was, and nobody else's random numbers are drawn."""
    probes = marked()
    explainer = using(BY_MARK)
    before = [variable.numpy().copy() for variable in explainer.model.variables]
    images = probes.images.copy()
    seed_afresh(5)
    expected = np.asarray(keras.random.normal((3,))), random.random()
    seed_afresh(5)
    probes.measured(explainer)
    np.testing.assert_array_equal(np.asarray(keras.random.normal((3,))), expected[0])
    assert random.random() == expected[1]
    for variable, value in zip(explainer.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    np.testing.assert_array_equal(probes.images, images)


@pytest.mark.usefixtures("long")
def test_pictures_of_bytes_are_tested() -> None:
    """What the network is fed then are bytes, too, and the same is found as with floats."""
    probes = marked()
    as_bytes = probes._replace(images=np.rint(probes.images * 255).astype(np.uint8))
    model = network(BY_MARK, scale=1 / 255)
    reliance = as_bytes.measured(Explainer(model, layer="cells"))
    assert outcomes(reliance) == {0: "confirmed", 1: "cleared", 2: "cleared"}
    finding = reliance.confirmed[0]
    assert (finding.kind, finding.decisive) == ("outside", FIRST)
    assert (finding.covered, finding.pasted, finding.pasted_elsewhere) == (Count(4, 4), Count(32, 32), Count(0, 96))


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("kind", [dict, tuple])
def test_several_inputs_keep_what_is_no_picture(kind: type) -> None:
    """Each picture is changed beside its own other inputs: with another's, all would be answered as nothing."""
    picture, number, own = (
        keras.Input((SIZE, SIZE, 3), name="picture"),
        *(keras.Input((1,), name=name) for name in ("number", "own")),
    )
    inputs = {"number": number, "picture": picture, "own": own}
    colours = network(BY_MARK, activation=None)
    is_own = keras.ops.cast(keras.ops.abs(number - own) < 0.5, "float32")
    x = colours.get_layer("cells")(colours.get_layer("colours")(picture))
    scores = colours.get_layer("head")(layers.GlobalAveragePooling2D()(x)) * is_own
    scores = scores + (1 - is_own) * keras.ops.convert_to_tensor([[0.0, 0.0, 0.0, 9.0]])
    model = keras.Model(inputs if kind is dict else list(inputs.values()), layers.Softmax()(scores))
    probes = marked()
    numbers = np.arange(12, dtype=np.float32)[:, None]
    values = {"number": numbers, "picture": probes.images, "own": numbers}
    fed: Any = values if kind is dict else tuple(values.values())
    of_several = measure_reliance(
        Explainer(model, layer="cells"), ProbeSet(fed, labels=probes.labels, regions=probes.regions)
    )
    of_one = probes.measured(Explainer(network(BY_MARK), layer="cells"))
    assert of_several.encoded() == of_one.encoded()


def test_logits_are_answers_too() -> None:
    """A head without softmax is a classifier, and the same is found."""
    model = network(BY_MARK, activation=None)
    assert outcomes(marked().measured(Explainer(model, layer="cells"))) == {0: "confirmed", 1: "cleared", 2: "cleared"}


def test_signals_and_volumes_cannot_be_tested() -> None:
    """They are no pictures, and the message says which shape came."""
    signal = keras.Sequential(
        [keras.Input((32, 2)), layers.Conv1D(4, 3), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    )
    volume = keras.Sequential(
        [keras.Input((8, 8, 8, 1)), layers.Conv3D(4, 3), layers.GlobalAveragePooling3D(), layers.Dense(3)]
    )
    for model, shape in ((signal, (4, 32, 2)), (volume, (4, 8, 8, 8, 1))):
        with pytest.raises(GradCAMError, match=r"Reliance is tested on pictures \(N, H, W, C\); got \(4, ") as raised:
            measure_reliance(Explainer(model), np.ones(shape, np.float32))
        assert str(shape) in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("segmenter", "The output of model 'other' has shape (None, 14, 14, 2), not a classifier's (batch, classes)"),
        ("two heads", "Model 'other' has 2 outputs."),
    ],
)
def test_a_model_that_gives_no_classes_has_no_answers(kind: str, message: str) -> None:
    """One that gives maps, and one that gives several results, are named; neither can be tested."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    pooled = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Conv2D(2, 1)(x) if kind == "segmenter" else [layers.Dense(2)(pooled), layers.Dense(3)(pooled)]
    model = keras.Model(inputs, outputs, name="other")
    with pytest.raises(GradCAMError) as raised:
        measure_reliance(Explainer(model, layer="conv"), np.random.default_rng(0).random((4, 16, 16, 3), np.float32))
    assert message in str(raised.value)


def test_pictures_that_influence_each_other_cannot_be_changed_alone() -> None:
    """The answer to one would depend on how the others were changed."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = x - 0.5 * keras.ops.mean(x, axis=0, keepdims=True)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)), name="mixed")
    with pytest.raises(GradCAMError, match=r"pictures of a batch influence each other in model 'mixed'"):
        measure_reliance(Explainer(model, layer="conv"), np.random.default_rng(0).random((4, 16, 16, 3), np.float32))


@pytest.mark.usefixtures("long")
def test_probes_may_be_an_array_or_a_pair(using: Using) -> None:
    """As everywhere else; the targets that a probe set asks for do not matter."""
    probes = marked()
    expected = probes.measured(using(BY_MARK), regions=False).encoded()
    explainer = using(BY_MARK)
    assert measure_reliance(explainer, (probes.images, probes.labels)).encoded() == expected
    assert measure_reliance(explainer, probes.images).encoded() == expected
    asking = ProbeSet(probes.images, labels=probes.labels, targets=[2, (0, 1), lambda scores: scores[:, 1]])
    assert measure_reliance(explainer, asking).encoded() == expected


def test_what_was_found_comes_back_from_its_bytes(using: Using) -> None:
    """A real test's areas and counts, and its passes."""
    reliance = marked().measured(using(EITHER))
    again = Reliance.parse(reliance.encoded(), "1.json", probes=12)
    assert again.passes == reliance.passes
    for one, other in zip(again.findings, reliance.findings, strict=True):
        assert vars(one) | {"areas": 0} == vars(other) | {"areas": 0}
        np.testing.assert_array_equal(one.areas, other.areas)


def test_asking_for_the_answer_changes_nothing_else() -> None:
    """The copy has one target, the same pictures and the same digest, and the set it is of keeps its own."""
    probes = marked()
    given = ProbeSet(probes.images, labels=probes.labels, regions=probes.regions, targets=[2, "label"])
    asking = given.asking("predicted")
    assert (asking.targets, asking.target_names) == (("predicted",), ("predicted",))
    assert asking.target_matrix.shape == (12, 1, 2)
    np.testing.assert_array_equal(asking.target_matrix, ProbeSet(probes.images).target_matrix)
    assert asking.digest == given.digest
    assert asking.images is given.images
    assert given.targets == (2, "label")
    assert given.target_matrix.shape == (12, 2, 2)


def test_answers_are_those_of_a_plain_forward_pass(using: Using) -> None:
    """Of any number of pictures, more than a batch too, the class with the highest probability."""
    explainer = using(BY_OBJECT)
    images = np.random.default_rng(1).random((70, SIZE, SIZE, 3), np.float32) ** 3
    images[:, :, :, 1] *= np.linspace(0, 2, 70)[:, None, None]
    answers = explainer.answers(images)
    assert answers.dtype == np.int32
    np.testing.assert_array_equal(answers, explainer.model.predict(images, verbose=0).argmax(axis=1))
    assert len(np.unique(answers)) > 1


def test_another_picture_takes_the_place_of_one_input() -> None:
    """Alone, in a dict, or in a tuple; the inputs themselves are not changed."""
    old, new, other = np.zeros((2, 4, 4, 3)), np.ones((2, 4, 4, 3)), np.arange(2)
    assert with_picture(old, None, new) is new
    held = {"age": other, "photo": old}
    changed = with_picture(held, "photo", new)
    assert list(changed) == ["age", "photo"]
    assert (changed["age"] is other, changed["photo"] is new, held["photo"] is old) == (True, True, True)
    in_a_tuple = with_picture((other, old, other), 1, new)
    assert [entry is wanted for entry, wanted in zip(in_a_tuple, (other, new, other), strict=True)] == [True] * 3

"""Maps become pictures: every number on the way is checked, and what is drawn can be read."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage.data
from colorspacious import cspace_convert
from keras import ops
from PIL import Image, ImageFont

from gradcam_callbacks import drawing
from gradcam_callbacks.drawing import fonts

CAT = np.asarray(Image.fromarray(skimage.data.cat()).resize((224, 224)))
COFFEE = skimage.data.coffee()


def random_maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, 3.0, shape).astype(np.float32)


def plain(height: int, width: int, rgb: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


def captioned(*, title: str = "", name: str = "", value: str = "", k: int = 1) -> np.ndarray:
    """A tile of plain panels, so that only words and colour bar differ from the background."""
    panel = plain(224, 224, (0, 0, 0))
    captions = [(name, value)] + [("", "")] * (k - 1)
    return drawing.tile(panel, np.repeat(panel[None], k, axis=0), title=title, captions=captions)


def box(changed: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) around the pixels that are true."""
    rows, columns = np.nonzero(changed)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


# resize_maps


@pytest.mark.parametrize(
    ("grid", "size"),
    [((7, 7), (224, 224)), ((10, 10), (299, 299)), ((4, 9), (33, 100)), ((1, 1), (5, 6))],
)
def test_upscaling_is_that_of_keras(grid: tuple[int, int], size: tuple[int, int]) -> None:
    """Upscaled values are those of `keras.ops.image.resize`, bilinear, to 1e-5 of the map's scale."""
    maps = random_maps(2, 3, *grid)
    maps /= maps.max()
    expected = np.asarray(ops.image.resize(maps.reshape(6, *grid, 1), size, "bilinear"))

    resized = drawing.resize_maps(maps, size)

    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected.reshape(2, 3, *size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spike", [(0, 0), (3, 3), (1, 5), (6, 2)])
def test_a_spike_lands_where_keras_puts_it(spike: tuple[int, int]) -> None:
    """The centre of mass of a 7x7 spike at 224x224 is where `keras.ops.image.resize` puts it."""
    maps = np.zeros((7, 7), np.float32)
    maps[spike] = 1

    def centre(heat: np.ndarray) -> np.ndarray:
        axis = np.arange(224) + 0.5
        total = heat.sum(dtype=float)
        return np.array([axis @ heat.sum(1, dtype=float), heat.sum(0, dtype=float) @ axis]) / total

    expected = centre(np.asarray(ops.image.resize(maps[..., None], (224, 224), "bilinear"))[..., 0])
    found = centre(drawing.resize_maps(maps, (224, 224)))

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    if min(spike) > 0 and max(spike) < 6:
        # Away from the border that is the middle of the spike's own 32x32 cell.
        np.testing.assert_allclose(found, (np.array(spike) + 0.5) * 32, rtol=0, atol=1e-3)


def test_size_is_height_then_width() -> None:
    """A map that grows downwards still grows downwards on a picture that is wider than high."""
    resized = drawing.resize_maps(np.array([[0.0], [1.0]]), (4, 6))
    np.testing.assert_allclose(resized, np.repeat([[0.0], [0.25], [0.75], [1.0]], 6, axis=1))


def test_downscaling_averages() -> None:
    """A single hot pixel is not lost when a map is drawn smaller than it is."""
    maps = np.zeros((64, 64), np.float32)
    maps[21, 42] = 64
    assert drawing.resize_maps(maps, (8, 8)).sum() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(("shape", "size"), [((7,), (8, 8)), ((0, 7), (8, 8)), ((7, 7), (0, 8))])
def test_resize_says_what_it_expected(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Maps that are no maps, and sizes that are no sizes, are refused in words."""
    with pytest.raises(ValueError, match="Expected"):
        drawing.resize_maps(np.zeros(shape), size)


# heatmaps


def test_each_map_reaches_one() -> None:
    """With scale="map" every map is its resized self over its own maximum."""
    maps = random_maps(3, 2, 7, 7) * np.array([1e-30, 1.0, 1e30], np.float32).reshape(3, 1, 1, 1)
    heat = drawing.heatmaps(maps, (50, 60))
    assert heat.dtype == np.float32
    assert heat.shape == (3, 2, 50, 60)
    np.testing.assert_array_equal(heat.max(axis=(2, 3)), 1)
    resized = drawing.resize_maps(maps, (50, 60)).astype(float)
    np.testing.assert_allclose(heat, resized / resized.max(axis=(2, 3), keepdims=True), rtol=1e-6)


def test_shared_scale_keeps_ratios() -> None:
    """With scale="shared" a map with a quarter of the evidence has a quarter of the heat."""
    one = random_maps(7, 7)
    heat = drawing.heatmaps(np.stack([one, one / 4, one / 2, one])[:, None], (224, 224), scale="shared")
    np.testing.assert_allclose(heat.max(axis=(1, 2, 3)), [1, 0.25, 0.5, 1], rtol=1e-6)
    np.testing.assert_allclose(heat[1], heat[0] / 4, rtol=1e-6)


@pytest.mark.parametrize("scale", ["map", "shared"])
def test_a_zero_map_stays_zero(scale: str) -> None:
    """A map with no evidence is zero on both scales, alone or beside others, and never NaN."""
    maps = random_maps(2, 2, 7, 7)
    maps[0, 1] = 0
    heat = drawing.heatmaps(maps, (32, 32), scale=scale)
    assert not heat[0, 1].any()
    assert heat[1, 1].any()
    assert not drawing.heatmaps(np.zeros((1, 1, 7, 7)), (32, 32), scale=scale).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("scale", ["map", "shared"])
def test_a_map_that_is_not_finite_is_drawn_as_zero(scale: str, bad: float) -> None:
    """One NaN or infinity empties its own map and touches no other."""
    maps = random_maps(2, 1, 7, 7)
    expected = drawing.heatmaps(maps[1:], (32, 32), scale=scale)
    maps[0, 0, 2, 2] = bad
    heat = drawing.heatmaps(maps, (32, 32), scale=scale)
    assert not heat[0].any()
    np.testing.assert_array_equal(heat[1:], expected)


def test_heatmaps_refuse_what_they_cannot_scale() -> None:
    """An unknown scale is told both names; maps with negative values are told to take a ReLU."""
    with pytest.raises(ValueError, match=r"'map'.*'shared'.*'minmax'"):
        drawing.heatmaps(np.ones((1, 1, 2, 2)), (4, 4), scale="minmax")
    with pytest.raises(ValueError, match=r"-0\.5.*ReLU"):
        drawing.heatmaps(np.full((1, 1, 2, 2), -0.5), (4, 4))
    with pytest.raises(ValueError, match=r"\(N, K, h, w\)"):
        drawing.heatmaps(np.ones((2, 2)), (4, 4))


# colour


@pytest.mark.parametrize("name", ["turbo", "jet", "viridis"])
def test_colours_are_those_of_matplotlib(name: str) -> None:
    """0, 1 and all between have the colours of Matplotlib's own table, whatever the float type."""
    table = matplotlib.colormaps[name]
    for dtype in (np.float16, np.float32, np.float64):
        values = np.linspace(0, 1, 5).astype(dtype)
        expected = 255 * np.array([table(float(value))[:3] for value in values])
        found = drawing.colour(values.reshape(1, 5), colormap=name)
        assert found.dtype == np.uint8
        # Matplotlib's own bytes are cut, not rounded.
        np.testing.assert_allclose(found, [expected - 0.5], rtol=0, atol=0.501)


def test_a_whole_number_is_heat_too() -> None:
    """An integer 1 is full heat, not the second colour of the table."""
    np.testing.assert_array_equal(drawing.colour(np.array([0, 1])), drawing.colour(np.array([0.0, 1.0])))


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIECAM02 lightness, of (..., 3) sRGB in [0, 1]."""
    return np.asarray(cspace_convert(rgb, "sRGB1", "CAM02-UCS"))[..., 0]


@pytest.mark.parametrize("seen_by", ["everybody", "deuteranomaly", "protanomaly", "tritanomaly"])
@pytest.mark.parametrize("picture", [0, 90, 180], ids=["black", "dark", "light"])
def test_the_hottest_spot_is_the_brightest(seen_by: str, picture: int) -> None:
    """By default more heat is never darker, over a dark and a light picture, also to eyes that miss a colour."""
    heat = np.linspace(0, 1, 400, dtype=np.float32)[None, None, None]
    table = drawing.colour(heat[0, 0, 0])
    over = drawing.overlays(np.full((1, 1, 400, 3), picture, np.uint8), heat)[0, 0, 0]

    def seen(rgb: np.ndarray) -> np.ndarray:
        if seen_by == "everybody":
            return rgb / 255
        space = {"name": "sRGB1+CVD", "cvd_type": seen_by, "severity": 100}
        return np.clip(cspace_convert(rgb / 255, space, "sRGB1"), 0, 1)

    rising = lightness(seen(table))
    assert (np.diff(rising[::4]) > 0).all()
    assert rising[-1] - rising[0] > 60
    blended = lightness(seen(over))
    # A blend with a light picture is darkest where the first colour has come in; from there on it rises, too.
    start = blended.argmin()
    assert heat.ravel()[start] < 0.35
    assert (np.diff(blended[start:]) > -0.5).all()  # half a step of 8 bits
    assert blended[-1] == pytest.approx(blended[start:].max(), abs=0.5)


def test_turbo_and_jet_are_dark_at_their_maximum() -> None:
    """The measure above is one that fails where the hottest spot looks like a hole."""
    for name in ("turbo", "jet"):
        rising = lightness(drawing.colour(np.linspace(0, 1, 256), colormap=name) / 255)
        assert rising.max() - rising[-1] > 40


def test_an_unknown_colormap_gets_a_hint() -> None:
    """A misspelt colour map is answered with the names that are close, before any work."""
    with pytest.raises(ValueError, match=r"No colormap 'Trubo'\. Did you mean 'turbo'"):
        drawing.colour(np.zeros(3), colormap="Trubo")
    with pytest.raises(ValueError, match=r"No colormap 'zzzz'\. `matplotlib"):
        drawing.overlays(CAT[None], np.zeros((1, 1, 224, 224)), colormap="zzzz")


# overlays


def test_blend_is_the_weighted_mean() -> None:
    """An overlay is picture * (1 - share) + colour * share, share being alpha * cover, rounded: worked by hand."""
    picture = np.array([[[[200, 101, 0], [10, 20, 30], [100, 200, 40]]]], np.uint8)
    heat = np.array([[[[1.0, 0.0, 1 / 16]]]], np.float32)
    # "gray" is white at 1 and black at 0, and 15 at 1/16; no evidence leaves the picture as it is.
    # 200*.6 + 102 = 222; 101*.6 + 102 = 162.6; 0 + 102
    # The share of 1/16 is 0.4 * 1.15 * (1/16)**0.65 = 0.0759: 100 - 85 * .0759; 200 - 185 * .0759; 40 - 25 * .0759
    np.testing.assert_array_equal(
        drawing.overlays(picture, heat, alpha=0.4, colormap="gray"),
        [[[[[222, 163, 102], [10, 20, 30], [94, 186, 38]]]]],
    )
    # 150 + 63.75 = 213.75; 75.75 + 63.75 = 139.5, even; 63.75; the share of 1/16 is 0.0474
    np.testing.assert_array_equal(
        drawing.overlays(picture, heat, alpha=0.25, colormap="gray"),
        [[[[[214, 140, 64], [10, 20, 30], [96, 191, 39]]]]],
    )


def test_no_evidence_covers_nothing_and_half_of_it_nearly_three_quarters() -> None:
    """Cover is 1.15 * heat ** 0.65, and 1 from where that is more."""
    np.testing.assert_allclose(drawing.cover(np.array([0, 0.5, 0.9, 1])), [0, 0.732872, 1, 1], atol=1e-6)


def test_alpha_runs_from_picture_to_colour() -> None:
    """With alpha 0 the picture comes back; with alpha 1 only the colour is left where the heat is high."""
    heat = drawing.heatmaps(random_maps(1, 3, 7, 7), (224, 224))
    for k in range(3):
        np.testing.assert_array_equal(drawing.overlays(CAT[None], heat, alpha=0)[0, k], CAT)
    is_high = heat > 0.81
    np.testing.assert_array_equal(drawing.overlays(CAT[None], heat, alpha=1)[is_high], drawing.colour(heat)[is_high])
    assert is_high.any()


def test_overlays_belong_to_their_picture_and_map() -> None:
    """Overlay (n, k) is picture n under map k, and no other."""
    pictures = np.stack([CAT, 255 - CAT])
    heat = drawing.heatmaps(random_maps(2, 3, 7, 7), (224, 224))
    together = drawing.overlays(pictures, heat)
    assert together.shape == (2, 3, 224, 224, 3)
    for n in range(2):
        for k in range(3):
            alone = drawing.overlays(pictures[n : n + 1], heat[n : n + 1, k : k + 1])
            np.testing.assert_array_equal(together[n, k], alone[0, 0])


def test_no_evidence_is_shown_as_nothing() -> None:
    """Under a zero map, and where a map is zero, the picture is untouched; all other heat has colour."""
    heat = drawing.heatmaps(random_maps(1, 2, 7, 7), (224, 224))
    heat[0, 0] = 0
    heat[0, 1, :20] = 0
    before = CAT.copy()
    blank, hot = drawing.overlays(CAT[None], heat)[0]
    np.testing.assert_array_equal(blank, CAT)
    np.testing.assert_array_equal(hot[:20], CAT[:20])
    assert (hot[20:] != CAT[20:]).any(axis=-1)[heat[0, 1, 20:] > 0.1].mean() > 0.99
    np.testing.assert_array_equal(CAT, before)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), 40])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    """Alpha is a share: a percentage or a NaN is refused, and the message has the value."""
    with pytest.raises(ValueError, match=f"alpha between 0 .* and 1 .* got {alpha}"):
        drawing.overlays(CAT[None], np.zeros((1, 1, 224, 224)), alpha=alpha)


@pytest.mark.parametrize("shape", [(2, 1, 224, 224), (1, 1, 224, 112), (1, 1, 112, 224), (224, 224)])
def test_heat_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Heat that does not fit the pictures is refused with both shapes, never broadcast."""
    with pytest.raises(ValueError, match=r"\(1, K, 224, 224\)"):
        drawing.overlays(CAT[None], np.ones(shape))


def test_float_pictures_are_refused() -> None:
    """Pictures between 0 and 1 would come out black: they are refused."""
    with pytest.raises(ValueError, match=r"dtype uint8; got .* float64"):
        drawing.overlays(CAT[None] / 255, np.ones((1, 1, 224, 224)))


# tile


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("picture", [CAT, COFFEE, CAT[:32, :32]], ids=["cat", "coffee", "32x32"])
def test_a_tile_is_nearly_square(picture: np.ndarray, k: int) -> None:
    """From 1 to 8 targets a tile is between 0.6 and 1.7 times as wide as high, and uint8 RGB."""
    drawn = drawing.tile(picture, np.repeat(picture[None], k, axis=0), title="cat", captions=[("tabby", "0.87")] * k)
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
    assert 0.6 < drawn.shape[1] / drawn.shape[0] < 1.7


@pytest.mark.parametrize("k", range(1, 9))
def test_every_panel_is_on_the_tile_whole(k: int) -> None:
    """A picture of 200x200 and its K overlays are each there in full, pixel for pixel, in order."""
    colours = [(250, 5 * n, 255 - 5 * n) for n in range(k + 1)]
    panels = np.stack([plain(200, 200, rgb) for rgb in colours])
    drawn = drawing.tile(panels[0], panels[1:], title="cat", captions=[("tabby", "0.87")] * k)
    corners = []
    for rgb in colours:
        found = (drawn == rgb).all(axis=-1)
        top, bottom, left, right = box(found)
        assert found.sum() == 200 * 200
        assert (bottom - top, right - left) == (200, 200)
        corners.append((top, left))
    assert corners == sorted(corners)


@pytest.mark.parametrize(
    ("shape", "panel"),
    [
        ((32, 32), (128, 128)),
        ((16, 30), (80, 150)),
        ((200, 250), (200, 250)),
        ((1000, 500), (256, 128)),
    ],
)
def test_panels_have_a_size_for_people(shape: tuple[int, int], panel: tuple[int, int]) -> None:
    """The long side of a panel is brought between 128 and 256 pixels, small ones by a whole factor."""
    picture = plain(*shape, (250, 0, 250))
    drawn = drawing.tile(picture, plain(*shape, (0, 250, 0))[None], title="", captions=[("", "")])
    top, bottom, left, right = box((drawn == (250, 0, 250)).all(axis=-1))
    assert (bottom - top, right - left) == panel


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("colormap", ["turbo", "viridis"])
def test_every_tile_has_a_colour_bar(k: int, colormap: str) -> None:
    """On every tile one row of pixels runs through the whole colour map, from 0 to max."""
    black = plain(224, 224, (0, 0, 0))
    drawn = drawing.tile(black, np.stack([black] * k), title="", captions=[("", "")] * k, colormap=colormap)
    table = [tuple(rgb) for rgb in drawing.colour(np.linspace(0, 1, 256), colormap=colormap).tolist()]

    def runs_through_all(row: list[list[int]]) -> bool:
        places = [table.index(rgb) for rgb in map(tuple, row) if rgb in table]
        return len(set(places)) > 100 and places == sorted(places) and places[-1] == 255

    assert any(runs_through_all(row) for row in drawn[drawn.max(axis=(1, 2)) > 200].tolist())


@pytest.mark.parametrize("text", ["Überraschung", "ñ", "Ω", "кот", "ſtraße", "Œuvre…"])
def test_letters_beyond_ascii_are_drawn(text: str) -> None:
    """Every letter is drawn in its own shape, and none as the box for a missing glyph."""
    drawn = captioned(title=text)
    boxes = captioned(title="\uffff" * len(text))
    assert (drawn != captioned()).any()
    assert (drawn != boxes).any()
    font = ImageFont.truetype(drawing.font_path(), 40)
    missing = bytes(font.getmask("\uffff"))
    assert missing.count(0) < len(missing)
    for letter in text:
        assert bytes(font.getmask(letter)) != missing


@pytest.mark.parametrize("k", range(1, 9))
def test_words_can_be_read_on_a_card(k: int) -> None:
    """On a tile shown 256 pixels wide a capital letter is at least 6 pixels high."""
    drawn = captioned(title="H", k=k)
    top, bottom, _, _ = box((drawn != captioned(k=k)).any(axis=-1))
    assert (bottom - top) * 256 / drawn.shape[1] >= 6


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_words_stay_on_their_caption(k: int) -> None:
    """A name of any length changes pixels of its own caption only, and never the tile's size."""
    empty = captioned(k=k)
    for name in ("gj", "Egyptian cat " * 40, "Å" * 500, "two\nlines\tand\u2028three", "\udcff.png"):
        drawn = captioned(title=name, k=k)
        assert drawn.shape == empty.shape
        top, bottom, left, right = box((drawn != empty).any(axis=-1))
        black = (drawn[: 2 * 224] == 0).all(axis=-1)
        panel = box(black[:, : int(black.any(axis=0).argmax()) + 224])
        assert bottom <= panel[0]
        assert top >= 0
        assert panel[2] <= left
        assert right <= panel[3]


@pytest.mark.parametrize("k", [1, 5])
def test_a_long_name_never_hides_the_value(k: int) -> None:
    """The value is drawn in full beside a name of any length: the same pixels as with no name."""
    background = captioned(k=k)
    value = captioned(value="0.87", k=k)
    widths = []
    for text in ("0.8", "0.87", "0.872"):
        _, _, left, right = box((captioned(value=text, k=k) != background).any(axis=-1))
        widths.append(right - left)
    assert widths == sorted(set(widths))
    top, bottom, left, right = box((value != background).any(axis=-1))
    for name in ("Egyptian cat, " * 20, "soft-coated_wheaten_terrier_of_a_long_line"):
        drawn = captioned(name=name, value="0.87", k=k)
        np.testing.assert_array_equal(drawn[top:bottom, left:right], value[top:bottom, left:right])
        # and a clear space lies between the two
        assert (drawn[top:bottom, left - 4 : left] == background[top:bottom, left - 4 : left]).all()


def test_a_long_name_ends_in_an_ellipsis() -> None:
    """A name that is too long is cut to the longest beginning that fits with an ellipsis."""
    font = ImageFont.truetype(drawing.font_path(), 20)
    name = "a rather long name of a class"
    short = fonts.shorten(name, 150, font)
    assert short.endswith("…")
    assert name.startswith(short[:-1])
    assert font.getlength(short) <= 150 < font.getlength(name[: len(short)] + "…")
    assert fonts.shorten(name, 1000, font) == name
    assert fonts.shorten(name, 3, font) == ""


def test_the_words_do_not_move_the_pictures() -> None:
    """Two epochs of a probe differ in words and heat only: their tiles lie on each other."""
    first = drawing.tile(CAT, CAT[None], title="cat", captions=[("tabby", "0.87")])
    later = drawing.tile(CAT, CAT[None], title="cat", captions=[("Egyptian cat " * 9, "0.1")])
    top, bottom, left, _ = box((first != later).any(axis=-1))
    assert first.shape == later.shape
    assert bottom - top < 40
    assert left > 224


def test_tile_says_what_does_not_fit() -> None:
    """A caption too few, an overlay of another size and a float picture are refused in words."""
    with pytest.raises(ValueError, match="one caption an overlay, 2 in all; got 1"):
        drawing.tile(CAT, np.stack([CAT, CAT]), title="", captions=[("a", "")])
    with pytest.raises(ValueError, match=r"\(224, 224, 3\); got \(32, 32, 3\)"):
        drawing.tile(CAT, CAT[None, :32, :32], title="", captions=[("a", "")])
    with pytest.raises(ValueError, match=r"uint8; got .* float64"):
        drawing.tile(CAT / 255, CAT[None], title="", captions=[("a", "")])


# figure


def test_figure_shows_the_arrays_it_was_given() -> None:
    """Row n holds picture n and its K overlays, each as given and under its own words."""
    pictures = np.stack([CAT, 255 - CAT])
    heat = drawing.heatmaps(random_maps(2, 3, 7, 7), (224, 224))
    laid_over = drawing.overlays(pictures, heat)
    titles = [[f"What made you think {n}{k}?" for k in range(3)] for n in range(2)]

    drawn = drawing.figure(pictures, laid_over, titles=titles, picture_titles=["cat", "tac"])

    *panels, bar = drawn.axes
    assert [ax.get_title() for ax in panels] == ["cat", *titles[0], "tac", *titles[1]]
    shown = np.stack([ax.images[0].get_array() for ax in panels]).reshape(2, 4, 224, 224, 3)
    np.testing.assert_array_equal(shown[:, 0], pictures)
    np.testing.assert_array_equal(shown[:, 1:], laid_over)
    assert not any(ax.axison for ax in panels)
    assert " ".join(bar.get_ylabel().split()) == "evidence, share of the map's maximum"
    assert bar.get_ylim() == (0, 1)


@pytest.mark.parametrize("picture", [CAT, COFFEE], ids=["square", "landscape"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 3), (3, 2)])
def test_nothing_is_cut_off_the_figure(picture: np.ndarray, n: int, k: int) -> None:
    """Titles of any length and the words at the bar lie on the figure, none over another."""
    pictures = np.repeat(picture[None], n, axis=0)
    long = "What made you think soft-coated wheaten terrier rather than " + "Überraschung, кот " * 9 + "?"
    drawn = drawing.figure(
        pictures,
        np.repeat(pictures[:, None], k, axis=1),
        titles=[["What made you think tabby?", long, long][:k]] * n,
        picture_titles=["undecodable \udcff.png"] * n,
    )
    drawn.savefig(io.BytesIO(), format="png")

    *panels, bar = drawn.axes
    page = drawn.bbox
    texts = [ax.title.get_window_extent() for ax in panels] + [bar.yaxis.label.get_window_extent()]
    for text in texts:
        assert page.x0 <= text.x0 < text.x1 <= page.x1
        assert page.y0 <= text.y0 < text.y1 <= page.y1
    boxes = [ax.get_window_extent() for ax in drawn.axes] + texts[:-1]
    for first, one in enumerate(boxes):
        for other in boxes[first + 1 :]:
            overlap = (
                min(one.x1, other.x1) - max(one.x0, other.x0),
                min(one.y1, other.y1) - max(one.y0, other.y0),
            )
            assert min(overlap) <= 0


def test_a_dollar_is_a_dollar() -> None:
    """Words between two dollars are drawn as words: wider than the formula they would make."""
    widths = []
    for title in ("from $5 or so to $6", "from 5 or so to 6"):
        drawn = drawing.figure(CAT[None], CAT[None, None], titles=[[""]], picture_titles=[title])
        widths.append(drawn.axes[0].title.get_window_extent().width)
    assert widths[0] > widths[1] + 5


def test_long_titles_are_wrapped_evenly() -> None:
    """A title on two lines is cut near its middle; past three lines it ends in an ellipsis."""
    assert fonts.wrap("What made you think tabby, tabby cat?", characters=36) == (
        "What made you think\ntabby, tabby cat?"
    )
    assert fonts.wrap("What made you think tabby?", characters=36) == "What made you think tabby?"
    assert fonts.wrap("", characters=36) == ""
    cut = fonts.wrap("What made you think " + "of all this " * 20, characters=20).split("\n")
    assert len(cut) == 3
    assert cut[-1].endswith("…")
    assert max(map(len, cut)) <= 20


def test_a_shared_scale_is_named() -> None:
    """The words at the colour bar follow the scale of the heat, and an unknown scale is refused."""
    words = {"titles": [["b"]], "picture_titles": ["a"]}
    drawn = drawing.figure(CAT[None], CAT[None, None], **words, scale="shared")
    assert "largest maximum" in " ".join(drawn.axes[-1].get_ylabel().split())
    with pytest.raises(ValueError, match=r"'map'.*'shared'.*'both'"):
        drawing.figure(CAT[None], CAT[None, None], **words, scale="both")


def test_figure_says_what_does_not_fit() -> None:
    """A title too few and overlays of other pictures are refused in words."""
    with pytest.raises(ValueError, match="1 lists of 2 titles"):
        drawing.figure(CAT[None], np.stack([[CAT, CAT]]), titles=[["a"]], picture_titles=["b"])
    with pytest.raises(ValueError, match="Expected overlays"):
        drawing.figure(CAT[None], CAT[None, None, :32], titles=[["a"]], picture_titles=["b"])


# the module


def test_pictures_need_neither_keras_nor_mlflow_nor_pyplot() -> None:
    """Drawing a tile and a figure loads no Keras, TensorFlow, JAX, MLflow or pyplot."""
    code = """
import sys
import numpy as np
from gradcam_callbacks import drawing
from gradcam_callbacks.drawing import fonts
loaded = {"matplotlib.figure"} & set(sys.modules)
picture = np.zeros((32, 32, 3), np.uint8)
laid_over = drawing.overlays(picture[None], drawing.heatmaps(np.ones((1, 1, 7, 7)), (32, 32)))
drawing.tile(picture, laid_over[0], title="a", captions=[("b", "1")])
drawing.figure(picture[None], laid_over, titles=[["b"]], picture_titles=["a"])
loaded |= {"keras", "tensorflow", "jax", "mlflow", "matplotlib.pyplot"} & set(sys.modules)
print(sorted(loaded))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(drawing.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# maps of any rank


def test_maps_of_any_rank_are_resized() -> None:
    """Each axis is interpolated by itself, at half-pixel centres: worked by hand for one and three axes."""
    line = drawing.resize_maps(np.array([[0.0, 1.0], [3.0, 3.0]]), (4,))
    np.testing.assert_array_equal(line, np.array([[0, 0.25, 0.75, 1], [3, 3, 3, 3]], np.float32))

    volume = np.arange(8.0).reshape(2, 2, 2)  # 4z + 2y + x
    z, y, x = np.ix_([0, 0.25, 0.75, 1], [0, 0.25, 0.75, 1], [0, 1])
    np.testing.assert_allclose(drawing.resize_maps(volume[None, None], (4, 4, 2))[0, 0], 4 * z + 2 * y + x)


@pytest.mark.parametrize(("grid", "size"), [((7, 7), (224, 224)), ((5, 40), (33, 10)), ((6, 8), (6, 50))])
def test_maps_of_two_axes_are_those_of_pillow(grid: tuple[int, int], size: tuple[int, int]) -> None:
    """A map (h, w) has, to the last bit, the values of Pillow's bilinear filter on the whole picture."""
    maps = random_maps(2, *grid)
    expected = [Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR) for one in maps]
    np.testing.assert_array_equal(drawing.resize_maps(maps, size), np.stack(expected))


def test_resized_maps_are_nobody_elses() -> None:
    """Maps that have the size already come back as a copy, and no maps as no maps of that size."""
    maps = random_maps(2, 3, 7)
    drawing.resize_maps(maps, (7,))[...] = -1
    assert (maps >= 0).all()
    assert drawing.resize_maps(maps[:0], (9,)).shape == (0, 3, 9)


@pytest.mark.parametrize(("shape", "size"), [((4, 4), (2, 2, 2)), ((4, 0), (2,)), ((4, 4), ()), ((4, 4, 4), (2, 0, 2))])
def test_a_size_of_another_rank_is_refused(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    """A size with more axes than the maps, with none, or with an empty one is refused in words."""
    with pytest.raises(ValueError, match="Expected"):
        drawing.resize_maps(np.zeros(shape), size)


# heat on the pictures of signals and volumes


@pytest.mark.parametrize("spike", [1, 3, 6])
def test_a_spike_in_time_lands_on_its_columns(spike: int) -> None:
    """A spike at step i of 8 is a band around (i + 0.5) / 8 of the width, the same at every height."""
    maps = np.zeros((1, 1, 8), np.float32)
    maps[0, 0, spike] = 5
    heat = drawing.heatmaps(maps, (20, 384))
    assert heat.shape == (1, 1, 20, 384)
    # 48 columns a step: linear from 1 at the step's middle to 0 at that of its neighbours.
    columns = np.arange(384) + 0.5
    middle = (spike + 0.5) * 48
    expected = np.maximum(0, 1 - np.abs(columns - middle) / 48)
    np.testing.assert_allclose(heat[0, 0], np.tile(expected / expected.max(), (20, 1)), atol=1e-6)
    assert columns @ heat[0, 0, 7] / heat[0, 0, 7].sum() == pytest.approx(middle, abs=1e-3)


def test_a_spike_in_space_lights_its_place_on_its_slice() -> None:
    """A spike at (z, y, x) is hot around the middle of its voxel on slice z, and other slices stay cold."""
    maps = np.zeros((1, 1, 4, 4, 5), np.float32)
    maps[0, 0, 2, 1, 3] = 0.5
    heat = drawing.heatmaps(maps, (80, 100), slices=4)[0, 0]  # 2 rows of 2 slices of 40x50
    top, bottom, left, right = box(heat > 0)
    # Slice 2 begins row 1. Voxels are 10x10, and the heat reaches to the middle of the next.
    assert (top, bottom, left, right) == (40 + 5, 40 + 25, 25, 45)
    total = heat.sum(dtype=float)
    assert (np.arange(80) + 0.5) @ heat.sum(1, dtype=float) / total == pytest.approx(40 + 15, abs=1e-3)
    assert heat.sum(0, dtype=float) @ (np.arange(100) + 0.5) / total == pytest.approx(35, abs=1e-3)
    assert heat.max() == 1


def test_a_shallow_map_is_interpolated_between_slices() -> None:
    """Evidence at the first of 2 depths is 1, 3/4, 1/4 and 0 on 4 slices, row by row."""
    maps = np.zeros((1, 1, 2, 1, 1), np.float32)
    maps[0, 0, 0] = 7
    heat = drawing.heatmaps(maps, (4, 6), slices=4)[0, 0]
    np.testing.assert_allclose(heat, np.kron([[1, 0.75], [0.25, 0]], np.ones((2, 3))), atol=1e-7)


def test_a_deep_map_loses_no_evidence() -> None:
    """One hot slice of 32 is on the mosaic of 16: half as hot there, about the slice that it falls on."""
    maps = np.zeros((1, 2, 32, 1, 1), np.float32)
    maps[0, 0, 11] = 1
    maps[0, 1] = 1
    heat = drawing.heatmaps(maps, (4, 4), slices=16, scale="shared")[0, 0].ravel()
    # Triangle over 4 slices: weights 1/8, 3/8, 3/8, 1/8, and 11 is an inner one of 5, an outer one of 6.
    np.testing.assert_allclose(heat[4:8], [0, 3 / 8, 1 / 8, 0], atol=1e-6)
    assert heat.sum() == pytest.approx(0.5)


def test_cells_without_a_slice_are_cold() -> None:
    """A mosaic of 5 slices is 2 rows of 3, and its sixth cell has no heat even under a flat map."""
    heat = drawing.heatmaps(np.ones((1, 1, 3, 2, 2)), (20, 30), slices=5)[0, 0]
    np.testing.assert_array_equal(heat, np.kron([[1, 1, 1], [1, 1, 0]], np.ones((10, 10))))


@pytest.mark.parametrize(("grid", "slices"), [((9,), None), ((5, 4), None), ((3, 5, 4), 7)])
def test_scales_mean_the_same_for_every_rank(grid: tuple[int, ...], slices: int | None) -> None:
    """Each map reaches 1, or a quarter of the evidence is a quarter of the heat; no evidence stays zero."""
    one = random_maps(*grid)
    maps = np.stack([one, one / 4, 0 * one, np.full(grid, np.nan)])[:, None]
    each = drawing.heatmaps(maps, (30, 60), slices=slices)
    shared = drawing.heatmaps(maps, (30, 60), slices=slices, scale="shared")
    assert each.dtype == shared.dtype == np.float32
    assert each.shape == shared.shape == (4, 1, 30, 60)
    np.testing.assert_allclose(each.max(axis=(1, 2, 3)), [1, 1, 0, 0])
    np.testing.assert_allclose(shared.max(axis=(1, 2, 3)), [1, 0.25, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(each[1], each[0], rtol=1e-6)
    np.testing.assert_allclose(shared[0], each[0])
    assert min(each.min(), shared.min()) >= 0


def test_heat_says_what_does_not_fit_a_mosaic() -> None:
    """Volumes without `slices`, others with it, and pictures that are no such mosaic are refused in words."""
    with pytest.raises(ValueError, match="slices=slice_count"):
        drawing.heatmaps(np.ones((1, 1, 2, 2, 2)), (4, 4))
    with pytest.raises(ValueError, match="slices=3 and maps of shape"):
        drawing.heatmaps(np.ones((1, 1, 2, 2)), (4, 4), slices=3)
    with pytest.raises(ValueError, match=r"5 slices, 2 rows of 3.*\(20, 31\)"):
        drawing.heatmaps(np.ones((1, 1, 2, 2, 2)), (20, 31), slices=5)
    with pytest.raises(ValueError, match=r"Expected maps >= 0"):
        drawing.heatmaps(-np.ones((1, 1, 9)), (20, 30))


# signal_pictures


def ink(picture: np.ndarray) -> np.ndarray:
    """(H, W) how dark each pixel is: 0 on white, 1 where it is black."""
    return 1 - picture.min(axis=-1) / 255


def level(picture: np.ndarray) -> float:
    """The height of what is drawn, in pixels from the top."""
    darkness = ink(picture).sum(axis=1)
    return float((np.arange(len(darkness)) + 0.5) @ darkness / darkness.sum())


@pytest.mark.parametrize("length", [9, 100, 1000, 5000])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_peak_stands_where_its_heat_does(length: int, share: float) -> None:
    """Sample i of L is drawn at (i + 0.5) / L of the width, which is where the heat of i has its middle."""
    sample = int(share * length)
    signals = np.zeros((1, length, 1))
    signals[0, sample] = 1
    picture = drawing.signal_pictures(signals)[0]
    assert picture.dtype == np.uint8
    assert picture.shape == (160, 384, 3)
    peak = ink(picture)[:25].sum(axis=0)
    found = (np.arange(384) + 0.5) @ peak / peak.sum()
    assert found == pytest.approx((sample + 0.5) / length * 384, abs=0.6)
    if length < 384:
        # A map as fine as the signal: the heat of that sample alone.
        heat = drawing.heatmaps(np.moveaxis(signals, 1, 2), (160, 384))[0, 0, 0]
        assert found == pytest.approx((np.arange(384) + 0.5) @ heat / heat.sum(), abs=0.6)


def test_a_curve_spans_the_width() -> None:
    """A long signal has ink in every column, from the first to the last."""
    wave = np.sin(np.linspace(0, 20, 1000))[None, :, None]
    assert (ink(drawing.signal_pictures(wave)[0]).max(axis=0) > 0.5).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
@pytest.mark.parametrize("length", [1, 300])
def test_a_constant_signal_is_drawn_in_the_middle(value: float, length: int) -> None:
    """Where nothing varies the curve is a level line at half the height, whatever its value."""
    picture = drawing.signal_pictures(np.full((2, length, 1), value, np.float32))[1]
    rows = np.flatnonzero(ink(picture).any(axis=1))
    assert len(rows) <= (3 if length > 1 else 6)
    assert level(picture) == pytest.approx(80, abs=0.5)


def test_the_set_shares_one_scale() -> None:
    """The lowest value of the set is low, the highest high, and a signal half-way between lies half-way."""
    signals = np.stack([np.full((50, 1), value) for value in (2, 3, 4)])
    low, middle, high = (level(picture) for picture in drawing.signal_pictures(signals))
    # 8 % of 160 pixels are free above and below.
    assert low == pytest.approx(0.92 * 160, abs=0.5)
    assert middle == pytest.approx(80, abs=0.5)
    assert high == pytest.approx(0.08 * 160, abs=0.5)


def test_zero_is_marked_where_the_values_reach_it() -> None:
    """A thin grey line runs along zero through every picture of a set that reaches it, and of no other."""

    def grey_rows(signals: np.ndarray) -> np.ndarray:
        picture = drawing.signal_pictures(signals)[0]
        return np.flatnonzero((picture == picture[:, :1]).all(axis=(1, 2)) & (picture[:, 0] != 255).any(axis=1))

    ends = np.array([[-1.0, 3.0], [-1.0, -1.0]])
    signals = np.repeat(ends, 100, axis=1)[1:, :, None]
    both = np.concatenate([signals, np.full((1, 200, 1), 3.0)])
    curve = grey_rows(both + 5)
    line = np.setdiff1d(grey_rows(both), curve)
    # Zero is a quarter of the way from -1 to 3.
    assert len(line) == 1
    assert line[0] + 0.5 == pytest.approx(160 * (0.92 - 0.84 / 4), abs=0.75)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_each_channel_has_a_dark_colour_of_its_own(channels: int) -> None:
    """Up to six channels are as many colours, each dark enough to be seen on white and under heat."""
    signals = np.repeat(np.arange(1.0, channels + 1)[None, None], 200, axis=1)
    picture = drawing.signal_pictures(signals)[0].reshape(-1, 3)
    colours, counts = np.unique(picture, axis=0, return_counts=True)
    # The smooth edges of a line are mixed with white: one part in four lifts every value to 64 or more.
    lines = {tuple(rgb) for rgb in colours[(counts >= 300) & (colours.min(axis=1) < 64)].tolist()}
    assert len(lines) == channels
    assert all(0.299 * r + 0.587 * g + 0.114 * b < 100 for r, g, b in lines)


def test_many_channels_are_drawn_thin() -> None:
    """Seven curves are thinner than six, and past 24 channels the first 24 are drawn."""

    def darkness(channels: int) -> float:
        signals = np.zeros((1, 100, channels))
        signals[..., 0] = 1
        return float(ink(drawing.signal_pictures(signals)[0])[:25].sum())

    assert darkness(7) < 0.6 * darkness(6)
    many = np.random.default_rng(0).normal(size=(1, 80, 40))
    np.testing.assert_array_equal(drawing.signal_pictures(many), drawing.signal_pictures(many[..., :24]))


def test_a_long_recording_keeps_its_extremes() -> None:
    """A single sample out of 200,000 that stands out is still drawn."""
    signals = np.zeros((1, 200_000, 1), np.float32)
    signals[0, 123_456] = 1
    columns = np.flatnonzero(ink(drawing.signal_pictures(signals)[0])[30])
    assert 1 <= len(columns) <= 3
    assert abs(columns.mean() + 0.5 - 123_456.5 / 200_000 * 384) < 1


# volume_pictures


@pytest.mark.parametrize(
    ("depth", "grid", "shown"),
    [
        (1, (1, 1), [0]),
        (5, (2, 3), [0, 1, 2, 3, 4]),
        (16, (4, 4), list(range(16))),
        # 40 / 16 is 2.5 a place: places 0, 1, 2 begin at 0, 2.5 and 5, and their middles are 1.25, 3.75, 6.25.
        (40, (4, 4), [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26, 28, 31, 33, 36, 38]),
    ],
)
def test_slices_stand_row_by_row(depth: int, grid: tuple[int, int], shown: list[int]) -> None:
    """A mosaic shows up to 16 slices taken evenly, in order, and white where there is none."""
    values = np.arange(depth, dtype=np.uint8)
    volumes = np.broadcast_to(values[None, :, None, None, None], (2, depth, 12, 10, 1))
    pictures = drawing.volume_pictures(volumes)
    rows, columns = grid
    assert drawing.slice_count(depth) == len(shown)
    height, width = pictures.shape[1] // rows, pictures.shape[2] // columns
    assert pictures.shape == (2, rows * height, columns * width, 3)
    assert height % 12 == width % 10 == 0
    cells = np.array(shown + [255] * (rows * columns - len(shown)))
    expected = np.kron(cells.reshape(grid), np.ones((height, width)))
    np.testing.assert_array_equal(pictures, np.broadcast_to(expected[None, ..., None], pictures.shape))


@pytest.mark.parametrize(
    ("shape", "size"),
    [((16, 28, 28), (224, 224)), ((8, 16, 16), (240, 240)), ((4, 100, 50), (200, 100)), ((20, 64, 90), (256, 360))],
)
def test_small_slices_are_enlarged(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    """A mosaic's long side is brought to 200 pixels or more by the least whole factor; large ones stay."""
    assert drawing.volume_pictures(np.zeros((1, *shape, 1), np.uint8)).shape == (1, *size, 3)


def test_a_bright_voxel_lies_under_its_heat() -> None:
    """The centre of a voxel that stands out is on the picture where the map's spike is, to the pixel."""
    volumes = np.zeros((1, 6, 8, 8, 1), np.float32)
    volumes[0, 4, 2, 5] = 1
    picture = drawing.volume_pictures(volumes)[0, ..., 0].astype(float)
    columns = picture.shape[1] // 3
    picture[picture.shape[0] // 2 * 2 :] = 0
    heat = drawing.heatmaps(np.moveaxis(volumes, -1, 1), picture.shape, slices=6)[0, 0].astype(float)
    for axis in (0, 1):
        middle = np.arange(picture.shape[axis]) + 0.5
        shown, hot = (values.sum(1 - axis) @ middle / values.sum() for values in (picture, heat))
        assert shown == pytest.approx(hot, abs=0.2)
    # Slice 4 is the middle one of row 1; its voxels are columns / 8 pixels wide.
    assert hot == pytest.approx(columns + 5.5 * columns / 8, abs=1e-3)


def test_numbers_are_scaled_once_for_the_set() -> None:
    """Floats go from black at the set's lowest to white at its highest; uint8 is taken as it is."""
    volumes = np.array([-1.0, 0.0, 3.0]).reshape(3, 1, 1, 1, 1) * np.ones((1, 1, 200, 4, 1))
    assert [np.unique(picture).tolist() for picture in drawing.volume_pictures(volumes)] == [[0], [64], [255]]
    assert not drawing.volume_pictures(np.full((1, 1, 200, 4, 1), 7.5)).any()
    grey = np.full((1, 1, 200, 4, 1), 90, np.uint8)
    assert (drawing.volume_pictures(grey) == 90).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_three_channels_are_colours(channels: int) -> None:
    """Three channels are red, green and blue; of any other number the first is shown in grey."""
    volumes = np.random.default_rng(0).integers(0, 256, (1, 1, 200, 30, channels), np.uint8)
    expected = volumes[0] if channels == 3 else np.repeat(volumes[0, ..., :1], 3, axis=-1)
    np.testing.assert_array_equal(drawing.volume_pictures(volumes), expected)


@pytest.mark.parametrize("draw", [drawing.signal_pictures, drawing.volume_pictures])
def test_probes_that_cannot_be_drawn_are_refused(draw: object) -> None:
    """Another rank, an empty axis, words or a NaN are refused with what was expected."""
    assert callable(draw)
    rank = 3 if draw is drawing.signal_pictures else 5
    for bad in (np.ones((2,) * 4), np.ones((2,) * (rank - 1) + (0,)), np.full((2,) * rank, "a")):
        with pytest.raises(ValueError, match=r"Expected (signals|volumes) of"):
            draw(bad)
    with pytest.raises(ValueError, match="finite"):
        draw(np.full((2,) * rank, np.nan))


def test_probes_are_left_as_found() -> None:
    """Neither the probes nor the maps change, and read-only ones are taken."""
    signals, volumes, maps = random_maps(2, 50, 2), random_maps(1, 5, 8, 8, 1), random_maps(1, 1, 3, 4, 4)
    before = [array.copy() for array in (signals, volumes, maps)]
    for array in (signals, volumes, maps):
        array.flags.writeable = False
    drawing.signal_pictures(signals)
    size = drawing.volume_pictures(volumes).shape[1:3]
    drawing.heatmaps(maps, size, slices=5)
    for array, was in zip((signals, volumes, maps), before, strict=True):
        np.testing.assert_array_equal(array, was)

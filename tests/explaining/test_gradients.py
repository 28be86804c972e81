"""On request an explanation keeps what its maps are made of, and says whether the gradients are well."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image
from support.engines import gradient
from support.models import counting_model, pictures, small_model

from gradcam_callbacks import Explainer, Explanation, GradCAMError, ProbeSet, explain
from gradcam_callbacks.explaining import explainer
from gradcam_callbacks.explaining.gradients import EXPLODING, VANISHING, summary_of_gradients


def third(outputs: Any) -> Any:
    """The score of class 2."""
    return outputs[:, 2]


TARGETS = [0, third, (2, 3), "predicted"]


def deep_model() -> keras.Model:
    """The gradient at "middle" differs from place to place."""
    convolutions = [layers.Conv2D(4, 3, activation="relu", name="middle"), layers.Conv2D(6, 3, activation="relu")]
    head = layers.Dense(4, activation="softmax")
    return keras.Sequential([keras.Input((16, 16, 3)), *convolutions, layers.Flatten(), head])


def eagerly(model: keras.Model, layer: str, images: Any, target: Any) -> tuple[Any, Any]:
    """The activations of a layer of a Sequential model, and the gradients of a target, differentiated by hand."""
    names = [one.name for one in model.layers]
    before, after = model.layers[: names.index(layer) + 1], model.layers[names.index(layer) + 1 :]
    x = ops.convert_to_tensor(images)
    for one in before:
        x = one(x)

    def score(y: Any) -> Any:
        for one in after[:-1]:
            y = one(y)
        logits = y @ after[-1].kernel + after[-1].bias
        if callable(target):
            return target(logits)
        if isinstance(target, tuple):
            return logits[:, target[0]] - logits[:, target[1]]
        return ops.max(logits, axis=1) if target == "predicted" else logits[:, target]

    return np.asarray(x), np.asarray(gradient(score, x))


def test_they_are_those_of_the_layers_one_by_one() -> None:
    """Activations, and for each target the gradients and their means, as the layers one by one give them."""
    model = deep_model()
    explanation = explain(model, pictures(), targets=TARGETS, layer="middle", keep_gradients=True)
    assert explanation.activations is not None
    assert explanation.gradients is not None
    for k, target in enumerate(TARGETS):
        activations, gradients = eagerly(model, "middle", pictures(), target)
        np.testing.assert_allclose(explanation.activations, activations, atol=1e-6)
        np.testing.assert_allclose(explanation.gradients[:, k], gradients, atol=1e-6)
        np.testing.assert_allclose(explanation.weights[:, k], gradients.mean(axis=(1, 2)), atol=1e-7)
        expected = np.maximum(np.einsum("nhwc,nc->nhw", activations, explanation.weights[:, k]), 0)
        np.testing.assert_allclose(explanation.maps[:, k], expected, atol=1e-6)


def test_one_gradient_for_the_whole_grid_is_in_memory_once() -> None:
    """Before a global pooling the gradient is the head's kernel over the number of places, at each place."""
    model = small_model()
    explanation = explain(model, pictures(), targets=[2, (0, 1)], keep_gradients=True)
    kernel = model.get_layer("head").kernel.numpy()
    assert explanation.gradients is not None
    assert explanation.gradients.shape == (5, 2, 14, 14, 6)
    assert explanation.gradients.strides[2:4] == (0, 0)
    expected = np.stack([kernel[:, 2], kernel[:, 0] - kernel[:, 1]]) / 196
    np.testing.assert_allclose(explanation.gradients, np.broadcast_to(expected[:, None, None], (5, 2, 14, 14, 6)))


def test_it_is_the_same_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass gives all, the maps are those without, and split for the memory it is the same."""
    model, counting = counting_model()
    asking = Explainer(model)
    plain = asking(ProbeSet(pictures(), targets=TARGETS))
    assert plain.gradients is plain.activations is plain.weights is None
    counting.passes.clear()
    kept = asking(ProbeSet(pictures(), targets=TARGETS), keep_gradients=True)
    assert counting.passes == [5]
    np.testing.assert_array_equal(kept.maps, plain.maps)
    monkeypatch.setattr(explainer, "_FLOATS_AT_ONCE", 500)
    split = asking(ProbeSet(pictures(), targets=TARGETS), keep_gradients=True)
    for name in ("maps", "activations", "gradients", "scores"):
        np.testing.assert_allclose(getattr(split, name), getattr(kept, name), atol=1e-6)


def test_the_callback_and_others_keep_nothing() -> None:
    """Without being asked, neither activations nor gradients leave the graph."""
    capture = Explainer(deep_model(), layer="middle").prepare(pictures(2))
    found = capture(pictures(2), np.array([[[0, -1]]] * 2, np.int32))
    assert not found.keys() & {"activations", "gradients"}


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("kind", ["signal", "volume", "half precision"])
def test_other_grids_and_numbers(kind: str) -> None:
    """A signal has a grid of one side and a volume one of three; half precision is kept as float32."""
    shape, convolution, pooling = {
        "signal": ((12, 2), layers.Conv1D, layers.GlobalAveragePooling1D),
        "volume": ((5, 6, 7, 1), layers.Conv3D, layers.GlobalAveragePooling3D),
        "half precision": ((8, 8, 3), layers.Conv2D, layers.GlobalAveragePooling2D),
    }[kind]
    policy = "mixed_float16" if kind == "half precision" else "float32"
    grid = tuple(side - 2 for side in shape[:-1])
    x = inputs = keras.Input(shape)
    x = convolution(4, 3, activation="relu", name="conv", dtype=policy)(x)
    x = layers.Dense(3, dtype=policy)(pooling(dtype=policy)(x))
    model = keras.Model(inputs, x)
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    explanation = explain(model, images, targets=[0, 2], keep_gradients=True)
    assert explanation.activations is not None
    assert explanation.gradients is not None
    assert explanation.activations.shape == (2, *grid, 4)
    assert explanation.gradients.shape == (2, 2, *grid, 4)
    assert explanation.activations.dtype == explanation.gradients.dtype == np.float32
    summed = np.einsum("n...c,nkc->nk...", explanation.activations, explanation.weights)
    np.testing.assert_allclose(explanation.maps, np.maximum(summed, 0), rtol=1e-3, atol=1e-5)
    assert len(explanation.plot_gradients(1, 1).png()) > 10_000


def test_pictures_that_touch_have_each_their_own() -> None:
    """Where the mean of the batch is taken off, a gradient is that of its own picture's score."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.ops.relu(x - keras.ops.mean(x, axis=0, keepdims=True))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    explanation = Explainer(model, layer="conv")(ProbeSet(pictures(3), targets=[0, 1]), keep_gradients=True)
    activations = model.get_layer("conv")(pictures(3))
    for n in range(3):

        def score(given: Any, n: int = n) -> Any:
            x = ops.relu(given - ops.mean(given, axis=0, keepdims=True))
            return (ops.reshape(x, (3, -1)) @ model.layers[-1].kernel)[n, 1]

        expected = gradient(score, activations)[n]
        np.testing.assert_allclose(explanation.gradients[n, 1], expected, atol=1e-5)


def test_too_much_to_keep_is_refused_before_any_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how much that would be, and how many pictures fit."""
    model, counting = counting_model()
    asking = Explainer(model)
    one = 14 * 14 * 6 + 2 * 6  # its activations, and the two gradients of each channel
    monkeypatch.setattr(explainer, "_FLOATS_KEPT", 3 * one)
    assert asking(ProbeSet(pictures(3), targets=[0, 1]), keep_gradients=True).gradients is not None
    counting.passes.clear()
    with pytest.raises(GradCAMError, match=r"of 5 pictures x 2 targets at layer 'conv' .* at most 3 pictures at once"):
        asking(ProbeSet(pictures(), targets=[0, 1]), keep_gradients=True)
    assert counting.passes == []
    monkeypatch.setattr(explainer, "_FLOATS_KEPT", one - 1)
    with pytest.raises(GradCAMError, match="Explain fewer targets at once, or choose a later layer"):
        asking(ProbeSet(pictures(1), targets=[0, 1]), keep_gradients=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"layer": ["middle", "conv2d"]}, "kept of one layer, and here 2 are fused.*layer='"),
        ({"method": "scorecam"}, "takes no gradients"),
        ({"smooth": 2}, "mean of 2 has no gradients of its own"),
    ],
)
def test_where_there_are_none_it_says_so(settings: dict[str, Any], says: str) -> None:
    """Of fused layers, of methods that take none, and of smoothed maps."""
    model = deep_model()
    settings = {
        name: [model.layers[0].name, model.layers[1].name] if name == "layer" else value
        for name, value in settings.items()
    }
    with pytest.raises(GradCAMError, match=says):
        explain(model, pictures(2), keep_gradients=True, **settings)


def test_a_figure_needs_them() -> None:
    """Without being kept there is nothing to draw, and the message says how to."""
    explanation = explain(small_model(), pictures(2))
    for ask in (explanation.plot_gradients, explanation.gradient_summary):
        with pytest.raises(GradCAMError, match=r"were not kept.*keep_gradients=True"):
            ask()
    with pytest.raises(GradCAMError, match="At least 1 channel"):
        explain(small_model(), pictures(2), keep_gradients=True).plot_gradients(channels=0)


# what they say


def test_gradients_that_are_well_are_said_so() -> None:
    """What speaks for the score is 1 * 2 + 3 * 1 = 5, and against it 4 * 0.5 = 2; one of four gradients is zero."""
    activations, gradients = np.array([[1.0, 4.0], [3.0, 7.0]]), np.array([[2.0, -0.5], [1.0, 0.0]])
    said = summary_of_gradients(activations, gradients)
    assert said == (
        "The gradients are well: the layer speaks for the score with +5 and against it with −2; 25% of them are zero."
    )


@pytest.mark.parametrize(
    ("activation", "gradient", "says"),
    [
        (1.0, 0.0, "All 12 gradients are zero"),
        (0.0, 1.0, "All 12 activations are zero"),
        (1.0, VANISHING / 13, "The gradients vanish: the largest is 7.7e-05"),
        (1.0, VANISHING / 11, "The gradients are well"),
        (1.0, EXPLODING / 11, "The gradients explode"),
        (1.0, EXPLODING / 13, "The gradients are well"),
        (1e30, 1e30, "The gradients explode"),
        (1.0, np.nan, "12 of 12 gradients are NaN or infinite"),
    ],
)
def test_vanishing_and_exploding_gradients_are_said_so(activation: float, gradient: float, says: str) -> None:
    """Each state has its own sentence, by what all twelve bring the score."""
    shape = (3, 2, 2)
    said = summary_of_gradients(np.full(shape, activation, np.float32), np.full(shape, gradient, np.float32))
    assert said.startswith(says)


def broken(scale: float) -> Explanation:
    """Of a network whose head is multiplied."""
    model = small_model()
    head = model.get_layer("head")
    head.kernel.assign(head.kernel * scale)
    return explain(model, pictures(2), targets=[1], keep_gradients=True)


@pytest.mark.parametrize(
    ("scale", "says"), [(1, "are well"), (0, "are zero"), (1e-6, "vanish"), (1e7, "explode"), (np.nan, "are NaN")]
)
def test_a_figure_of_any_network(scale: float, says: str) -> None:
    """It is drawn also where gradients are zero, tiny, huge or NaN, and says which."""
    explanation = broken(scale)
    figure = explanation.plot_gradients(1)
    assert says in explanation.gradient_summary(1)
    assert explanation.gradient_summary(1)[:20] in figure.get_suptitle()
    drawn = np.asarray(Image.open(io.BytesIO(figure.png())).convert("L"))
    assert drawn.std() > 10


def test_the_channels_drawn_are_those_that_decide() -> None:
    """Of six channels those that speak for and against the target, the strongest first, with their sums."""
    model = small_model()
    explanation = explain(model, pictures(2), targets=[1], keep_gradients=True)
    figure = explanation.plot_gradients(0, 0, channels=2)
    activations = np.asarray(model.get_layer("conv")(pictures(2)))
    brought = activations[0].mean(axis=(0, 1)) * model.get_layer("head").kernel.numpy()[:, 1]
    order = np.argsort(-brought)
    expected = [c for c in order[:2] if brought[c] > 0] + [c for c in order[::-1][:2] if brought[c] < 0]
    titles = [ax.get_title() for ax in figure.get_axes()]
    drawn = [title for title in titles if ":  " in title]
    assert drawn == [f"{c}:  {brought[c]:+.3g}".replace("-", "−") for c in expected]

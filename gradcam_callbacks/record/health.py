"""The states that a map can be in."""

from __future__ import annotations

from collections.abc import Mapping

HEALTH: Mapping[str, str] = {
    "ok": "Some places of the map speak for the target more than others.",
    "empty": "Nothing in this layer speaks for the target: every place speaks against it or not at all. Common while "
    "the network is untrained or sure of another class; look at the probability, ask for a contrast (a, b), or try "
    "the method hirescam.",
    "flat": "Every place of the map counts the same, so it says nothing about where. The layer's output does not "
    "depend on the picture: dead or constant activations, or a layer too close to the pooling; try an earlier layer.",
    "zero-gradient": "The score does not react to this layer at all. Its weights on the way to the score are zero, a "
    "ReLU after it is dead, or a probability is explained that is saturated; try an earlier layer, and check the "
    "learning rate.",
    "non-finite": "The score or the map is NaN or infinite, so the map was set to zero. The weights or the input have "
    "diverged: lower the learning rate, clip the gradients, or keep the last layers in float32.",
}
"""Each state with what it means and, but for "ok", what to try. Records and pages keep this order."""

HEALTHS = tuple(HEALTH)
"""The names of the states."""

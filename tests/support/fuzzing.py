"""Any bytes, and whole files that were changed: how many are tried, and how they are made.

Seconds by default, with the same examples each time. More of them, and others each time, for an hour or so:
`GRADCAM_FUZZ_EXAMPLES=20000 pytest -n 2 -m hypothesis`.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_asked = os.environ.get("GRADCAM_FUZZ_EXAMPLES")

fuzzed = settings(
    max_examples=int(_asked or 60),
    derandomize=_asked is None,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)
"""Decorates a test of hypothesis."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Any bytes, or a whole file with some bytes changed, put in, taken out, or cut off."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 2, 4, 30]))
        content[place : place + length] = draw(st.binary(max_size=8))
    return bytes(content[: draw(st.sampled_from([len(content), len(content), len(content) // 2]))])

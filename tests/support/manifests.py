"""Manifests made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.record.manifest import Manifest


def a_manifest(names: Sequence[str] = ("cat", "dog"), targets: Sequence[str] = ("tabby",), **others: Any) -> Manifest:
    """A manifest of these probes and targets; everything else is as `Manifest` has it, or as it is given."""
    settings: dict[str, Any] = {"probes": "a" * 64, "layer": "conv", "method": "gradcam"} | others
    return Manifest(
        names=tuple(names),
        targets=tuple(targets),
        probe_slugs=slugs(names),
        target_slugs=slugs(targets),
        **settings,
    )

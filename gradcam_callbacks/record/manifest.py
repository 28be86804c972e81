"""Manifest: what decides and describes the maps of a record."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import io
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from gradcam_callbacks.arrays import Array

FORMAT = 1
DECIDING = ("probes", "layer", "method", "output")
"""What of a manifest decides the maps: steps of one journal, or one run, have all of it in common."""
DESCRIBING = ("layer", "method", "output", "score_kind", "probes", "version")
"""What of a manifest is a tag of the run too."""


def read_manifest(folder: Path, name: str | Path) -> dict[str, Any]:
    """The manifest of the journal in a folder; `name` is what errors call it."""
    content = (folder / "manifest.json").read_bytes()
    try:
        manifest = json.loads(content)
        if not isinstance(manifest, dict) or "format" not in manifest:
            raise ValueError("it is not a journal's")
    except ValueError as error:
        raise ValueError(
            f"The manifest.json of journal '{name}' is damaged: {error}. Restore it, or choose another journal_dir."
        ) from error
    if manifest["format"] != FORMAT:
        raise ValueError(f"Journal '{name}' has format {manifest['format']}; this version reads {FORMAT}.")
    return manifest


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What decides the maps and is not the same in two manifests, in words; "" if nothing."""
    digits = {"probes": 8}  # of the digest, enough to tell two apart
    pairs = [
        (key, *(str(manifest.get(key) or "")[: digits.get(key)] for manifest in (before, now))) for key in DECIDING
    ]
    return "; ".join(
        f"{key} {then or 'not named'}, now it is {new or 'not named'}" for key, then, new in pairs if then != new
    )


def refusal(directory: str | Path, different: str) -> str:
    """The error where a journal holds other maps."""
    return f"Journal '{directory}' was made with {different}. Choose another journal_dir, or another run."


def versions() -> dict[str, str]:
    """The versions of Python and of what is installed, without importing it."""
    found = {"python": platform.python_version()}
    for name in ("gradcam_callbacks", "keras", "tensorflow", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def encode_picture(picture: Array) -> str:
    """A picture as a base64 PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()

"""The parts of a run: maps that cannot be compared with each other are records of their own, in one folder.

Part 1 is the folder itself. Part n is its folder `parts/<n>`, on disk as in the artifacts of the run. Steps go on over
all parts of a run, so that each number is there once; the baselines alone have the same, -1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import DECIDING, Manifest, differences


def part_folder(folder: Path, part: int) -> Path:
    """Where a part lies.

    Args:
        folder: of the run.
        part: its number, from 1.
    """
    return folder if part == 1 else folder / "parts" / str(part)


def run_folder(folder: Path) -> Path:
    """The folder of the run that a part lies in; the folder itself where it is none of a later part."""
    is_part = folder.absolute().parent.name == "parts" and re.fullmatch("[1-9][0-9]*", folder.absolute().name)
    return folder.absolute().parents[1] if is_part else folder


def journals_in(folder: str | Path) -> dict[int, Journal]:
    """The journals of all parts in the folder of a run, by their numbers; none where there is no manifest.

    Raises:
        GradCAMError: if one is damaged.
        OSError: if one cannot be read.
    """
    folder = Path(folder)
    later = (folder / "parts").iterdir() if (folder / "parts").is_dir() else ()
    numbered = sorted((path for path in later if re.fullmatch("[1-9][0-9]{0,5}", path.name)), key=lambda p: int(p.name))
    journals = [Journal(path) for path in (folder, *numbered) if (path / "manifest.json").is_file()]
    return dict(sorted({journal.manifest.part: journal for journal in journals}.items()))


def part_of(manifest: Manifest, parts: Mapping[int, Mapping[str, str | None] | Manifest]) -> int | None:
    """The part that holds maps of the same kind; None where there is none.

    Args:
        manifest: of the maps.
        parts: of each what decides its maps; see `differences`.
    """
    return next((number for number, before in sorted(parts.items()) if not differences(before, manifest)), None)


def decided(manifest: Manifest) -> dict[str, str | None]:
    """What decides the maps of a record, by the names in `DECIDING`, and the engine."""
    return {name: getattr(manifest, name) for name in (*DECIDING, "engine")}

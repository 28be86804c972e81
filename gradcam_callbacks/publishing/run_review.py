"""The review of a run: its page, its strip and its verdict, made from the journals of its parts, and nothing else.

It is made in the process that draws where there is one, so that the training has its interpreter for itself.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from gradcam_callbacks.arrays import Array
from gradcam_callbacks.errors import GradCAMError
from gradcam_callbacks.publishing.cards import Cards
from gradcam_callbacks.publishing.store import Review
from gradcam_callbacks.publishing.strip import strip
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import parts
from gradcam_callbacks.reviewing.report import build, read_steps

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reviewed:
    """What was made of the journals.

    Attributes:
        review: what the store gets.
        cards: which probes have cards now.
        chosen: those that were chosen with this review.
    """

    review: Review
    cards: Cards
    chosen: list[int]


def review(journals: Sequence[Journal], own: Journal, pictures: Array, name: str, cards: Cards) -> Reviewed:
    """The page of the parts that have the probes of one of them, and the verdict on all parts.

    Args:
        journals: of all parts of the run.
        own: whose probes the page has; one of them.
        pictures: (N, H, W, 3) uint8, of `own`.
        name: of the run.
        cards: which probes have cards; not changed.

    Raises:
        GradCAMError: if a journal is damaged, or none has a step.
    """
    cards = copy.deepcopy(cards)
    found = parts.assessed(journals)
    if not found:
        raise GradCAMError(f"Journal '{own.directory}' has no step that can be read: nothing to review.")
    verdict = parts.verdict_of(found)
    of_own = next(part.found for part in found if part.journal is own)
    chosen = cards.choose(of_own)
    page = _page(found, own.manifest.page, name)
    # Those that were assessed are counted from the first one of the part.
    steps = of_own.steps if own.manifest.part == 1 else read_steps(own)
    content = io.BytesIO()
    try:
        Image.fromarray(strip(steps, own.manifest, pictures)).save(content, "PNG")
    except Exception:  # the page arrives without it
        logger.warning("The strip of the review could not be drawn.", exc_info=True)
        return Reviewed(Review(page, None, verdict), cards, chosen)
    return Reviewed(Review(page, content.getvalue(), verdict), cards, chosen)


def _page(found: Sequence[parts.Part], page: int, name: str) -> str:
    """The page that shows the parts of one number of page.

    Args:
        found: all parts of the run.
        page: which is made.
        name: of the run.
    """
    shown = [part for part in found if part.page == page]
    elsewhere = sorted({part.page for part in found} - {page})
    return build(
        [part.journal for part in shown],
        names=[part.name or name for part in shown],
        assessments=[part.found for part in shown],
        title=name,
        notes=[f"Part {other} of the run has other probes, and a review of its own." for other in elsewhere],
    )

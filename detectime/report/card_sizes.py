"""How many cards galleries get within a budget, and how large the pictures of these cards may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectime.candidates import Indices

LEAST_SCALE = 0.5
"""Of the characters of a card: rather than smaller pictures, there are fewer cards."""


@dataclass(frozen=True)
class PictureSizes:
    """How large the pictures of a card may be.

    Attributes
    ----------
    side, crop_side
        The longer side of the frame, and of its crop, in pixels.
    characters, crop_characters
        The length of their data URIs.
    """

    side: int
    characters: int
    crop_side: int
    crop_characters: int

    @property
    def cost(self) -> int:
        """The characters of a card."""
        return self.characters + self.crop_characters

    def scale(self, scale: float) -> PictureSizes:
        """Return sizes of a share of the characters."""
        characters, crop_characters = int(scale * self.characters), int(scale * self.crop_characters)
        return PictureSizes(self.side, characters, self.crop_side, crop_characters)


# A frame of 480 pixels usually takes 12,000 characters, one of 320 pixels 6,000, and a crop 2,500.
_IN_VIEW = PictureSizes(480, 18_000, 160, 4_500)
_BEHIND = PictureSizes(320, 8_000, 128, 3_000)

CROP_ONLY = PictureSizes(0, 0, 160, 4_500)
"""Of a card that shows only its crop."""


@dataclass(frozen=True)
class CardShares:
    """What each gallery gets of a budget.

    Attributes
    ----------
    shown, more
        int64, shape (galleries,): the number of its cards in view, and behind "show more".
    in_view, behind
        The sizes of the pictures of both.
    """

    shown: Indices
    more: Indices
    in_view: PictureSizes
    behind: PictureSizes


def share_budget(totals: Sequence[int], shown: Sequence[int], more: Sequence[int], budget: int) -> CardShares:
    """Share a budget among galleries: first pictures become smaller, then there are fewer cards behind, then in view.

    Parameters
    ----------
    totals
        The number of frames of each gallery.
    shown, more
        The number of cards that each should have in view, and behind "show more".
    budget
        Characters of all data URIs.

    Examples
    --------
    >>> shares = share_budget([100, 2], [4, 4], [12, 12], 150_000)
    >>> shares.shown.tolist(), shares.more.tolist(), shares.in_view.cost
    ([4, 2], [12, 0], 12640)
    >>> share_budget([100, 2], [4, 4], [12, 12], 60_000).shown.tolist()
    [3, 2]
    """
    in_view = np.minimum(totals, shown).astype(np.int64)
    behind = np.minimum(np.asarray(totals, np.int64) - in_view, more)
    full = int(in_view.sum()) * _IN_VIEW.cost + int(behind.sum()) * _BEHIND.cost
    scale = min(1.0, max(LEAST_SCALE, budget / max(1, full)))
    large, small = _IN_VIEW.scale(scale), _BEHIND.scale(scale)
    rest = budget - int(in_view.sum()) * large.cost  # negative: not even all in view fit, and the remainder is left
    return CardShares(
        limit_counts(in_view, budget // large.cost), limit_counts(behind, max(0, rest) // small.cost), large, small
    )


def limit_counts(counts: Indices, most: int) -> Indices:
    """Lower counts until their sum is at most `most`: the largest ones first, and of equal ones the last.

    Examples
    --------
    >>> limit_counts(np.array([4, 1, 4]), 6).tolist()
    [3, 1, 2]
    """
    if counts.sum() <= most:
        return counts
    levels = np.arange(counts.max() + 1)
    sums = np.minimum(counts, levels[:, None]).sum(axis=1)
    level = int(np.searchsorted(sums, max(0, most), side="right")) - 1
    limited: Indices = np.minimum(counts, level)
    limited[np.flatnonzero(counts > level)[: max(0, most) - int(sums[level])]] += 1
    return limited

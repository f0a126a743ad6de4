"""The candidates of pairing: the faces and hands of all frames as flat arrays, and their pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.boxes import Flags
from detectime.detectors.registry import TRUSTED
from detectime.schema import CORNERS

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class FlatBoxes:
    """All faces or all hands of a table of detections, in the order of its rows.

    Attributes
    ----------
    corners
        float32, shape (N, 4): x1, y1, x2, y2 in pixels of the frame.
    scores
        float32, shape (N,).
    frame
        int32, shape (N,): the row of each box's frame, ascending.
    counts
        int32, shape (frames,): number of boxes per frame.
    detector
        int8, shape (N,): index into `detectors`.
    detectors
        Detector names, the most trusted first.
    fallback
        bool, shape (N,): whether the box was detected in the whole frame because no hand was found near a face.
    """

    corners: NDArray[np.float32]
    scores: NDArray[np.float32]
    frame: NDArray[np.int32]
    counts: NDArray[np.int32]
    detector: NDArray[np.int8]
    detectors: tuple[str, ...]
    fallback: Flags

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Candidates:
    """The faces and hands of all frames, and pairs of a face and a hand of the same frame.

    Attributes
    ----------
    faces, hands
        The boxes.
    face, hand
        int32, shape (P,): the pairs, as indices into `faces` and `hands`. They are sorted by frame, then by face, then
        by hand.
    frame
        int32, shape (P,): the row of each pair's frame.
    """

    faces: FlatBoxes
    hands: FlatBoxes
    face: NDArray[np.int32]
    hand: NDArray[np.int32]
    frame: NDArray[np.int32]

    def select(self, considered: Flags) -> Candidates:
        """Return the same boxes with only some of the pairs.

        Parameters
        ----------
        considered
            bool, shape (P,): which pairs to keep.
        """
        if considered.all():
            return self
        kept = np.flatnonzero(considered)
        return replace(self, face=self.face.take(kept), hand=self.hand.take(kept), frame=self.frame.take(kept))


def find_candidates(detections: pa.Table) -> Candidates:
    """Flatten the faces and hands of all frames, and pair each face with each hand of its frame.

    Parameters
    ----------
    detections
        With the columns `faces` and `hands` of `schema.DETECTIONS`.

    Examples
    --------
    >>> face = {"x1": 300, "y1": 200, "x2": 340, "y2": 240, "score": 0.9, "detector": "retinaface", "stage": "frame"}
    >>> candidates = find_candidates(pa.table({"faces": [[face]], "hands": [[face, face]]}))
    >>> candidates.face.tolist(), candidates.hand.tolist()
    ([0, 0], [0, 1])
    """
    faces, hands = _flatten_boxes(detections["faces"]), _flatten_boxes(detections["hands"])
    pairs = faces.counts.astype(np.int64) * hands.counts
    frame = np.repeat(np.arange(len(pairs)), pairs)
    position = np.arange(len(frame)) - np.repeat(np.cumsum(pairs) - pairs, pairs)  # of a pair within its frame
    hands_per_face = np.maximum(hands.counts[frame], 1)
    face = _find_first_boxes(faces.counts)[frame] + position // hands_per_face
    hand = _find_first_boxes(hands.counts)[frame] + position % hands_per_face
    return Candidates(faces, hands, face.astype(np.int32), hand.astype(np.int32), frame.astype(np.int32))


def _flatten_boxes(column: pa.ChunkedArray) -> FlatBoxes:
    """Flatten a column of lists of boxes."""
    lists = column.combine_chunks()
    values = lists.flatten()
    corners = [values.field(corner).to_numpy(zero_copy_only=False) for corner in CORNERS]
    counts = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int32)
    detector, detectors = _rank_detectors(values.field("detector"))
    return FlatBoxes(
        corners=np.column_stack(corners).astype(np.float32).reshape(-1, 4),
        scores=values.field("score").to_numpy(zero_copy_only=False).astype(np.float32),
        frame=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        counts=counts,
        detector=detector,
        detectors=detectors,
        fallback=pc.equal(values.field("stage"), "fallback").to_numpy(zero_copy_only=False),
    )


def _rank_detectors(names: pa.Array) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Return each name's rank by trust, and the names in that order; unlisted detectors come last, by name."""
    encoded = names.dictionary_encode()
    found: list[str] = encoded.dictionary.to_pylist()
    if not found:
        return np.empty(0, np.int8), ()
    detectors = sorted(found, key=lambda name: (TRUSTED.index(name) if name in TRUSTED else len(TRUSTED), name))
    ranks = np.array([detectors.index(name) for name in found], np.int8)
    return ranks[encoded.indices.to_numpy()], tuple(detectors)


def _find_first_boxes(counts: NDArray[np.int32]) -> Indices:
    """Return the index of each frame's first box."""
    return np.cumsum(counts, dtype=np.int64) - counts

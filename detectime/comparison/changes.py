"""What became of each frame's sample, from one outcomes table to another of the same frames: arithmetic on tables."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats, Integers
from detectime.schema import CORNERS, SAMPLES, Outcome


class Change(StrEnum):
    """What became of a frame's sample from A to B: name in tables, heading, sentence, and whether it changed."""

    heading: str
    sentence: str
    is_change: bool

    def __new__(cls, name: str, heading: str, sentence: str, is_change: bool) -> Self:
        """Create a member whose value is its name in tables."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.heading, member.sentence, member.is_change = heading, sentence, is_change
        return member

    GAINED = "gained", "Gained", "Only B has a sample of the frame.", True
    LOST = "lost", "Lost", "Only A has a sample of the frame.", True
    RELABELLED = "relabelled", "Other class", "Both have a sample, of another class.", True
    MOVED = "moved", "Moved", "Both have a sample of this class, and its crop (bbox) differs.", True
    SAME = "same", "Same", "Both have the same sample: class and crop (bbox) are equal to the pixel.", False
    OTHER_REASON = "other_reason", "Other reason", "Neither has a sample, each for another reason.", False
    SAME_WITHOUT = "same_without", "Without", "Neither has a sample, for the same reason.", False


_KINDS = tuple(Change)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}
_COLUMNS = (
    *("frame_path", "video_name", "class_name", "outcome", "content", "width", "height", "orientation"),
    *(f"{kind}_{corner}" for kind in ("hand", "bbox") for corner in CORNERS),
)
_BOX_COLUMNS = _COLUMNS[_COLUMNS.index("width") :]  # sizes, orientation, boxes
_NAMES = pd.Index([kind.value for kind in _KINDS])


def compare_samples(
    a: pd.DataFrame, b: pd.DataFrame, *, pixels_a: str = "upright", pixels_b: str = "upright"
) -> pd.DataFrame:
    """Compare two outcomes tables frame by frame; nothing is read.

    A sample that lies elsewhere in ``hands.json`` counts as moved, by however little; `iou` says how far. Where crops
    were enlarged, the IoU is still that of the hands.

    Parameters
    ----------
    a, b
        What `pairing.pair_frames` or `FinishedRun.outcomes` returned. Tables of the same frames in the same order are
        compared several times faster than others.
    pixels_a, pixels_b
        Which pixels their boxes are in: ``upright`` or ``stored`` (`detection.pixels`).

    Returns
    -------
    DataFrame
        One row per frame that is in both, in the order of `a`:

        - `frame_path`, and `video_name` in `b`;
        - `class_a`, `class_b`, `outcome_a`, `outcome_b` (text);
        - `change` (categorical), one of `Change`;
        - `iou` of the two hands (float64): NaN unless both have a sample, and where the boxes cannot be compared, since
          the frame had another shape: see `fit_boxes`;
        - `content_changed` (bool): whether the file of the frame had other bytes, or its picture another size; False
          where a table does not know the content.

    Examples
    --------
    >>> boxes = {f"{kind}_{c}": v for kind in ("hand", "bbox") for c, v in zip(("x1", "y1", "x2", "y2"), (0, 0, 9, 9))}
    >>> row = {"frame_path": "v/1.jpg", "video_name": "v", "class_name": "ok", "outcome": "paired", **boxes}
    >>> a = pd.DataFrame([row | {"content": "5-36", "width": 64, "height": 48}])
    >>> compare_samples(a, a.assign(hand_x2=6, bbox_x2=6))[["frame_path", "change", "iou"]].values.tolist()
    [['v/1.jpg', 'moved', 0.6666666666666666]]
    """
    a, b = align_frames(*(samples[[name for name in _COLUMNS if name in samples]] for samples in (a, b)))
    has_a, has_b = (samples["outcome"].isin(SAMPLES).to_numpy() for samples in (a, b))
    both = has_a & has_b
    is_same_crop, iou = _compare_boxes(a, b, both, pixels_a, pixels_b)
    same_class = _find_equal(a["class_name"], b["class_name"])
    same_outcome = _find_equal(a["outcome"], b["outcome"])
    kinds = (
        (Change.SAME_WITHOUT, ~has_a & ~has_b & same_outcome),
        (Change.OTHER_REASON, ~has_a & ~has_b & ~same_outcome),
        (Change.GAINED, has_b & ~has_a),
        (Change.LOST, has_a & ~has_b),
        (Change.RELABELLED, both & ~same_class),
        (Change.SAME, both & same_class & is_same_crop),
    )
    codes = np.full(len(a), _CODES[Change.MOVED], np.int8)
    for kind, rows in kinds:
        codes[rows] = _CODES[kind]
    columns = {
        "frame_path": a["frame_path"].array,
        "video_name": b["video_name"].array,
        "class_a": a["class_name"].array,
        "class_b": b["class_name"].array,
        "outcome_a": a["outcome"].array,
        "outcome_b": b["outcome"].array,
        "change": pd.Categorical.from_codes(codes, categories=_NAMES),
        "iou": iou,
        "content_changed": _find_changed_contents(a, b, pixels_a, pixels_b),
    }
    return pd.DataFrame(columns)


def align_frames(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of two tables whose `frame_path` is in both, in the order of the first.

    Examples
    --------
    >>> a, b = pd.DataFrame({"frame_path": ["1", "2"]}), pd.DataFrame({"frame_path": ["3", "2"]})
    >>> [part.index.tolist() for part in align_frames(a, b)]
    [[1], [1]]
    """
    if a["frame_path"].array.equals(b["frame_path"].array):
        return a, b
    rows = pd.Index(b["frame_path"]).get_indexer(pd.Index(a["frame_path"]))
    is_shared = rows >= 0
    return a[is_shared], b.iloc[rows[is_shared]]


def fit_boxes(
    corners: Floats, a: pd.DataFrame, b: pd.DataFrame, pixels_a: str = "upright", pixels_b: str = "upright"
) -> Floats:
    """Express boxes of frames of A in the pixels of the same frames of B.

    Boxes are turned where one of the two has them in pixels of frames as stored, and scaled where the frames of B have
    another size, but the same shape up to a pixel.

    Parameters
    ----------
    corners
        Shape (N, 4), one box per row of `a`; NaN where there is none.
    a, b
        Outcomes of the same frames, with `width`, `height` and, for turning, `orientation`.
    pixels_a, pixels_b
        Which pixels their boxes are in.

    Returns
    -------
    ndarray
        float64, shape (N, 4); NaN where that is impossible: the frames have other shapes, or nobody knows how one is
        turned.

    Examples
    --------
    >>> a = pd.DataFrame({"width": [640], "height": [480], "orientation": [6]})
    >>> fit_boxes(np.array([[0.0, 0, 10, 20]]), a, a.assign(width=480, height=640), "stored", "upright").tolist()
    [[460.0, 0.0, 480.0, 10.0]]
    >>> fit_boxes(np.array([[0.0, 0, 10, 20]]), a, a.assign(width=320, height=240)).tolist()
    [[0.0, 0.0, 5.0, 10.0]]
    """
    if pixels_a != pixels_b:
        corners = _turn_boxes(corners, _get_sizes(a), _find_turns(a, b, pixels_b))
    size_a, size_b = _find_sizes(a, b, pixels_a, pixels_b)
    differs = (size_a != size_b).any(axis=1)
    if not differs.any():
        return corners
    fitted = corners.copy()
    fits = _have_same_shape(size_a[differs], size_b[differs])
    fitted[differs] *= np.tile(np.where(fits[:, None], size_b[differs] / size_a[differs], np.nan), 2)
    return fitted


def count_changes(frames: pd.DataFrame) -> pd.Series:
    """Count frames by change.

    Parameters
    ----------
    frames
        What `compare_samples` returned. Frames that both tables left out are not counted.

    Returns
    -------
    Series
        int64, one element per `Change`, in its order, indexed by its name.

    Examples
    --------
    >>> frames = pd.DataFrame({"change": ["moved", "same_without"], "outcome_a": ["paired", "left_out"]})
    >>> count_changes(frames.assign(outcome_b=frames["outcome_a"])).loc[["moved", "same_without"]].to_list()
    [1, 0]
    """
    counts = frames.loc[_find_wanted(frames), "change"].value_counts()
    return counts.reindex(_NAMES, fill_value=0).astype("int64").rename("frames")


def count_classes(frames: pd.DataFrame) -> pd.DataFrame:
    """Count samples and their changes by class.

    Parameters
    ----------
    frames
        What `compare_samples` returned. Frames that both tables left out are not counted.

    Returns
    -------
    DataFrame
        Indexed by `class_name`, in the order in which the classes appear; int64. `samples_b` is `samples_a` + `gained`
        - `lost` + `relabelled_in` - `relabelled_out`: samples of `relabelled_out` have this class in A only, those of
        `relabelled_in` in B only. `moved` and `same` are those whose class did not change.

    Examples
    --------
    >>> rows = [("ok", "ok", "gained"), ("ok", "stop", "relabelled"), ("stop", "stop", "same")]
    >>> frames = pd.DataFrame(rows, columns=["class_a", "class_b", "change"])
    >>> frames = frames.assign(outcome_a="apart", outcome_b="paired")
    >>> count_classes(frames)[["samples_a", "samples_b", "gained", "relabelled_in", "relabelled_out"]].values.tolist()
    [[1, 1, 1, 0, 1], [1, 2, 0, 1, 0]]
    """
    frames = frames[_find_wanted(frames)]
    codes, classes = pd.factorize(pd.concat([frames["class_a"], frames["class_b"]], ignore_index=True))
    of_a, of_b = codes.reshape(2, -1)
    counts = {}
    for column, kind, of_side in (
        ("gained", Change.GAINED, of_b),
        ("lost", Change.LOST, of_a),
        ("moved", Change.MOVED, of_b),
        ("relabelled_in", Change.RELABELLED, of_b),
        ("relabelled_out", Change.RELABELLED, of_a),
        ("same", Change.SAME, of_b),
    ):
        rows = (frames["change"] == kind.value).to_numpy()
        counts[column] = np.bincount(of_side[rows], minlength=len(classes))
    table = pd.DataFrame(counts, index=pd.Index(classes, name="class_name"), dtype="int64")
    kept = table["moved"] + table["same"]
    table.insert(0, "samples_a", kept + table["lost"] + table["relabelled_out"])
    table.insert(1, "samples_b", kept + table["gained"] + table["relabelled_in"])
    return table


def _find_wanted(frames: pd.DataFrame) -> Flags:
    """Whether frames are wanted in one of the two."""
    left_out = Outcome.LEFT_OUT.value
    wanted: Flags = ((frames["outcome_a"] != left_out) | (frames["outcome_b"] != left_out)).to_numpy()
    return wanted


def _find_equal(a: pd.Series, b: pd.Series) -> Flags:
    """Whether texts of two columns are equal, row by row; NaN equals nothing."""
    return np.asarray(a.array == b.array, dtype=bool)


def _compare_boxes(a: pd.DataFrame, b: pd.DataFrame, both: Flags, pixels_a: str, pixels_b: str) -> tuple[Flags, Floats]:
    """Return whether crops are equal, and the IoU of the hands, NaN where a frame has no two samples."""
    if not both.all():
        a, b = (samples[list(_BOX_COLUMNS)][both] for samples in (a, b))  # without text, which takes as long again
    pixels = pixels_a, pixels_b
    crops = fit_boxes(pairing.get_boxes(a, "bbox"), a, b, *pixels)
    hands, hands_b = fit_boxes(pairing.get_boxes(a, "hand"), a, b, *pixels), pairing.get_boxes(b, "hand")
    is_same_crop, iou = np.zeros(len(both), bool), np.full(len(both), np.nan)
    is_same_crop[both] = _are_rows_equal(crops, pairing.get_boxes(b, "bbox"))
    iou[both] = np.where(np.isnan(hands[:, 0]), np.nan, boxes.compute_iou(hands, hands_b))
    return is_same_crop, iou


def _are_rows_equal(a: Floats, b: Floats) -> Flags:
    equal: Flags = np.logical_and.reduce((a == b).T)  # `all` along the short axis takes five times as long
    return equal


def _find_changed_contents(a: pd.DataFrame, b: pd.DataFrame, pixels_a: str, pixels_b: str) -> Flags:
    """Whether the bytes of frames are known to differ, or the sizes of their pictures are."""
    is_known = (a["content"].notna() & b["content"].notna().to_numpy()).to_numpy()
    size_a, size_b = _find_sizes(a, b, pixels_a, pixels_b)
    has_sizes = ~np.isnan(size_a[:, 0] + size_b[:, 0])
    has_other_bytes = is_known & ~_find_equal(a["content"], b["content"])
    changed: Flags = has_other_bytes | (has_sizes & ~_are_rows_equal(size_a, size_b))
    return changed


def _get_sizes(samples: pd.DataFrame) -> Floats:
    """Return width and height of each frame, float64, shape (N, 2); NaN where it was not decoded."""
    return samples[["width", "height"]].to_numpy(np.float64)


def _find_sizes(a: pd.DataFrame, b: pd.DataFrame, pixels_a: str, pixels_b: str) -> tuple[Floats, Floats]:
    """Return the sizes of both, those of A as they are once it is turned like B."""
    size_a, size_b = _get_sizes(a), _get_sizes(b)
    if pixels_a != pixels_b:
        is_sideways = np.isin(_find_turns(a, b, pixels_b), boxes.SIDEWAYS)
        size_a = np.where(is_sideways[:, None], size_a[:, ::-1], size_a)
    return size_a, size_b


def _find_turns(a: pd.DataFrame, b: pd.DataFrame, pixels_b: str) -> Integers:
    """Return the orientation that turns each frame of A like that of B; 0 where nobody knows it."""
    known = a["orientation"].fillna(b["orientation"].set_axis(a.index))  # 0.2 did not record it
    turns: Integers = known.fillna(0).to_numpy(np.int64)
    if pixels_b == "upright":
        return turns
    return np.array([0, *map(boxes.invert_orientation, range(1, 9))])[turns]


def _turn_boxes(corners: Floats, sizes: Floats, turns: Integers) -> Floats:
    """Turn the boxes of frames of these sizes; NaN where nobody knows how."""
    turned = np.full_like(corners, np.nan)
    for turn in np.unique(turns[turns > 0]):
        rows = turns == turn
        width, height = sizes[rows, :1], sizes[rows, 1:]
        turned[rows] = boxes.turn_boxes(corners[rows], int(turn), width, height)  # type: ignore[arg-type]  # broadcast
    return turned


def _have_same_shape(a: Floats, b: Floats) -> Flags:
    """Whether sizes, shape (N, 2), are of the same shape up to a pixel of the smaller one."""
    tolerance = np.maximum(a.max(axis=1), b.max(axis=1))
    same: Flags = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) <= tolerance
    return same

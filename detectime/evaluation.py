"""Evaluation of a run against annotated hands: how many frames have a correct sample."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats, Integers
from detectime.notes import Note, note_found
from detectime.schema import CORNERS, SAMPLES, TRUTH, TRUTH_SIZE

CORRECT = 0.5
"""Minimum IoU with an annotated hand for a sample to be correct."""


def read_truth(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read annotated hands from a JSON file like the sample's ``truth.json``.

    Parameters
    ----------
    path
        JSON: ``{frame_path: {"hands": [[x1, y1, x2, y2], …], …}}``, in pixels.

    Returns
    -------
    DataFrame
        Truth: one row per hand, with `frame_path` and `x1`, `y1`, `x2`, `y2` (float64); a frame without a hand has one
        row of NaN.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> read_truth(SAMPLE / "truth.json").columns.tolist()
    ['frame_path', 'x1', 'y1', 'x2', 'y2']
    """
    frames = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [(name, *box) for name, truth in frames.items() for box in truth["hands"] or [[np.nan] * 4]]
    return pd.DataFrame(rows, columns=["frame_path", *CORNERS])


def extract_truth(samples: pd.DataFrame, truth_pixels: str | None = None, pixels: str = "upright") -> pd.DataFrame:
    """Extract annotated hands that came with the labels, as with HaGRID.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. The optional column `schema.TRUTH` holds the boxes of a frame as JSON,
        ``[[x1, y1, x2, y2], …]``, as fractions of the frame's width and height; the optional column
        `schema.TRUTH_SIZE` the size that the annotation states.
    truth_pixels
        Which pixels these boxes are in: ``upright`` or ``stored``; None: unknown (`data.truth_pixels`).
    pixels
        Which pixels the samples are in, and the truth to return (`detection.pixels`).

    Returns
    -------
    DataFrame
        Truth, as from `read_truth`, of the frames that were decoded. ``attrs["notes"]`` tells which annotated frames
        are left out: those that are stored rotated or mirrored if `truth_pixels` is None, and those whose annotation
        states a size of another shape than the frame has.

    Raises
    ------
    ValueError
        If a value of the column is not such a list.

    Examples
    --------
    >>> frame = {"frame_path": "a.jpg", "width": 640, "height": 480, "true_hands": "[[0.25, 0.5, 0.5, 0.75]]"}
    >>> extract_truth(pd.DataFrame([frame])).to_numpy().tolist()
    [['a.jpg', 160.0, 240.0, 320.0, 360.0]]
    """
    if TRUTH not in samples:
        truth = pd.DataFrame({"frame_path": pd.Series(dtype=str), **{name: pd.Series(dtype=float) for name in CORNERS}})
        truth.attrs["notes"] = []
        return truth
    decoded = samples[samples["width"].notna()]
    turned = _find_orientations(decoded)
    unknown, contradicted = _find_unusable(decoded, turned, truth_pixels, pixels)
    notes = _note_unusable(decoded, unknown, contradicted)
    is_used = ~(unknown | contradicted)
    decoded, turned = decoded[is_used], turned[is_used]
    try:
        hands = json.loads(f"[{','.join(decoded[TRUTH])}]") if len(decoded) else []
        fractions = np.array([box for found in hands for box in found], np.float64).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {TRUTH}: a value is not a list of boxes [[x1, y1, x2, y2], …]: {error}") from error
    rows = np.repeat(np.arange(len(decoded)), [len(found) for found in hands])
    frames = decoded.iloc[rows]
    if truth_pixels not in (None, pixels):
        for k in np.flatnonzero(turned[rows] > 1):
            orientation = int(turned[rows[k]])
            orientation = orientation if pixels == "upright" else boxes.invert_orientation(orientation)
            fractions[k] = boxes.turn_boxes(fractions[k], orientation, 1, 1)
    truth = pd.DataFrame(fractions * frames[["width", "height"] * 2].to_numpy(), columns=list(CORNERS))
    truth.insert(0, "frame_path", frames["frame_path"].to_numpy())
    truth.attrs["notes"] = notes
    return truth


def _find_orientations(decoded: pd.DataFrame) -> Integers:
    """Return the EXIF orientation of each frame; 1 where it is unknown, as in runs of 0.2."""
    if "orientation" not in decoded:
        return np.ones(len(decoded), np.int64)
    return decoded["orientation"].fillna(1).to_numpy(np.int64)


def _find_unusable(
    decoded: pd.DataFrame, turned: Integers, truth_pixels: str | None, pixels: str
) -> tuple[Flags, Flags]:
    """Find frames whose annotation cannot be compared.

    Returns
    -------
    unknown, contradicted
        bool, shape (frames,): those that are stored rotated or mirrored while nobody knows which pixels their boxes are
        in; and those whose annotation states a size of another shape than the frame has in the pixels of the boxes.
    """
    has_boxes = (decoded[TRUTH] != "[]").to_numpy()
    unknown = has_boxes & (turned > 1) & (truth_pixels is None)
    if TRUTH_SIZE not in decoded:
        return unknown, np.zeros(len(decoded), bool)
    stated = decoded[TRUTH_SIZE].fillna("0x0").str.split("x", expand=True).to_numpy(np.float64)
    size = decoded[["width", "height"]].to_numpy(np.float64)
    is_sideways = np.isin(turned, boxes.SIDEWAYS)
    fits = _have_same_shape(stated, size)
    fits_exchanged = _have_same_shape(stated, size[:, ::-1])
    if truth_pixels is None:
        fits |= is_sideways & fits_exchanged
    elif truth_pixels != pixels:
        fits = np.where(is_sideways, fits_exchanged, fits)
    return unknown, has_boxes & ~fits


def _have_same_shape(a: Floats, b: Floats) -> Flags:
    """Whether sizes, shape (N, 2), are of the same shape up to a pixel: boxes in fractions fit a shrunk edition too."""
    tolerance = np.maximum(a.max(axis=1), b.max(axis=1))  # a pixel of the smaller one
    same: Flags = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) <= tolerance
    return same


def _note_unusable(decoded: pd.DataFrame, unknown: Flags, contradicted: Flags) -> list[Note]:
    why = (
        "stored rotated or mirrored, and nothing says whether the annotated boxes are in pixels before or after that: "
        "not compared; set data.truth_pixels to `stored` (before) or `upright` (after)"
    )
    one, many = f"annotated frame is {why}", f"annotated frames are {why}"
    notes = note_found("unknown_pixels", decoded["frame_path"][unknown & ~contradicted].tolist(), one, many)
    if not contradicted.any():
        return notes
    first = decoded[contradicted].iloc[0]
    example = f"{first['frame_path']}: {first[TRUTH_SIZE]} stated, {first['width']:.0f}x{first['height']:.0f} found"
    count = int(contradicted.sum())
    states = "annotation states" if count == 1 else "annotations state"
    text = (
        f"{states} the size of a picture of another shape than the frame, and {'is' if count == 1 else 'are'} not "
        "compared: do the images belong to another edition?"
    )
    return [*notes, Note("other_shape", count, text, example)]


def compute_best_iou(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Compute the largest IoU of each sample's hand with an annotated hand of its frame.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. The `hand` is compared, never an enlarged `bbox`.
    truth
        What `read_truth` or `extract_truth` returned.

    Returns
    -------
    Series
        float64, with the index of `samples`; NaN where there is no sample.

    Examples
    --------
    >>> hand = {"hand_x1": 0.0, "hand_y1": 0.0, "hand_x2": 10.0, "hand_y2": 10.0}
    >>> samples = pd.DataFrame([{"frame_path": "a.jpg", "outcome": "paired", **hand}])
    >>> truth = pd.DataFrame([{"frame_path": "a.jpg", "x1": 0, "y1": 0, "x2": 10, "y2": 8}])
    >>> compute_best_iou(samples, truth).tolist()
    [0.8]
    """
    is_sample = samples["outcome"].isin(SAMPLES).to_numpy()
    # Merge only the columns needed: the labels may have columns of any name.
    row = np.flatnonzero(is_sample)
    paired = pd.DataFrame({"frame_path": samples["frame_path"].to_numpy()[row], "row": row})
    both = paired.merge(truth[["frame_path", *CORNERS]], on="frame_path")
    hands = pairing.get_boxes(samples, "hand")[both["row"].to_numpy()]
    iou = boxes.compute_iou(hands, both[list(CORNERS)].fillna(0).to_numpy())
    best = np.where(is_sample, 0.0, np.nan)
    np.maximum.at(best, both["row"].to_numpy(), iou)
    return pd.Series(best, index=samples.index, name="iou")


def score_samples(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Compute recall, precision and mean IoU per class and in total.

    Only wanted frames with truth count; without a sample they count as missed.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned.
    truth
        What `read_truth` or `extract_truth` returned.

    Returns
    -------
    DataFrame
        One row per class and a last row ``all``:

        - `frames`: number of frames, and `samples`: how many of them have a sample;
        - `correct`: samples with an IoU of at least `CORRECT`, and `wrong`: the other samples;
        - `recall`: correct / frames, and `precision`: correct / samples;
        - `mean_iou` of all samples, including wrong ones.

    Examples
    --------
    >>> hand = {"hand_x1": 0.0, "hand_y1": 0.0, "hand_x2": 10.0, "hand_y2": 10.0}
    >>> label = {"label": 4, "class_name": "ok", "wanted": True}
    >>> samples = pd.DataFrame([{"frame_path": "a.jpg", "outcome": "paired", **label, **hand}])
    >>> truth = pd.DataFrame([{"frame_path": "a.jpg", "x1": 0, "y1": 0, "x2": 10, "y2": 8}])
    >>> score_samples(samples, truth).loc["all", ["frames", "correct", "mean_iou"]].to_list()
    [1.0, 1.0, 0.8]
    """
    counted = samples["wanted"] & samples["frame_path"].isin(truth["frame_path"])
    rows = samples.loc[counted, ["label", "class_name"]].assign(iou=compute_best_iou(samples[counted], truth))
    classes = {name: group["iou"] for (_, name), group in rows.groupby(["label", "class_name"])}
    scores = {name: _summarize_iou(iou) for name, iou in {**classes, "all": rows["iou"]}.items()}
    counts = dict.fromkeys(("frames", "samples", "correct", "wrong"), "int64")
    return pd.DataFrame(scores).T.astype(counts).rename_axis("class_name")


def _summarize_iou(iou: pd.Series) -> dict[str, float]:
    """Return the scores of frames, whose IoU is NaN where there is no sample."""
    sampled = iou.dropna()
    correct = int((sampled >= CORRECT).sum())
    return {
        "frames": len(iou),
        "samples": len(sampled),
        "correct": correct,
        "wrong": len(sampled) - correct,
        "recall": correct / len(iou) if len(iou) else np.nan,
        "precision": correct / len(sampled) if len(sampled) else np.nan,
        "mean_iou": sampled.mean(),
    }

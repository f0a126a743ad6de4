"""Evaluation of a run against annotated hands: how many frames have a correct sample."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.schema import CORNERS, SAMPLES, TRUTH

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


def extract_truth(samples: pd.DataFrame) -> pd.DataFrame:
    """Extract annotated hands that came with the labels, as with HaGRID.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. The optional column `schema.TRUTH` holds the boxes of a frame as JSON,
        ``[[x1, y1, x2, y2], …]``, as fractions of the frame's width and height.

    Returns
    -------
    DataFrame
        Truth, as from `read_truth`, of the frames that were decoded.

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
        return pd.DataFrame({"frame_path": pd.Series(dtype=str), **{name: pd.Series(dtype=float) for name in CORNERS}})
    decoded = samples.loc[samples["width"].notna(), ["frame_path", "width", "height", TRUTH]]
    try:
        hands = json.loads(f"[{','.join(decoded[TRUTH])}]") if len(decoded) else []
        fractions = np.array([box for found in hands for box in found], np.float64).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {TRUTH}: a value is not a list of boxes [[x1, y1, x2, y2], …]: {error}") from error
    frames = decoded.iloc[np.repeat(np.arange(len(decoded)), [len(found) for found in hands])]
    truth = pd.DataFrame(fractions * frames[["width", "height"] * 2].to_numpy(), columns=list(CORNERS))
    truth.insert(0, "frame_path", frames["frame_path"].to_numpy())
    return truth


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

"""A run against ground truth: how many frames have a correct sample."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.schema import SAMPLES, TRUTH

CORRECT = 0.5
"""Least IoU with an annotated hand that makes a sample correct."""

_BOX = ["x1", "y1", "x2", "y2"]


def read_truth(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the boxes of hands from a file like the sample's ``truth.json``.

    Parameters
    ----------
    path
        JSON: ``{frame_path: {"hands": [[x1, y1, x2, y2], …], …}}``, in pixels.

    Returns
    -------
    DataFrame
        Truth: one row per hand, with `frame_path` and `x1`, `y1`, `x2`, `y2` (float64); a frame without a hand has one
        row of NaN.
    """
    frames = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [(name, *box) for name, found in frames.items() for box in found["hands"] or [[np.nan] * 4]]
    return pd.DataFrame(rows, columns=["frame_path", *_BOX])


def extract_truth(samples: pd.DataFrame) -> pd.DataFrame:
    """Take the boxes of hands that the labels brought, as HaGRID's do.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. Its optional column `schema.TRUTH` has the boxes as JSON,
        ``[[x1, y1, x2, y2], …]``, as fractions of the frame's width and height.

    Returns
    -------
    DataFrame
        Truth, as `read_truth` returns it, of the frames that were decoded.

    Raises
    ------
    ValueError
        If the column has something else.
    """
    if TRUTH not in samples:
        return pd.DataFrame({"frame_path": pd.Series(dtype=str), **{name: pd.Series(dtype=float) for name in _BOX}})
    there = samples.loc[samples["width"].notna(), ["frame_path", "width", "height", TRUTH]]
    try:
        hands = json.loads(f"[{','.join(there[TRUTH])}]") if len(there) else []
        corners = np.array([box for found in hands for box in found], np.float64).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the column {TRUTH} has something else than boxes [[x1, y1, x2, y2], …]: {error}") from error
    of = there.iloc[np.repeat(np.arange(len(there)), [len(found) for found in hands])]
    truth = pd.DataFrame(corners * of[["width", "height"] * 2].to_numpy(), columns=_BOX)
    truth.insert(0, "frame_path", of["frame_path"].to_numpy())
    return truth


def compute_best_iou(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """IoU of each sample's hand with the annotated hand of its frame that it fits best.

    Parameters
    ----------
    samples
        What `pairing.pair_frames` returned. The `hand` is compared, never an enlarged `bbox`.
    truth
        What `read_truth` or `extract_truth` returned.

    Returns
    -------
    Series
        float64, by the index of `samples`; NaN where there is no sample.
    """
    is_sample = samples["outcome"].isin(SAMPLES).to_numpy()
    # Only what is needed takes part: the labels may have columns of any name.
    sample = np.flatnonzero(is_sample)
    paired = pd.DataFrame({"frame_path": samples["frame_path"].to_numpy()[sample], "sample": sample})
    both = paired.merge(truth[["frame_path", *_BOX]], on="frame_path")
    hands = pairing.get_boxes(samples, "hand")[both["sample"].to_numpy()]
    iou = boxes.compute_iou(hands, both[_BOX].fillna(0).to_numpy())
    best = np.where(is_sample, 0.0, np.nan)
    np.maximum.at(best, both["sample"].to_numpy(), iou)
    return pd.Series(best, index=samples.index, name="iou")


def score_samples(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Score a run: one row per class, and one for all.

    Only wanted frames that `truth` speaks of count, and each of them does.

    Returns
    -------
    DataFrame
        - `frames`: how many there are, and `samples`: how many of them have one;
        - `correct`: samples with an IoU of at least `CORRECT`, and `wrong`: the others;
        - `recall`: correct / frames, and `precision`: correct / samples;
        - `mean_iou` of all samples, wrong ones too.
    """
    counted = samples["wanted"] & samples["frame_path"].isin(truth["frame_path"])
    rows = samples.loc[counted, ["label", "class_name"]].assign(iou=compute_best_iou(samples[counted], truth))
    classes = {name: group["iou"] for (_, name), group in rows.groupby(["label", "class_name"])}
    table = pd.DataFrame({name: _summary(iou) for name, iou in {**classes, "all": rows["iou"]}.items()}).T
    whole = ["frames", "samples", "correct", "wrong"]
    return table.astype(dict.fromkeys(whole, "int64")).rename_axis("class_name")


def _summary(iou: pd.Series) -> dict[str, float]:
    there = iou.dropna()
    correct = int((there >= CORRECT).sum())
    return {
        "frames": len(iou),
        "samples": len(there),
        "correct": correct,
        "wrong": len(there) - correct,
        "recall": correct / len(iou) if len(iou) else np.nan,
        "precision": correct / len(there) if len(there) else np.nan,
        "mean_iou": there.mean(),
    }

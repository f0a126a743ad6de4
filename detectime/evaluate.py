"""A run against ground truth: how many frames have a correct sample."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from detectime import boxes, pairing
from detectime.frames import HAGRID

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
        Truth: a row a hand, with `frame_path` and `x1`, `y1`, `x2`, `y2` (float64); a frame without a hand has one row
        of NaN.
    """
    frames = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [(name, *box) for name, found in frames.items() for box in found["hands"] or [[np.nan] * 4]]
    return pd.DataFrame(rows, columns=["frame_path", *_BOX])


def read_hagrid(
    annotations: str | os.PathLike[str], samples: pd.DataFrame, names: Mapping[str, str] = HAGRID
) -> pd.DataFrame:
    """Read the boxes of the gesturing hands from HaGRID's annotations.

    Parameters
    ----------
    annotations
        A folder of HaGRID's ``<class>.json``: boxes ``[x, y, width, height]`` in shares of the image.
    samples
        What `pairing.pair` returned, for the sizes of the frames; its `frame_path` is ``<class>/<image>.jpg``.
    names
        HaGRID's name of each class that is wanted, and ours.

    Returns
    -------
    DataFrame
        Truth, as `read_truth` returns it: of each image the hands that show its class.
    """
    sizes = samples.set_index("frame_path")[["width", "height"]]
    rows = []
    for theirs in names:
        images = json.loads(Path(annotations, f"{theirs}.json").read_text(encoding="utf-8"))
        for image, found in images.items():
            frame_path = f"{theirs}/{image}.jpg"
            if frame_path not in sizes.index:
                continue
            width, height = sizes.loc[frame_path]
            for (x, y, w, h), label in zip(found["bboxes"], found["labels"], strict=True):
                if label == theirs:
                    rows.append((frame_path, x * width, y * height, (x + w) * width, (y + h) * height))
    return pd.DataFrame(rows, columns=["frame_path", *_BOX])


def best_iou(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """IoU of each sample's hand with the annotated hand of its frame that it fits best.

    Parameters
    ----------
    samples
        What `pairing.pair` returned. The `hand` is compared, never an enlarged `bbox`.
    truth
        What `read_truth` or `read_hagrid` returned.

    Returns
    -------
    Series
        float64, by the index of `samples`; NaN where there is no sample.
    """
    paired = samples.loc[samples["outcome"].isin(pairing.SAMPLES)]
    both = paired.reset_index(names="row").merge(truth, on="frame_path")
    both["iou"] = boxes.iou(pairing.boxes_of(both, "hand"), both[_BOX].fillna(0).to_numpy())
    best: pd.Series = both.groupby("row")["iou"].max().reindex(paired.index, fill_value=0.0)
    return best.reindex(samples.index)


def score(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Score a run: a row a class, and one for all.

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
    rows = samples.loc[counted, ["label", "class_name"]].assign(iou=best_iou(samples[counted], truth))
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

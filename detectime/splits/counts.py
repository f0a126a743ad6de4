"""Counting the samples and groups of a split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from detectime.boxes import Flags
from detectime.schema import SAMPLES

USUAL_PARTS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Names of parts in the order in which people list them."""


def are_samples(rows: pd.DataFrame) -> Flags:
    """Return which rows have a sample, bool, shape (N,); all, if the table has no outcomes.

    Examples
    --------
    >>> are_samples(pd.DataFrame({"outcome": ["paired", "no_hand"]})).tolist()
    [True, False]
    """
    return rows["outcome"].isin(SAMPLES).to_numpy() if "outcome" in rows else np.ones(len(rows), bool)


def count_split(samples: pd.DataFrame) -> pd.DataFrame:
    """Count the samples and the groups of each class in each part.

    Parameters
    ----------
    samples
        Rows with `class_name`, `video_name` and `split`; if there are outcomes, only rows with a sample are counted.

    Returns
    -------
    DataFrame
        One row per class and a last row ``all``; columns are pairs of a part and ``samples`` or ``groups``. A group
        with several classes counts once for each, and once in ``all``.

    Examples
    --------
    >>> rows = {"class_name": ["ok", "ok", "stop"], "video_name": ["a", "b", "a"], "split": ["train", "test", "train"]}
    >>> count_split(pd.DataFrame(rows))["train"].to_dict("index")
    {'ok': {'samples': 1, 'groups': 1}, 'stop': {'samples': 1, 'groups': 1}, 'all': {'samples': 2, 'groups': 1}}
    """
    found = samples[are_samples(samples)]
    parts = order_parts(found["split"].unique())
    by_class = found.groupby(["class_name", "split"])["video_name"].agg(samples="size", groups="nunique")
    total = found.groupby("split")["video_name"].agg(samples="size", groups="nunique")
    counts = by_class.unstack("split", fill_value=0)
    counts.loc["all"] = total.unstack()
    columns = pd.MultiIndex.from_product([parts, ["samples", "groups"]])
    return counts.swaplevel(axis="columns").reindex(columns=columns).astype("int64")


def order_parts(parts: Iterable[str], first: Sequence[str] = USUAL_PARTS) -> list[str]:
    """Return the names of parts in their usual order: train, val, test, then others by name.

    Examples
    --------
    >>> order_parts(["test", "other", "train"])
    ['train', 'test', 'other']
    """
    found = set(parts)
    return [*(name for name in first if name in found), *sorted(found - set(first))]

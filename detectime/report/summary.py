"""What a training set is, in numbers: the facts that the report begins with and the verdict judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from detectime import boxes, pairing, splits
from detectime.config import NO_GESTURE
from detectime.decisions import find_contradictions
from detectime.notes import Note
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome
from detectime.splits.split_file import SplitError

_UPRIGHT = 1  # orientation of a frame that is stored as viewers show it


@dataclass(frozen=True)
class SetFacts:
    """The facts of a training set.

    Attributes
    ----------
    classes
        One row per wanted class, in the order of the labels: `class_name`, `label`; `frames`, wanted ones; `samples`;
        `groups`, with a sample; `largest`, the samples of the group that has most; and a column per outcome.
    frames, samples, groups
        Wanted frames, frames with a sample, and groups (`video_name`) with a sample.
    left_out
        Frames that were not wanted, by class name.
    turned
        Wanted frames that are stored rotated or mirrored.
    other_hands
        Samples whose frame holds another hand near a face, and about which nobody decided.
    decided
        Frames that a person decided on.
    finished, version
        When detection was finished (ISO 8601), and the version of detectime that wrote the run last.
    images, labels
        Where the frames and the labels are.
    exif
        ``apply`` or ``ignore``: whether frames were turned upright.
    notes
        Findings of the run.
    has_stale_files
        Whether decisions or detections are newer than the last pairing, so that ``hands.json`` is older than this.
    contradictions
        Frames on which people disagree.
    lacking
        For each part of the split that lacks classes, these; empty if there is no split.
    min_face_score, min_hand_score
        Scores below which pairing ignored what was detected; None if it took all.
    """

    classes: pd.DataFrame
    frames: int
    samples: int
    groups: int
    left_out: Mapping[str, int]
    turned: int
    other_hands: int
    decided: int
    finished: str
    version: str
    images: str
    labels: str
    exif: str
    notes: Sequence[Note] = ()
    has_stale_files: bool = False
    contradictions: int = 0
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_face_score: float | None = None
    min_hand_score: float | None = None

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """The number of wanted frames of each outcome that occurs."""
        counts = {outcome: int(self.classes[outcome.value].sum()) for outcome in Outcome}
        return {outcome: count for outcome, count in counts.items() if count}


def describe_set(
    run: FinishedRun, samples: pd.DataFrame, *, notes: Sequence[Note] = (), has_stale_files: bool = False
) -> SetFacts:
    """Collect the facts of a training set.

    Parameters
    ----------
    run
        The run.
    samples
        Its outcomes.
    notes
        Findings about these outcomes, beside those that the run stores.
    has_stale_files
        Whether `samples` are newer than the files of the run.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("out")  # doctest: +SKIP
    >>> describe_set(run, run.outcomes).samples  # doctest: +SKIP
    100
    """
    wanted = samples[samples["wanted"].to_numpy(bool)]
    is_sample = wanted["outcome"].isin(SAMPLES)
    left_out = samples.loc[~samples["wanted"].to_numpy(bool), "class_name"].value_counts()
    data = run.config.data
    return SetFacts(
        classes=count_classes(wanted),
        frames=len(wanted),
        samples=int(is_sample.sum()),
        groups=int(wanted.loc[is_sample, "video_name"].nunique()),
        left_out={str(name): int(count) for name, count in left_out.items()},
        turned=int((wanted["orientation"] > _UPRIGHT).sum()),
        other_hands=_count_other_hands(wanted, is_sample),
        decided=int(wanted["decision"].notna().sum()),
        finished=str(run.manifest["finished"]),
        version=str(run.manifest["detectime"]),
        images=data.images,
        labels=data.labels,
        exif=run.config.detection.exif,
        notes=tuple(dict.fromkeys([*run.notes, *notes])),
        has_stale_files=has_stale_files,
        contradictions=find_contradictions(run.decisions)["frame_path"].nunique(),
        lacking=_find_lacking(run, wanted),
        min_face_score=run.pairing.min_face_score,
        min_hand_score=run.pairing.min_hand_score,
    )


def count_classes(wanted: pd.DataFrame) -> pd.DataFrame:
    """Count the frames, samples, groups and outcomes of each class: see `SetFacts.classes`.

    Parameters
    ----------
    wanted
        Wanted rows of the outcomes table.

    Examples
    --------
    >>> rows = {"class_name": "ok", "label": 4, "video_name": ["a", "b"], "outcome": ["paired", "no_face"]}
    >>> count_classes(pd.DataFrame(rows))[["class_name", "frames", "samples", "groups", "no_face"]].to_dict("records")
    [{'class_name': 'ok', 'frames': 2, 'samples': 1, 'groups': 1, 'no_face': 1}]
    """
    labels = wanted[["class_name", "label"]].drop_duplicates("class_name").set_index("class_name")["label"]
    counts = pd.crosstab(wanted["class_name"].to_numpy(), wanted["outcome"].to_numpy())
    counts = counts.reindex(index=labels.index, columns=[outcome.value for outcome in Outcome], fill_value=0)
    found = wanted[wanted["outcome"].isin(SAMPLES)]
    sizes = found.groupby(["class_name", "video_name"], observed=True).size().groupby("class_name")
    table = pd.DataFrame({"label": labels, "frames": counts.sum(axis=1), "samples": counts[list(SAMPLES)].sum(axis=1)})
    table["groups"] = sizes.size().reindex(table.index, fill_value=0)
    table["largest"] = sizes.max().reindex(table.index, fill_value=0)
    table = table.join(counts.astype(np.int64)).sort_values(["label"], kind="stable")
    return table.rename_axis("class_name").reset_index()


def _find_lacking(run: FinishedRun, wanted: pd.DataFrame) -> dict[str, list[str]]:
    """Return the classes that each part of the split has no samples of, of those that have any."""
    try:
        split = splits.read_split(run.store)
        if split is None:
            return {}
        counts = splits.count_split(splits.assign_splits(wanted, split))
    except SplitError:  # the section about the split says why
        return {}
    parts = counts.columns.get_level_values(0).unique()
    table = pd.DataFrame({part: counts[part, "samples"] for part in parts}).drop(index="all")
    table = table[table.sum(axis=1) > 0]
    found = {str(part): table.index[table[part] == 0].astype(str).tolist() for part in parts}
    return {part: names for part, names in found.items() if names}


def _count_other_hands(wanted: pd.DataFrame, is_sample: pd.Series) -> int:
    """Count samples of which another hand near a face may be the one that was meant."""
    return int((is_sample & wanted["other_hand"].fillna(False).astype(bool) & wanted["decision"].isna()).sum())


def describe_hands(samples: pd.DataFrame) -> pd.DataFrame:
    """Measure the hand of each sample.

    Parameters
    ----------
    samples
        Rows of the outcomes table; those without a sample are left out.

    Returns
    -------
    DataFrame
        One row per sample, with its index: `class_name`, `video_name`; `size`, the square root of the area in pixels;
        `x`, `y`, the centre as a share of the frame's width and height; `score`; `aspect_ratio`, width / height.

    Examples
    --------
    >>> hand = {"hand_x1": 10.0, "hand_y1": 10.0, "hand_x2": 50.0, "hand_y2": 50.0, "hand_score": 0.9}
    >>> frame = {"outcome": "paired", "class_name": "ok", "video_name": "a", "width": 100, "height": 200}
    >>> describe_hands(pd.DataFrame([frame | hand]))[["size", "x", "y", "aspect_ratio"]].to_dict("records")
    [{'size': 40.0, 'x': 0.3, 'y': 0.15, 'aspect_ratio': 1.0}]
    """
    found = samples[samples["outcome"].isin(SAMPLES)]
    hand = pairing.get_boxes(found, "hand")
    centres, sides = (hand[:, :2] + hand[:, 2:]) / 2, hand[:, 2:] - hand[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect_ratio = sides[:, 0] / sides[:, 1]
    return pd.DataFrame(
        {
            "class_name": found["class_name"],
            "video_name": found["video_name"],
            "size": np.sqrt(boxes.compute_area(hand)),
            "x": centres[:, 0] / found["width"].to_numpy(np.float64),
            "y": centres[:, 1] / found["height"].to_numpy(np.float64),
            "score": found["hand_score"].to_numpy(np.float64),
            "aspect_ratio": aspect_ratio,
        },
        index=found.index,
    )


def count_negatives(facts: SetFacts) -> int:
    """Count the frames of the class without a gesture that were left out.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> count_negatives(SimpleNamespace(left_out={"no_gesture": 12, "ok": 3}))
    12
    """
    return facts.left_out.get(NO_GESTURE, 0)

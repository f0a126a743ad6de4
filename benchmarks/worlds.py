"""Score settings on annotated frames of known people, with intervals over people: the basis of choosing settings.

Frames of one person are alike, so people are resampled, compared and held out as a whole, never single frames.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from benchmarks.data import Frames, make_worker
from benchmarks.peers import Loop
from detectime import boxes, evaluation, resampling
from detectime import config as configuration
from detectime.boxes import Flags, Floats
from detectime.config import Config, DetectionConfig
from detectime.schema import CORNERS

MEASURES = ("correct", "precision", "mean_iou")
"""Correct samples / frames, correct samples / samples, and the mean IoU of samples."""

FACE_SIZES: dict[str, tuple[str, list[float], list[str]]] = {
    "pixels": ("face_size", [0, 60, 120, np.inf], ["< 60 px", "60–120 px", "> 120 px"]),
    "share of the frame": ("face_share", [0, 0.125, 0.25, np.inf], ["< 1/8", "1/8–1/4", "> 1/4"]),
}
"""Column, limits and names of the groups of frames by size of the face; a last group has the frames without a face."""

NO_FACE = "no face"

_DRAWS = 10_000
# Faces are searched at the highest resolution at once, in all pixels: the groups are the same for all variants.
_FACE_SEARCH = {"face_first_resolution": 640, "reduced_decoding": False}


@dataclass(frozen=True, eq=False)
class World:
    """Frames of a data set, with the detections of each setting that was asked for: detection runs once per setting."""

    frames: Frames
    _detections: dict[str, pa.Table] = field(default_factory=dict)

    def detect(self, detection: DetectionConfig) -> pa.Table:
        """Return the detections of a setting.

        The whole frame is always searched where no hand is near a face: pairing ignores those hands unless `fallback`
        is ``frame``, so that the same detections serve every pairing.
        """
        setting = replace(detection, whole_frame=True)
        key = repr(setting)
        if key not in self._detections:
            title = f"{self.frames.title}: {', '.join(setting.hand_detector)}"
            # On standard error: standard output holds the tables.
            with tqdm(total=len(self.frames.names), desc=title, file=sys.stderr, disable=None) as bar:

                def advance(_: int | None) -> None:
                    bar.update()

                self._detections[key] = self.frames.detect(make_worker(setting), self.frames.images, advance)
        return self._detections[key]

    def make_samples(self, settings: Config) -> pd.DataFrame:
        """Pair the detections of a setting."""
        return self.frames.pair(self.detect(settings.detection), settings)

    def find_best_hands(self, peer: Loop) -> pd.DataFrame:
        """Return samples with the best hand that the peer found in each wanted frame, without faces."""
        samples = self.make_samples(configuration.load_config())
        wanted = samples[samples["wanted"]]
        found = peer.find_best_hands(self.frames.images, wanted["frame_path"].tolist())
        hands = pd.DataFrame([box or [np.nan] * 4 for box in found], index=wanted.index)
        outcome = ["paired" if box else "no_hand" for box in found]
        corners = {f"hand_{corner}": hands[k] for k, corner in enumerate(CORNERS)}
        unknown = dict.fromkeys(("fallback", "found_by", "hand_score"), np.nan)
        return wanted.assign(outcome=outcome, **unknown, **corners)

    @functools.cached_property
    def truth(self) -> pd.DataFrame:
        """The annotated hands: see `evaluation.read_truth`."""
        return self.frames.read_truth(self.make_samples(configuration.load_config(parameters=_FACE_SEARCH)))

    @functools.cached_property
    def faces(self) -> pd.DataFrame:
        """The largest face of each frame that has one: its corners, `face_size` and `face_share`, by `frame_path`.

        `face_size` is the longer side in pixels, and `face_share` its share of the frame's longer side.
        """
        table = self.detect(configuration.load_config(parameters=_FACE_SEARCH).detection)
        rows = []
        for row in table.select(["frame_path", "width", "height", "faces"]).to_pylist():
            sizes = [max(face["x2"] - face["x1"], face["y2"] - face["y1"]) for face in row["faces"]]
            if sizes:
                size = max(sizes)
                corners = [row["faces"][sizes.index(size)][corner] for corner in CORNERS]
                rows.append((row["frame_path"], *corners, size, size / max(row["width"], row["height"])))
        columns = ["frame_path", *CORNERS, "face_size", "face_share"]
        return pd.DataFrame(rows, columns=columns).set_index("frame_path")


def score_variant(world: World, parameters: Mapping[str, Any]) -> pd.DataFrame:
    """Score each frame of a world with other settings.

    Parameters
    ----------
    world
        The frames. Detection runs only if no earlier call had the same settings of `detection`.
    parameters
        Keys of `config.yml`, as the notebook takes them; those that are not given have their defaults.

    Returns
    -------
    DataFrame
        What `score_frames` returns.

    Raises
    ------
    ConfigError
        If a key or a value is not accepted.
    WeightsError
        If weights are missing.
    """
    settings = configuration.load_config(parameters=dict(parameters))
    return score_frames(world, world.make_samples(settings), world.detect(settings.detection))


def score_frames(world: World, samples: pd.DataFrame, detections: pa.Table | None = None) -> pd.DataFrame:
    """Score the sample of each wanted frame that has annotations.

    Parameters
    ----------
    world
        The frames.
    samples
        What `pairing.pair_frames` returned.
    detections
        What the samples were chosen from; None if only the samples are known.

    Returns
    -------
    DataFrame
        One row per frame, in the order of the frame table:

        - `world`, `frame_path`, and `person`, the frame's `video_name`;
        - `face_size` and `face_share`: see `World.faces`; the same for all variants, NaN without a face;
        - `outcome`, `fallback`, `found_by`, `hand_score` and the corners of the hand, as in the samples;
        - `iou` of the sample, NaN where there is none;
        - `best_iou` of all hands that were detected, and `best_hand`, the detector and the stage of that hand: a wrong
          frame whose `best_iou` is high was lost by pairing, another by detection. Only `fallback: frame` can take a
          hand of the stage ``fallback``.
    """
    truth = world.truth
    counted = samples[samples["wanted"] & samples["frame_path"].isin(truth["frame_path"])].reset_index(drop=True)
    kept = ["outcome", "fallback", "found_by", "hand_score", *(f"hand_{corner}" for corner in CORNERS)]
    faces = world.faces.reindex(counted["frame_path"])[["face_size", "face_share"]].reset_index(drop=True)
    best = _find_best_hands(detections, truth).reindex(counted["frame_path"]).reset_index(drop=True)
    return pd.concat(
        [
            counted[["frame_path"]].assign(person=counted["video_name"]),
            faces,
            counted[kept].astype({"fallback": object}),
            evaluation.compute_best_iou(counted, truth),
            best,
        ],
        axis=1,
    ).pipe(lambda frames: frames.assign(world=world.frames.title)[["world", *frames.columns]])


def _find_best_hands(detections: pa.Table | None, truth: pd.DataFrame) -> pd.DataFrame:
    """Return the detected hand with the largest IoU of each frame that has hands, by `frame_path`."""
    columns = ["frame_path", "best_hand", *CORNERS]
    rows = [] if detections is None else detections.select(["frame_path", "hands"]).to_pylist()
    hands = pd.DataFrame(
        [
            (row["frame_path"], f"{hand['detector']}/{hand['stage']}", *(hand[corner] for corner in CORNERS))
            for row in rows
            for hand in row["hands"]
        ],
        columns=columns,
    )
    both = hands.merge(truth, on="frame_path", suffixes=("", "_true"))
    true = both[[f"{corner}_true" for corner in CORNERS]].fillna(0).to_numpy(np.float64)
    both["best_iou"] = boxes.compute_iou(both[list(CORNERS)].to_numpy(np.float64), true)
    best = both.sort_values("best_iou", ascending=False, kind="stable").drop_duplicates("frame_path")
    return best.set_index("frame_path")[["best_iou", "best_hand"]]


def summarize_variant(frames: pd.DataFrame) -> pd.DataFrame:
    """Compute the measures of a variant, with intervals over people.

    Parameters
    ----------
    frames
        What `score_variant` returned, or some of its rows.

    Returns
    -------
    DataFrame
        One row per name in `MEASURES`: `value`, and `low` and `high`, the 95 % interval by bootstrap over people;
        NaN if there are fewer than two.
    """
    sums = _sum_by_person(frames)
    low, high = resampling.compute_interval(_draw_measures(sums))
    values = {"value": _compute_measures(sums.sum(axis=0)), "low": low, "high": high}
    return pd.DataFrame(values, index=list(MEASURES))


def compare_variants(frames_a: pd.DataFrame, frames_b: pd.DataFrame) -> pd.DataFrame:
    """Compute by how much the measures of a variant `b` exceed those of `a`; both draws have the same people.

    Parameters
    ----------
    frames_a, frames_b
        What `score_variant` returned for the same frames.

    Returns
    -------
    DataFrame
        One row per name in `MEASURES`: `a`, `b`, `difference`, and `low` and `high`, its 95 % interval as in
        `summarize_variant`.

    Raises
    ------
    ValueError
        If the frames are not the same.
    """
    if frames_a["frame_path"].tolist() != frames_b["frame_path"].tolist():
        raise ValueError("the two variants were scored on different frames")
    sums = [_sum_by_person(frames) for frames in (frames_a, frames_b)]
    a, b = (_compute_measures(each.sum(axis=0)) for each in sums)
    draws_a, draws_b = (_draw_measures(each) for each in sums)
    low, high = resampling.compute_interval(draws_b - draws_a)
    values = {"a": a, "b": b, "difference": b - a, "low": low, "high": high}
    return pd.DataFrame(values, index=list(MEASURES))


def split_people(people: Iterable[str]) -> Iterator[tuple[str, Flags]]:
    """Yield one fold per person, in order of their names: leave-one-person-out cross-validation.

    Parameters
    ----------
    people
        The person of each row, such as the column `person` of what `score_variant` returned.

    Yields
    ------
    person, held_out
        bool, shape (rows,): the rows to test on; all others are for choosing.
    """
    values = np.asarray(list(people), dtype=object)
    for person in sorted(set(values)):
        yield person, values == person


def group_by_face_size(frames: pd.DataFrame, kind: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the frames of each group that is not empty; `kind` is one of `FACE_SIZES`."""
    column, limits, names = FACE_SIZES[kind]
    groups = pd.cut(frames[column], limits, right=False, labels=names).astype(object).fillna(NO_FACE)
    for name in (*names, NO_FACE):
        if (groups == name).any():
            yield name, frames[groups == name]


def _sum_by_person(frames: pd.DataFrame) -> Floats:
    """Return numbers of frames, samples and correct samples, and the sum of IoU: shape (people, 4)."""
    iou = frames["iou"]
    rows = pd.DataFrame({"samples": iou.notna(), "correct": iou >= evaluation.CORRECT, "iou": iou.fillna(0)})
    rows.insert(0, "frames", 1)
    return resampling.sum_groups(frames["person"], rows)


def _compute_measures(sums: Floats) -> Floats:
    """Return the `MEASURES`, shape (…, 3), of sums of shape (…, 4); NaN where there is nothing to divide by."""
    frames, samples, correct, iou = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore"):
        return np.stack([correct / frames, correct / samples, iou / samples], axis=-1)


def _draw_measures(sums: Floats) -> Floats:
    """Return the measures of random draws, each of as many people, with replacement: shape (draws, 3).

    The draws depend on the number of people only, so that those of two variants hold the same people.
    """
    return _compute_measures(resampling.draw_groups(np.arange(len(sums)), _DRAWS) @ sums)

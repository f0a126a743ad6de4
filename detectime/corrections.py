"""Corrections: decisions of people applied to the outcomes of pairing.

Labels are applied to the frame table, so that a frame pairs as one of its new class. Then pairing chooses the hands,
and decisions about hands replace or reject what it chose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime import boxes, pairing
from detectime.boxes import Flags, Floats, Integers
from detectime.candidates import find_candidates
from detectime.config import Config, PairingConfig
from detectime.decisions import (
    SAME_BOX,
    Decision,
    MergedDecisions,
    find_contradictions,
    holds,
    list_corners,
    note_contradictions,
)
from detectime.notes import Note, note_found
from detectime.schema import CORNERS, DECISION_COLUMNS, SAMPLES, Outcome

NOT_COUNTING = (
    *("stale", "unlisted", "unknown_class", "relabelled", "undetected", "left_out_box", "no_size", "unknown_pixels"),
    "outside",
)
"""Kinds of notes about decisions that do not count, or not as somebody may expect."""

_EQUAL = 0.01  # pixels up to which corners are equal: turning a box rounds
_STATES = {
    "stale": (
        "decided frame has other content than when it was judged: the decision does not count; look at it again",
        "decided frames have other content than when they were judged: the decisions do not count; look at them again",
    ),
    "unlisted": (
        "decided frame is not in the labels: the decision does not count",
        "decided frames are not in the labels: the decisions do not count",
    ),
    "unchecked": (
        "decision counts whatever became of its frame, whose content was not known when it was judged",
        "decisions count whatever became of their frames, whose contents were not known when they were judged",
    ),
    "unknown_class": (
        "frame was given a class that is not in `labels` of config.yml: the decision does not count",
        "frames were given classes that are not in `labels` of config.yml: the decisions do not count",
    ),
    "relabelled": (
        "frame was given a class that is not wanted, and is left out",
        "frames were given classes that are not wanted, and are left out",
    ),
    "undetected": (
        "frame was given a wanted class, but no detection ran on it: correct its class in the labels and run again",
        "frames were given wanted classes, but no detection ran on them: correct their classes in the labels and run "
        "again",
    ),
    "left_out_box": (
        "box was decided for a frame that is left out: it counts once the frame is wanted and detected",
        "boxes were decided for frames that are left out: they count once the frames are wanted and detected",
    ),
    "no_size": (
        "box was decided for a frame that was not decoded, and does not count",
        "boxes were decided for frames that were not decoded, and do not count",
    ),
    "unknown_pixels": (
        "decided box is in other pixels than those of the run, and nobody knows how its frame is turned: it does not "
        "count; decide again",
        "decided boxes are in other pixels than those of the run, and nobody knows how their frames are turned: they "
        "do not count; decide again",
    ),
    "outside": (
        "decided box lies outside its frame or has no area, and does not count",
        "decided boxes lie outside their frames or have no area, and do not count",
    ),
    "asked_again": (
        "frame whose box was rejected, or that had none, has another box now: look at it again",
        "frames whose boxes were rejected, or that had none, have other boxes now: look at them again",
    ),
}
"""Findings, for one frame and for several, in the order in which they are told."""


class Corrected(NamedTuple):
    """The outcomes of a run with the decisions of people."""

    samples: pd.DataFrame
    """As `pairing.pair_frames` returns them, with `decision`, what counts (the action, ``label``, or both, joined by a
    plus sign), `decided_by`, who (two people joined by a comma), and `decided_at`, when."""
    notes: list[Note]
    """Contradictions, and what does not count."""
    counting: list[Decision]
    """The decisions that were applied."""
    contradictions: pd.DataFrame
    """Of the decisions that hold: see `decisions.find_contradictions`."""


class _Findings:
    """Frames by finding, one of `_STATES`, each frame once."""

    def __init__(self) -> None:
        self._frames: dict[str, dict[str, None]] = {state: {} for state in _STATES}

    def add(self, state: str, frame_paths: Iterable[str]) -> None:
        self._frames[state].update(dict.fromkeys(frame_paths))

    def list_notes(self) -> list[Note]:
        return [
            note for state, texts in _STATES.items() for note in note_found(state, list(self._frames[state]), *texts)
        ]


@dataclass(frozen=True)
class _Judged:
    """Decisions about hands that hold, one element per decision in each array, the decisions of a frame together.

    Attributes
    ----------
    decisions
        Of the wanted frames, the oldest of each frame first.
    row
        int64, shape (N,): the row of its frame.
    is_last
        bool, shape (N,): whether it is the one that counts.
    wants_hand
        bool, shape (N,): whether the frame has a right box.
    judged, hand, bbox
        float64, shape (N, 4), in the pixels of the run: what was shown, what is wanted, and its crop; NaN for none.
    is_known
        bool, shape (N,): False if the boxes cannot be turned into the pixels of the run.
    """

    decisions: Sequence[Decision]
    row: Integers
    is_last: Flags
    wants_hand: Flags
    judged: Floats
    hand: Floats
    bbox: Floats
    is_known: Flags


def apply_decisions(
    table: pd.DataFrame, detections: pa.Table, decisions: MergedDecisions, settings: PairingConfig, config: Config
) -> Corrected:
    """Pair the frames of a run, and apply what people decided of them.

    A decision counts as long as the content of its frame is that which was judged, or one of them is unknown.

    - A kept, chosen or drawn box is the `hand`, whatever pairing chose; the `bbox` follows from it, unless the decision
      has its own. Both are clipped to the frame. `hand_score` and `found_by` are those of the detected hand that equals
      it, if there is one; `overlap` is that with the context square of the face.
    - A frame whose box was rejected gives no sample (`rejected`) as long as pairing chooses a box that overlaps a
      rejected or replaced one by an IoU of at least `decisions.SAME_BOX`. Where there is no box, the outcome stays.
    - A frame with another class is as if the labels said so; if that class is not wanted it is `left_out`.

    A sample whose box or class is not what pairing and the labels say is `corrected`.

    Parameters
    ----------
    table
        The frame table, with `wanted`.
    detections
        As for `pairing.pair_frames`.
    decisions
        What `decisions.merge_decisions` returned.
    settings
        Of pairing.
    config
        The configuration of the run: the vocabulary, the wanted classes, and which pixels its boxes are in.

    Raises
    ------
    MissingDetectionsError
        If a wanted frame has no detections.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> from detectime.decisions import merge_decisions
    >>> from detectime.schema import BOXES
    >>> row = {"frame_path": "a.jpg", "outcome": "ok", "width": 640, "height": 480, "content": "5-3610a686"}
    >>> nothing = pa.array([[]], BOXES)
    >>> detections = pa.Table.from_pylist([row | {"error": None, "orientation": 1}])
    >>> detections = detections.append_column("faces", nothing).append_column("hands", nothing)
    >>> table = pd.DataFrame({"frame_path": ["a.jpg"], "class_name": "ok", "label": 4, "wanted": True})
    >>> drawn = Decision("2027-01-02", "anna", "box", "a.jpg", None, None, "ok", (10.5, 20, 30, 40))
    >>> decisions, config = merge_decisions([drawn]), load_config()
    >>> samples = apply_decisions(table, detections, decisions, config.pairing, config).samples
    >>> samples.loc[0, ["outcome", "decision", "decided_by"]].tolist(), pairing.get_boxes(samples, "bbox").tolist()
    (['corrected', 'box', 'anna'], [[10.0, 20.0, 30.0, 40.0]])
    """
    findings = _Findings()
    contents = _find_contents(detections, decisions)
    hands, labels = (_select_holding(found, contents, findings) for found in (decisions.hands, decisions.labels))
    holding = MergedDecisions(hands, labels)
    chosen_labels = _choose_labels(table, labels, config, findings)
    relabelled = _apply_labels(table, detections, chosen_labels, config, findings)
    samples = pairing.pair_frames(relabelled, detections, settings)
    judged = _collect_hands(samples, hands, config.detection.pixels, findings)
    placed = _place_hands(samples, judged, detections, settings, findings)
    rejected = _reject_hands(samples, judged, findings)
    _mark_relabelled(samples, table, chosen_labels)
    counting = [*((int(judged.row[k]), judged.decisions[k]) for k in (*placed, *rejected)), *chosen_labels.items()]
    _write_decisions(samples, counting)
    contradictions = find_contradictions(holding)
    notes = [*note_contradictions(contradictions), *findings.list_notes()]
    return Corrected(samples, notes, [decision for _, decision in counting], contradictions)


def _find_contents(detections: pa.Table, decisions: MergedDecisions) -> dict[str, str | None]:
    """Return the content of each decided frame when detection ran on it; None if it is unknown."""
    frame_paths = list(decisions.hands.keys() | decisions.labels.keys())
    rows = _index(frame_paths, detections["frame_path"])
    contents: list[str | None] = detections["content"].take(rows).to_pylist()
    return dict(zip(frame_paths, contents, strict=True))


def _select_holding(
    decided: Mapping[str, Sequence[Decision]], contents: Mapping[str, str | None], findings: _Findings
) -> dict[str, list[Decision]]:
    """Select the decisions that are about the present content of their frames."""
    found = {
        frame_path: [decision for decision in decisions if holds(decision, contents[frame_path])]
        for frame_path, decisions in decided.items()
    }
    findings.add("stale", (frame_path for frame_path, decisions in found.items() if not decisions))
    holding = {frame_path: decisions for frame_path, decisions in found.items() if decisions}
    is_unchecked = (path for path, (*_, last) in holding.items() if last.content is None and contents[path] is not None)
    findings.add("unchecked", is_unchecked)
    return holding


def _choose_labels(
    table: pd.DataFrame, labels: Mapping[str, Sequence[Decision]], config: Config, findings: _Findings
) -> dict[int, Decision]:
    """Return the decision about the class that counts, by row of the table."""
    last = {frame_path: decisions[-1] for frame_path, decisions in labels.items()}
    unknown = [frame_path for frame_path, decision in last.items() if decision.class_name not in config.labels]
    findings.add("unknown_class", unknown)
    rows = _locate(table, last.keys() - set(unknown), findings)
    return {row: last[frame_path] for frame_path, row in rows.items()}


def _apply_labels(
    table: pd.DataFrame, detections: pa.Table, labels: Mapping[int, Decision], config: Config, findings: _Findings
) -> pd.DataFrame:
    """Return the frame table with the decided classes: `class_name`, `label` and `wanted`."""
    if not labels:
        return table
    rows, names = np.array(list(labels)), [str(decision.class_name) for decision in labels.values()]
    frames = table.iloc[rows]
    was_wanted, was_wanted_class = frames["wanted"].to_numpy(bool), frames["class_name"].isin(config.classes).to_numpy()
    is_wanted_class = np.array([name in config.classes for name in names])
    is_detected = _index(frames["frame_path"], detections["frame_path"]).is_valid().to_numpy(zero_copy_only=False)
    is_new = is_wanted_class & ~was_wanted & ~was_wanted_class  # a frame past the limit stays left out
    findings.add("relabelled", frames["frame_path"][was_wanted & ~is_wanted_class])
    findings.add("undetected", frames["frame_path"][is_new & ~is_detected])
    result = table.copy()
    _set(result, rows, "class_name", names)
    _set(result, rows, "label", [config.labels[name] for name in names])
    _set(result, rows, "wanted", np.where(was_wanted, is_wanted_class, is_new & is_detected))
    return result


def _collect_hands(
    samples: pd.DataFrame, hands: Mapping[str, Sequence[Decision]], pixels: str, findings: _Findings
) -> _Judged:
    """Collect the decisions about hands of wanted frames, in the pixels of the run."""
    rows = _locate(samples, hands, findings)
    wanted = samples["wanted"].to_numpy(bool)
    waiting = (path for path, row in rows.items() if not wanted[row] and hands[path][-1].hand is not None)
    findings.add("left_out_box", waiting)
    rows = {frame_path: row for frame_path, row in rows.items() if wanted[row]}
    counts = np.array([len(hands[frame_path]) for frame_path in rows], np.int64)
    decisions = [decision for frame_path in rows for decision in hands[frame_path]]
    is_last = np.zeros(len(decisions), bool)
    is_last[np.cumsum(counts) - 1] = True
    row = np.repeat(np.array(list(rows.values()), np.int64), counts)
    judged = list_corners(decision.judged_box for decision in decisions)
    hand = list_corners(decision.hand for decision in decisions)
    bbox = list_corners(decision.bbox for decision in decisions)
    wants_hand = ~np.isnan(hand[:, 0])
    differs = np.array([decision.pixels != pixels for decision in decisions], bool)
    is_known = _turn_to_run(samples.iloc[row], (judged, hand, bbox), differs, pixels)
    findings.add("unknown_pixels", (decisions[k].frame_path for k in np.flatnonzero(is_last & ~is_known)))
    return _Judged(decisions, row, is_last, wants_hand, judged, hand, bbox, is_known)


def _turn_to_run(frames: pd.DataFrame, kinds: Sequence[Floats], differs: Flags, pixels: str) -> Flags:
    """Turn boxes, in place, into the pixels of the run.

    Parameters
    ----------
    frames
        One row per decision.
    kinds
        Arrays of boxes, shape (N, 4).
    differs
        bool, shape (N,): whether the boxes of a decision are in the other pixels.
    pixels
        Of the run.

    Returns
    -------
    ndarray
        bool, shape (N,): False where a frame has boxes and nobody knows how it is turned.
    """
    orientation = np.where(differs, frames["orientation"].to_numpy(np.float64), 1.0)
    has_boxes = ~np.all([np.isnan(corners[:, 0]) for corners in kinds], axis=0)
    for stored in np.unique(orientation[orientation > 1]).astype(int).tolist():
        chosen = orientation == stored
        turned = stored if pixels == "upright" else boxes.invert_orientation(stored)
        size = frames[["width", "height"]].to_numpy(np.float64)[chosen]
        other_size = size[:, ::-1] if stored in boxes.SIDEWAYS else size
        for corners in kinds:
            fractions = corners[chosen] / np.tile(other_size, 2)
            # Rounded: the last digit of a whole number would make a crop a pixel larger.
            corners[chosen] = np.round(boxes.turn_boxes(fractions, turned, 1, 1) * np.tile(size, 2), 6)
    is_known: Flags = ~(np.isnan(orientation) & has_boxes)
    return is_known


def _place_hands(
    samples: pd.DataFrame, judged: _Judged, detections: pa.Table, settings: PairingConfig, findings: _Findings
) -> Integers:
    """Replace the hands of samples by decided ones; return the indices of the decisions that count."""
    chosen, hand, bbox = _clip_to_frames(samples, judged, findings)
    rows = judged.row[chosen]
    own = pairing.get_boxes(samples, "hand")[rows]
    is_moved = ~(np.abs(own - hand).max(axis=1, initial=0) <= _EQUAL)  # NaN, no hand of its own, is moved too
    _move_hands(samples, rows[is_moved], hand[is_moved], detections)
    _set_crops(samples, rows, np.where(is_moved[:, None], hand, own), bbox, is_moved, settings)
    return chosen


def _clip_to_frames(samples: pd.DataFrame, judged: _Judged, findings: _Findings) -> tuple[Integers, Floats, Floats]:
    """Return the indices of decisions whose boxes can be used, and their hands and crops, clipped to the frames."""
    chosen: Integers = np.flatnonzero(judged.is_last & judged.is_known & judged.wants_hand)
    size = samples[["width", "height"]].to_numpy(np.float64)[judged.row[chosen]]
    has_size = ~np.isnan(size[:, 0])
    findings.add("no_size", _list_paths(judged, chosen[~has_size]))
    chosen, size = chosen[has_size], size[has_size]
    hand, bbox = (boxes.clip_boxes(kind[chosen], size[:, 0], size[:, 1]) for kind in (judged.hand, judged.bbox))
    is_inside = (boxes.compute_area(hand) > 0) & ((boxes.compute_area(bbox) > 0) | np.isnan(bbox[:, 0]))
    findings.add("outside", _list_paths(judged, chosen[~is_inside]))
    return chosen[is_inside], hand[is_inside], bbox[is_inside]


def _move_hands(samples: pd.DataFrame, rows: Integers, hand: Floats, detections: pa.Table) -> None:
    """Set the hand of rows, and all that follows from it but the crop."""
    scores, finders = _find_detected(detections, samples["frame_path"].iloc[rows], hand)
    for k, corner in enumerate(CORNERS):
        _set(samples, rows, f"hand_{corner}", hand[:, k])
    _set(samples, rows, "hand_score", scores)
    _set(samples, rows, "found_by", finders)
    _set(samples, rows, "fallback", np.nan)
    _set(samples, rows, "overlap", boxes.compute_overlap(hand, pairing.get_boxes(samples, "square")[rows]))


def _set_crops(
    samples: pd.DataFrame, rows: Integers, hand: Floats, bbox: Floats, is_moved: Flags, settings: PairingConfig
) -> None:
    """Set the crops of rows, which are corrected if their hand or their crop is not what pairing chose."""
    frames = samples.iloc[rows]
    width, height = frames["width"].to_numpy(), frames["height"].to_numpy()
    crop = pairing.make_crops(hand, frames["class_name"], width, height, settings).astype(np.float64)
    has_bbox = ~np.isnan(bbox[:, 0])
    crop[has_bbox] = boxes.round_outward(bbox[has_bbox])
    is_corrected = is_moved | (pairing.get_boxes(frames, "bbox") != crop).any(axis=1)
    for k, corner in enumerate(CORNERS):
        _set(samples, rows, f"bbox_{corner}", crop[:, k])
    _set(samples, rows[is_corrected], "outcome", Outcome.CORRECTED.value)


def _reject_hands(samples: pd.DataFrame, judged: _Judged, findings: _Findings) -> Integers:
    """Reject hands that pairing chose; return the indices of the decisions that count."""
    chosen = np.flatnonzero(judged.is_last & judged.is_known & ~judged.wants_hand)
    rows = judged.row[chosen]
    hands = pairing.get_boxes(samples, "hand")
    is_rejected = np.isin(rows, _find_refused_rows(judged, hands[judged.row]))
    is_empty = np.isnan(hands[rows, 0])
    findings.add("asked_again", _list_paths(judged, chosen[~is_rejected & ~is_empty]))
    gone = rows[is_rejected & ~is_empty]
    _set(samples, gone, "outcome", Outcome.REJECTED.value)
    for corner in CORNERS:
        _set(samples, gone, f"bbox_{corner}", np.nan)
    counting: Integers = chosen[is_rejected | is_empty]
    return counting


def _find_refused_rows(judged: _Judged, hands: Floats) -> Integers:
    """Return the rows whose hand overlaps a box that somebody rejected, or replaced by one elsewhere.

    Parameters
    ----------
    judged
        The decisions.
    hands
        Shape (N, 4): what pairing chose in the frame of each decision.
    """
    is_refused = boxes.compute_iou(judged.hand, judged.judged) < SAME_BOX  # also where no hand is wanted
    is_chosen = boxes.compute_iou(hands, judged.judged) >= SAME_BOX
    rows: Integers = np.unique(judged.row[is_refused & is_chosen & judged.is_known])
    return rows


def _find_detected(detections: pa.Table, frame_paths: pd.Series, hands: Floats) -> tuple[Floats, NDArray[np.object_]]:
    """Return the score and the detector of the detected hand that equals each box; NaN and None if there is none."""
    scores, finders = np.full(len(hands), np.nan), np.full(len(hands), None, object)
    rows = _index(frame_paths, detections["frame_path"])
    found = find_candidates(detections.select(["faces", "hands"]).take(rows)).hands
    equal = np.flatnonzero(np.abs(found.corners - hands[found.frame]).max(axis=1, initial=0) <= _EQUAL)[::-1]
    frame = found.frame[equal]  # the first of equals is written last
    scores[frame] = found.scores[equal]
    finders[frame] = np.array([*found.detectors, None], object)[found.detector[equal]]
    return scores, finders


def _mark_relabelled(samples: pd.DataFrame, table: pd.DataFrame, labels: Mapping[int, Decision]) -> None:
    """Set the outcome of samples whose class is not that of the labels."""
    rows = np.array(list(labels), np.int64)
    before, after = (frames["class_name"].iloc[rows].to_numpy(object) for frames in (table, samples))
    is_sample = samples["outcome"].iloc[rows].isin(SAMPLES).to_numpy()
    _set(samples, rows[is_sample & (before != after)], "outcome", Outcome.CORRECTED.value)


def _write_decisions(samples: pd.DataFrame, counting: Iterable[tuple[int, Decision]]) -> None:
    """Fill the columns `decision`, `decided_by` and `decided_at` with the decisions that count, each with its row."""
    by_row: dict[int, list[Decision]] = {}
    for row, decision in counting:
        by_row.setdefault(row, []).append(decision)
    texts = [
        (
            "+".join(decision.action for decision in decisions),
            ", ".join(dict.fromkeys(decision.reviewer for decision in decisions)),
            max(decision.at for decision in decisions),
        )
        for decisions in by_row.values()
    ]
    rows = np.array(list(by_row), np.int64)
    for name, values in zip(DECISION_COLUMNS, zip(*texts, strict=True), strict=False):
        _set(samples, rows, name, list(values))


def _list_paths(judged: _Judged, chosen: Integers) -> list[str]:
    return [judged.decisions[k].frame_path for k in chosen]


def _locate(table: pd.DataFrame, frame_paths: Iterable[str], findings: _Findings) -> dict[str, int]:
    """Return the row of each frame, ascending; frames that the table lacks are findings."""
    paths = list(frame_paths)
    rows = _index(paths, pa.chunked_array([pa.array(table["frame_path"], pa.string())]))
    located = dict(zip(paths, rows.to_pylist(), strict=True))
    findings.add("unlisted", (path for path, row in located.items() if row is None))
    return dict(sorted(((path, row) for path, row in located.items() if row is not None), key=lambda item: item[1]))


def _index(frame_paths: Iterable[str], values: pa.ChunkedArray) -> pa.Array:
    """Return the position of each frame path among values, null where it is not there."""
    return pc.index_in(pa.array(frame_paths, pa.string()), value_set=values.combine_chunks())


def _set(table: pd.DataFrame, rows: Integers, column: str, values: Any) -> None:
    """Set values of a column, one per row or the same for all."""
    changed = table[column].copy()
    changed.iloc[rows] = values
    table[column] = changed

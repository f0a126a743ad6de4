"""Judgements of people, made into decisions: with who, when, and what they were about."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from detectime import boxes, pairing
from detectime.config import PairingConfig
from detectime.decisions import (
    ACTIONS,
    NEEDED,
    Action,
    Corners,
    Decision,
    DecisionError,
    check_reviewer,
    format_time,
    parse_corners,
)
from detectime.notes import Note, note_found, shorten_text
from detectime.runs import FinishedRun
from detectime.schema import CORNERS
from detectime.settings import suggest_name
from detectime.sources.reading import read_contents

_MOST_SHOWN = 20  # faults in a message
_SAME_CORNER = 1.0  # pixels up to which a chosen hand is a detected one


@dataclass(frozen=True)
class Judgement:
    """What a person said of a frame.

    Attributes
    ----------
    frame_path
        The frame.
    action
        What was said: see `decisions.Action`.
    box
        Of `box` and `choose_hand`: the hand, x1, y1, x2, y2 in pixels of the run's frames (`detection.pixels`); of
        `choose_hand` it is, within a pixel, one that was detected.
    bbox
        Of `box` and `choose_hand`: the crop, if it is not what follows from the hand and the class.
    class_name
        Of `label`: the class, one of `labels` of the run.
    """

    frame_path: str
    action: Action
    box: Corners | None = None
    bbox: Corners | None = None
    class_name: str | None = None


@dataclass(frozen=True)
class _Shown:
    """What a person saw of a frame: the class, the hand, the crop if it does not follow from these, and the size.

    `content` is that of the frame then, None where it is unknown; `detected` are the hands to choose from.
    """

    class_name: str
    hand: Corners | None
    bbox: Corners | None
    size: tuple[float, float] | None
    content: str | None
    detected: Sequence[Corners] = ()


def judge_frames(
    run: FinishedRun,
    judgements: Iterable[Judgement],
    reviewer: str,
    *,
    shown: pd.DataFrame | None = None,
    detections: pa.Table | None = None,
) -> list[Decision]:
    """Make decisions of what a person said; nothing is written: see `decision_files.DecisionLog`.

    A decision is about the content that the outcomes have of its frame. Where they have none, it is that of the
    detections; where these have none either, as those of 0.2, the frame is read. Everything is read once, however many
    frames there are.

    Parameters
    ----------
    run
        The run.
    judgements
        In the order in which they were said; several may be about one frame.
    reviewer
        The person.
    shown
        The outcomes that the person saw, in the pixels of the run; None: `FinishedRun.outcomes`.
    detections
        Rows of the detections table, with `frame_path`, `content` and `hands`, of these frames; None: they are read.

    Returns
    -------
    list of Decision
        One per judgement, in the same order. `content` is None if the frame cannot be read.

    Raises
    ------
    DecisionError
        If a judgement is about a frame that the run lacks, has a box outside its frame or of no area, chooses a hand
        that was not detected, has an unknown class, or lacks what its action needs: the message lists the first twenty.
    RunError
        If the tables of the run cannot be read, or, without `shown`, frames were detected since it was paired.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> judge_frames(open_run("output"), [Judgement("anna/0001.jpg", "reject")], "ben")  # doctest: +SKIP
    [Decision(at='2027-01-02T03:04:05.000006+00:00', reviewer='ben', action='reject', …)]
    """
    reviewer = check_reviewer(reviewer)
    judgements = list(judgements)
    if shown is None:
        run.check_paired(with_decisions=False)
        shown = run.outcomes
    seen = _find_shown(shown, [judgement.frame_path for judgement in judgements], run.pairing)
    _add_detected(run, seen, judgements, detections)
    _refuse_faults(judgements, seen, run.config.labels)
    _add_contents(run, seen, detections)
    return [
        _decide(judgement, seen[judgement.frame_path], reviewer, format_time(k), run)
        for k, judgement in enumerate(judgements)
    ]


def judge_frame(
    run: FinishedRun,
    frame_path: str,
    reviewer: str,
    action: Action,
    *,
    box: Sequence[float] | None = None,
    bbox: Sequence[float] | None = None,
    class_name: str | None = None,
) -> Decision:
    """Make a decision of what a person said of one frame: see `Judgement` and `judge_frames`.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> judge_frame(open_run("output"), "anna/0001.jpg", "ben", "label", class_name="ok")  # doctest: +SKIP
    Decision(at='2027-01-02T03:04:05.000006+00:00', reviewer='ben', action='label', …)
    """
    judgement = Judgement(frame_path, action, cast("Corners | None", box), cast("Corners | None", bbox), class_name)
    return judge_frames(run, [judgement], reviewer)[0]


def list_changed(run: FinishedRun, shown: pd.DataFrame) -> list[str]:
    """List the frames whose content was another one when they were shown than the present detections have.

    Parameters
    ----------
    run
        The run.
    shown
        Rows with `frame_path` and `content`, null or empty where it is unknown.

    Raises
    ------
    RunError
        If the detections cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> list_changed(run, run.outcomes)  # doctest: +SKIP
    []
    """
    present = _read_contents(run, shown["frame_path"].tolist())
    before = zip(shown["frame_path"].tolist(), _list_texts(shown["content"]), strict=True)
    return [path for path, content in before if content and present[path] and content != present[path]]


def note_unread(decisions: Iterable[Decision]) -> list[Note]:
    """Note decisions about frames that could not be read: their content is unknown.

    Examples
    --------
    >>> print(*note_unread([Decision(format_time(), "anna", "keep", "a.jpg", None, None, "ok")]))
    1 frame could not be read: its decision cannot notice when it changes (the first: 'a.jpg')
    """
    unread = list(dict.fromkeys(decision.frame_path for decision in decisions if decision.content is None))
    one = "frame could not be read: its decision cannot notice when it changes"
    return note_found("unread", unread, one, "frames could not be read: their decisions cannot notice when they change")


def _find_shown(samples: pd.DataFrame, frame_paths: Sequence[str], settings: PairingConfig) -> dict[str, _Shown]:
    """Return what was shown of frames; those that the table lacks are left out."""
    wanted = pc.unique(pa.array(frame_paths, pa.string()))
    positions = pc.index_in(wanted, value_set=pa.array(samples["frame_path"], pa.string())).drop_null()
    frames = samples.iloc[positions.to_numpy(zero_copy_only=False)]
    hands, crops = pairing.get_boxes(frames, "hand"), pairing.get_boxes(frames, "bbox")
    size = frames[["width", "height"]].to_numpy(np.float64)
    derived = np.full_like(crops, np.nan)
    is_sample = ~np.isnan(crops[:, 0])
    derived[is_sample] = pairing.make_crops(
        hands[is_sample], frames["class_name"][is_sample], size[is_sample, 0], size[is_sample, 1], settings
    )
    own_crops = np.where((crops == derived).all(axis=1)[:, None], np.nan, crops)
    columns = (_list_boxes(hands), _list_boxes(own_crops), size.tolist(), _list_texts(frames["content"]))
    return {
        frame_path: _Shown(class_name, hand, crop, None if np.isnan(width) else (width, height), content)
        for frame_path, class_name, hand, crop, (width, height), content in zip(
            frames["frame_path"].tolist(), frames["class_name"].tolist(), *columns, strict=True
        )
    }


def _list_boxes(corners: boxes.Floats) -> list[Corners | None]:
    """Return boxes of shape (N, 4) as tuples, None for NaN."""
    rows: list[list[float]] = corners.tolist()
    return [None if np.isnan(x1) else (x1, y1, x2, y2) for x1, y1, x2, y2 in rows]


def _list_texts(column: pd.Series) -> list[str | None]:
    return [text if isinstance(text, str) else None for text in column.tolist()]


def _add_contents(run: FinishedRun, seen: dict[str, _Shown], detections: pa.Table | None) -> None:
    """Set the contents that were not shown: those of detection or, where these are unknown, of the source."""
    found = _read_contents(run, [path for path, shown in seen.items() if shown.content is None], detections)
    unknown = [path for path, content in found.items() if content is None]
    if unknown:
        found |= read_contents(run.source, unknown, max_pixels=run.config.detection.max_pixels)
    for path, content in found.items():
        seen[path] = dataclasses.replace(seen[path], content=content)


def _read_contents(
    run: FinishedRun, frame_paths: Sequence[str], detections: pa.Table | None = None
) -> dict[str, str | None]:
    """Return the content of each frame at detection, None where it is unknown."""
    if not frame_paths:
        return {}
    rows = _read_detections(run, "content", frame_paths, detections)
    return dict(zip(frame_paths, rows.to_pylist(), strict=True))


def _add_detected(
    run: FinishedRun, seen: dict[str, _Shown], judgements: Iterable[Judgement], detections: pa.Table | None
) -> None:
    """Set the detected hands of frames of which one is chosen."""
    chosen = {each.frame_path for each in judgements if each.action == "choose_hand"}
    paths = [path for path in seen if path in chosen]
    if not paths:
        return
    for path, hands in zip(paths, _read_detections(run, "hands", paths, detections).to_pylist(), strict=True):
        detected = [parse_corners([hand[corner] for corner in CORNERS], "hand") for hand in hands or ()]
        seen[path] = dataclasses.replace(seen[path], detected=detected)


def _read_detections(
    run: FinishedRun, column: str, frame_paths: Sequence[str], detections: pa.Table | None
) -> pa.ChunkedArray:
    """Return a column of the detections of frames, null where there are none."""
    if detections is None:
        detections = run.read_detections(["frame_path", column])
    rows = pc.index_in(pa.array(frame_paths, pa.string()), value_set=detections["frame_path"].combine_chunks())
    return detections[column].take(rows)


def _decide(judgement: Judgement, shown: _Shown, reviewer: str, at: str, run: FinishedRun) -> Decision:
    box = None if judgement.box is None else parse_corners(judgement.box, "box")
    if box is not None and judgement.action == "choose_hand":
        box = _find_nearest(box, shown.detected)[0]
    bbox = shown.bbox if judgement.action == "keep" else judgement.bbox
    return Decision(
        at=at,
        reviewer=reviewer,
        action=judgement.action,
        frame_path=judgement.frame_path,
        content=shown.content,
        judged_box=shown.hand,
        judged_class=shown.class_name,
        box=box,
        bbox=None if bbox is None else parse_corners(bbox, "bbox"),
        class_name=judgement.class_name,
        pixels=run.config.detection.pixels,
    )


def _refuse_faults(judgements: Sequence[Judgement], seen: Mapping[str, _Shown], labels: Mapping[str, int]) -> None:
    """Refuse judgements that cannot become decisions."""
    found = [
        f"  {k}. {shorten_text(judgement.frame_path)}: {fault}"
        for k, judgement in enumerate(judgements, start=1)
        if (fault := _find_fault(judgement, seen.get(judgement.frame_path), labels))
    ]
    if not found:
        return
    more = [f"  and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
    what = "judgement is" if len(found) == 1 else "judgements are"
    raise DecisionError("\n".join([f"{len(found)} {what} refused; nothing was decided:", *found[:_MOST_SHOWN], *more]))


def _find_fault(judgement: Judgement, shown: _Shown | None, labels: Mapping[str, int]) -> str | None:
    """Say why a judgement cannot become a decision; None if it can."""
    if judgement.action not in ACTIONS:
        return f"action = {judgement.action!r}: {suggest_name(judgement.action, ACTIONS)}"
    if shown is None:
        return "the labels of the run have no such frame"
    needed, given = NEEDED.get(judgement.action), judgement.class_name
    if needed and getattr(judgement, needed) is None:
        return f"`{judgement.action}` needs the argument `{needed}`"
    foreign = _find_foreign_value(judgement)
    if foreign:
        return f"`{foreign}` does not belong to `{judgement.action}`"
    if given is not None and given not in labels:
        return f"class_name = {given!r}: {suggest_name(given, labels)}, or add it to `labels` of the run"
    return _find_box_fault(judgement, shown) or _find_choice_fault(judgement, shown)


def _find_foreign_value(judgement: Judgement) -> str | None:
    """Return the name of a value that the action has no use for."""
    used = {"box": {"box", "bbox"}, "choose_hand": {"box", "bbox"}, "label": {"class_name"}}.get(judgement.action, ())
    names = ("box", "bbox", "class_name")
    return next((name for name in names if getattr(judgement, name) is not None and name not in used), None)


def _find_box_fault(judgement: Judgement, shown: _Shown) -> str | None:
    """Say what is wrong with the boxes of a judgement."""
    for name in ("box", "bbox"):
        value = getattr(judgement, name)
        if value is None:
            continue
        try:
            x1, y1, x2, y2 = parse_corners(value, name)
        except ValueError as error:
            return str(error)
        if x1 >= x2 or y1 >= y2:
            return f"{name} = {list(value)}: it has no area; x1 must be less than x2, and y1 less than y2"
        if shown.size and (x1 >= shown.size[0] or y1 >= shown.size[1] or x2 <= 0 or y2 <= 0):
            width, height = shown.size
            return f"{name} = {list(value)}: it lies outside its frame of {width:.0f} × {height:.0f} pixels"
    return None


def _find_choice_fault(judgement: Judgement, shown: _Shown) -> str | None:
    """Say why a chosen hand is none that was detected."""
    if judgement.action != "choose_hand" or judgement.box is None:
        return None
    if not shown.detected:
        return "no hand was detected in this frame; draw one: `box`"
    nearest, distance = _find_nearest(judgement.box, shown.detected)
    if distance <= _SAME_CORNER:
        return None
    corners = [round(corner, 2) for corner in nearest]
    return f"box = {list(judgement.box)}: no such hand was detected; the nearest is {corners}, or draw one: `box`"


def _find_nearest(box: Corners, detected: Sequence[Corners]) -> tuple[Corners, float]:
    """Return the detected hand that is nearest to a box, and by how many pixels their corners differ at most."""
    distances = np.abs(np.array(detected) - np.array(box)).max(axis=1)
    nearest = int(distances.argmin())
    return detected[nearest], float(distances[nearest])

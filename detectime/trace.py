"""Everything that a run knows of one frame: where its sample comes from, or why it has none."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import detectime
from detectime import config as configuration
from detectime import corrections, decisions, pairing, sources, splits
from detectime.decision_files import read_decisions
from detectime.errors import DocumentedError
from detectime.labels.tables import rename_reserved_columns
from detectime.notes import shorten_text
from detectime.runs import FinishedRun
from detectime.schema import (
    CORNERS,
    DECISION_COLUMNS,
    DETECTIONS,
    DETECTIONS_FILE,
    FRAMES_FILE,
    LANDMARKS,
    OUTCOME_COLUMNS,
    OUTCOMES_FILE,
    PAIRING_COLUMNS,
    Outcome,
    upgrade_table,
)
from detectime.sources import archive
from detectime.storage import run_tables, urls

Trace = dict[str, Any]
"""What `trace_frame` returns."""

_KEY = "frame_path"
_KINDS = {kind.value: kind for kind in Outcome}
_PAIR_BOXES = ("face", "hand", "square")
_PAIR_FACTS = ("overlap", "fallback", "found_by", "other_hand")
_PER_HAND = ("landmarks", "presence", "handedness", "proposal", "crop_hash")
_NEIGHBOURS = 25  # names on each side of an unknown one, in sorted order, that may have been meant
_COMPARED = 1000  # files in the same folder, or of the same name in others, that may have been meant


class UntracedFrameError(DocumentedError, LookupError):
    """A frame that is not in the frame table of a run; the message gives the closest name."""


def trace_frame(run: FinishedRun, frame_path: str) -> Trace:
    """Collect everything that a run knows of one frame.

    Only the rows of this frame are converted, and no image is read: in a run of 175,000 frames it takes a fraction of a
    second.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    frame_path
        The frame, as in the frame table.

    Returns
    -------
    dict
        Plain values for JSON:

        - `frame_path`, and `output`, the folder of the run;
        - `outcome`: its `name`, the `sentence` that explains it, the `error` of detection, and the `decision` that was
          applied, `decided_by` whom and `decided_at` what time, or None;
        - `sample`: `class_name`, `label` and `bbox`, integers, as in ``hands.json``, and the `hand`; None if the frame
          has no sample;
        - `split`: the part of the split that its group is in; None if there is no ``split.csv``, or the group is not in
          it;
        - `frame`: its row of the frame table, before decisions;
        - `source`: `images` and `source_type`, ``folder``, ``archives`` or ``videos``, where the frame was read from;
        - `detection`: its row of the detections table, None if it was not detected. Each of `faces` and `hands` has x1,
          y1, x2, y2 in pixels of the frame, score, detector and stage; a hand also has landmarks (21 × [x, y, z]),
          presence, handedness, proposal and crop_hash (in hexadecimal), None where they are unknown;
        - `pairing`: `rule` and `settings` of the last pairing; which `pixels` its boxes are in, ``upright`` or
          ``stored``; and what it chose, whatever people decided: `face`, `hand` and `square` (x1, y1, x2, y2),
          `overlap` in square pixels, `fallback`, `found_by` and `other_hand`, None where there is none;
        - `decisions`: what people decided of it, the oldest first, also what no longer counts: the lines of their files
          and `counts`, whether pairing applies it;
        - `needs_pairing`: whether frames were detected or decisions made since the run was paired, so that `outcome`
          and `sample` may be others once it is paired again;
        - `detectors`: revision and weights (file name → sha256) of each;
        - `configuration`: the keys whose value differs from the default of this release;
        - `versions` of detectime: `made_by`, which began the run, `detectime`, which wrote it last, and `this`;
        - `started`, `finished`: of the run, ISO 8601.

    Raises
    ------
    UntracedFrameError
        If the frame is not in the frame table.
    RunError, TableVersionError, StoreError
        If a table of the run cannot be read.
    """
    made, settings = run.manifest, run.pairing
    frame = _read_frame(run, frame_path)
    detection = _read_detection(run, frame_path)
    paired = _pair_frame(frame, detection, settings)
    outcome = _read_outcome(run, frame_path, paired)
    trace = {
        _KEY: frame_path,
        "output": str(run.store),
        "outcome": _describe_outcome(outcome),
        "sample": _describe_sample(outcome),
        "split": _find_split(run, outcome["video_name"]),
        "frame": frame.to_dict("records")[0],
        "source": {"images": run.config.data.images, "source_type": _name_source_type(run)},
        "detection": _describe_detection(detection),
        "pairing": {
            **pairing.describe_pairing(settings),
            "pixels": run.config.detection.pixels,
            **{kind: _get_box(paired, kind) for kind in _PAIR_BOXES},
            **{fact: paired.get(fact) for fact in _PAIR_FACTS},
        },
        "decisions": _list_decisions(run, frame, detection),
        "needs_pairing": run.needs_pairing,
        "detectors": made["detectors"],
        "configuration": configuration.list_differences(dataclasses.replace(run.config, pairing=settings)),
        "versions": {"made_by": made["made_by"], "detectime": made["detectime"], "this": detectime.__version__},
        "started": made["started"],
        "finished": made["finished"],
    }
    return {key: _make_plain(value) for key, value in trace.items()}


def format_trace(trace: Mapping[str, Any]) -> str:
    """Format a trace for a terminal: the outcome, then the facts, one per line; landmarks and hashes are left out.

    Parameters
    ----------
    trace
        What `trace_frame` returned.

    Examples
    --------
    >>> outcome = {"name": "no_face", "sentence": "No face was found.", "error": None, "decision": None}
    >>> print(format_trace({"frame_path": "anna/1.jpg", "outcome": outcome, "split": "train", "decisions": []}))
    anna/1.jpg: no_face. No face was found.
    split      train
    decisions  none
    """
    outcome = trace["outcome"]
    facts = {name: value for name, value in trace.items() if name not in (_KEY, "outcome")}
    if outcome["decision"]:
        facts = {"decision": f"{outcome['decision']} by {outcome['decided_by']}, {outcome['decided_at']}", **facts}
    width = max(map(len, facts), default=0) + 2
    lines = (line for name, value in facts.items() for line in _list_facts(name, value, width))
    return "\n".join([f"{trace[_KEY]}: {outcome['name']}. {outcome['error'] or outcome['sentence']}", *lines])


# -- reading


def _read_frame(run: FinishedRun, frame_path: str) -> pd.DataFrame:
    """Return the row of the frame table, as a table of one row."""
    row = _read_row(
        run, FRAMES_FILE, frame_path, lambda: run.frames, run_tables.FRAME_KINDS | {"wanted": run_tables.FLAGS}
    )
    if row is not None:
        return rename_reserved_columns(row.replace_schema_metadata().to_pandas(), OUTCOME_COLUMNS)[0]
    frames = run.frames  # also if a run of 0.2 has no such file
    found = frames[frames[_KEY] == frame_path].reset_index(drop=True)
    if not len(found):
        raise UntracedFrameError(
            f"{run.store}: {shorten_text(frame_path)} is not a frame_path of this run; "
            f"{_suggest_frame(frame_path, pa.chunked_array([pa.array(frames[_KEY], pa.string())]))}"
        )
    return found


def _read_detection(run: FinishedRun, frame_path: str) -> pa.Table:
    """Return the row of the detections table; a table without rows if there is none."""
    row = _read_row(run, DETECTIONS_FILE, frame_path, run.read_detections, {_KEY: run_tables.TEXT})
    if row is not None:
        return upgrade_table(row)
    run.read_detections([_KEY])  # raises if the file is lost
    return DETECTIONS.empty_table()


def _read_outcome(run: FinishedRun, frame_path: str, paired: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the outcomes table; if the run was not paired yet, what pairing gives."""
    row = _read_row(run, OUTCOMES_FILE, frame_path, lambda: run.outcomes, run_tables.OUTCOME_KINDS)
    return paired if row is None else dict(row.to_pylist()[0])


def _read_row(
    run: FinishedRun,
    name: str,
    frame_path: str,
    read_all: Callable[[], object],
    columns: Mapping[str, str],
) -> pa.Table | None:
    """Return the row of a frame in a Parquet file; None if there is no such row, or no such file.

    Of a row group only the names are read, unless it has the frame. If the file is damaged, `read_all` says what to do,
    or knows the rows from elsewhere: None is returned then.
    """
    content = run.store.open(name)
    if content is None:
        return None
    try:
        with content, pq.ParquetFile(content, page_checksum_verification=True) as file:
            run_tables.check_columns(file.schema_arrow.empty_table(), columns)
            for number in range(file.num_row_groups):
                names = file.read_row_group(number, [_KEY])[_KEY]
                position = pc.index(names, pa.scalar(frame_path, names.type)).as_py()
                if position >= 0:
                    row = file.read_row_group(number).slice(position, 1)
                    run_tables.check_columns(row, columns)
                    return row
    except (pa.ArrowException, OSError, ValueError):
        read_all()
    return None


def _pair_frame(frame: pd.DataFrame, detection: pa.Table, settings: configuration.PairingConfig) -> dict[str, Any]:
    """Pair this frame alone: a frame's pair depends on no other frame."""
    samples = pairing.pair_frames(frame, detection.select(PAIRING_COLUMNS), settings)
    return {str(name): value for name, value in samples.iloc[0].items()}


def _list_decisions(run: FinishedRun, frame: pd.DataFrame, detection: pa.Table) -> list[dict[str, Any]]:
    """Return the decisions about a frame, each with `counts`."""
    found, _ = read_decisions(run.store, str(frame[_KEY].iloc[0]))
    merged = decisions.merge_decisions(found)
    applied = corrections.apply_decisions(frame, detection.select(PAIRING_COLUMNS), merged, run.pairing, run.config)
    return decisions.describe_decisions(found, applied.counting)


def _name_source_type(run: FinishedRun) -> str:
    data = run.config.data
    if data.source_type is not None:
        return data.source_type
    if sources.are_videos(data.images):
        return "videos"
    return "archives" if archive.find_archives(urls.strip_file_scheme(data.images)).are_the_source else "folder"


def _find_split(run: FinishedRun, group: str) -> str | None:
    split = splits.read_split(run.store)
    if split is None:
        return None
    parts = split.loc[split["video_name"] == group, "split"]
    return str(parts.iloc[0]) if len(parts) else None


def _suggest_frame(frame_path: str, names: pa.ChunkedArray) -> str:
    """Say which frame was probably meant."""
    # Comparing with all names takes seconds.
    folder, slash, name = frame_path.rpartition("/")
    beside = names.filter(pc.starts_with(names, folder + slash))
    namesakes = names.filter(pc.ends_with(names, name))
    ordered = names.take(pc.sort_indices(names))
    place = pc.sum(pc.less(ordered, frame_path)).as_py() or 0
    first = max(0, place - _NEIGHBOURS)
    alike = ordered.slice(first, place + _NEIGHBOURS - first)
    compared = [name for some in (beside, namesakes, alike) for name in some.slice(0, _COMPARED).to_pylist()]
    close = difflib.get_close_matches(frame_path, dict.fromkeys(compared), n=1, cutoff=0.5)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}accepted: a frame_path of outcomes.csv"


# -- describing


def _describe_outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    kind = _KINDS[outcome["outcome"]]
    decided = {name: outcome.get(name) for name in DECISION_COLUMNS}
    return {"name": kind.value, "sentence": kind.sentence, "error": outcome["error"], **decided}


def _describe_sample(outcome: Mapping[str, Any]) -> dict[str, Any] | None:
    if not _KINDS[outcome["outcome"]].is_sample:
        return None
    bbox = [int(value) for value in _get_box(outcome, "bbox") or ()]
    return {
        "class_name": outcome["class_name"],
        "label": outcome["label"],
        "bbox": bbox,
        "hand": _get_box(outcome, "hand"),
    }


def _describe_detection(detection: pa.Table) -> dict[str, Any] | None:
    """Return a row of the detections table in which each hand is one dict."""
    if not len(detection):
        return None
    row: dict[str, Any] = detection.to_pylist()[0]
    further = {name: row.pop(name) for name in _PER_HAND}
    further["landmarks"] = [_split_landmarks(points) for points in further["landmarks"]]
    for number, hand in enumerate(row["hands"]):
        hand.update({name: values[number] for name, values in further.items()})
    return row


def _split_landmarks(points: list[float] | None) -> list[list[float]] | None:
    return None if points is None else np.reshape(points, (LANDMARKS, 3)).tolist()


def _get_box(row: Mapping[str, Any], kind: str) -> list[float] | None:
    corners = [row[f"{kind}_{corner}"] for corner in CORNERS]
    return None if _make_plain(corners[0]) is None else corners


def _make_plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and the like become None, bytes hexadecimal digits, all else text."""
    if isinstance(value, Mapping):
        return {str(key): _make_plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_make_plain(inside) for inside in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


# -- formatting


def _list_facts(name: str, value: Any, width: int) -> Iterator[str]:
    """Yield the lines of a fact: the first has its name, in a column of this width."""
    lines = list(_list_lines(value)) or ["none"]
    yield f"{name:<{width}}{lines[0]}".rstrip()
    yield from (f"{'':<{width}}{line}" for line in lines[1:])


def _list_lines(value: Any) -> Iterator[str]:
    """Yield a line per key, or per element of a list."""
    if isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _list_key_lines(str(key), inside)
    elif isinstance(value, list) and any(isinstance(inside, Mapping) for inside in value):
        for inside in value:
            yield _format_record(inside)
    elif value is not None and value != []:
        yield _format_value(value)


def _list_key_lines(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, list) and any(isinstance(inside, Mapping) for inside in value):
        for number, inside in enumerate(value, start=1):
            yield f"{key} {number}: {_format_record(inside)}"
    elif isinstance(value, Mapping):
        yield f"{key}: {_format_record(value)}"
    else:
        yield f"{key}: {_format_value(value)}"


def _format_record(record: Mapping[str, Any]) -> str:
    """Format a mapping in one line; a box is one item, and what is long or unknown is left out."""
    shown = {key: value for key, value in record.items() if value is not None and key not in ("landmarks", "crop_hash")}
    box = [shown.pop(corner) for corner in CORNERS] if all(corner in shown for corner in CORNERS) else None
    items = [] if box is None else [_format_value(box)]
    items += [f"{key} {_format_item(value)}" for key, value in shown.items()]
    return ", ".join(items) or "none"


def _format_item(value: Any) -> str:
    return f"({_format_record(value)})" if isinstance(value, Mapping) else _format_value(value)


def _format_value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(_format_value, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)

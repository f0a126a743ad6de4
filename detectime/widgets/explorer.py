"""The explorer: all frames of a run in a grid, with filters, and pairing tried under other settings."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from detectime import outcomes, pairing
from detectime.boxes import Floats
from detectime.candidates import Indices
from detectime.comparison import Change, change_settings, compare_samples
from detectime.config import PairingConfig, config_to_dict
from detectime.decisions import DecisionError
from detectime.detection.manifest import RunError
from detectime.doubt import Reason
from detectime.errors import ConfigError, DocumentedError
from detectime.report.card_boxes import Row
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome
from detectime.widgets import selection
from detectime.widgets.doubt_process import score_in_process
from detectime.widgets.frame_widget import (
    FrameWidget,
    Message,
    Reply,
    check_run,
    describe_pairing,
    read_script,
    read_style,
)
from detectime.widgets.run_frames import RunFrames, describe_row_outcome
from detectime.widgets.still import Still, make_still
from detectime.widgets.trial import Trial

_SETTINGS = (
    *("crop_coefficient", "wider_coefficient", "crop_hand_coefficient"),
    *("fallback", "min_face_score", "min_hand_score"),
)
"""The settings of pairing that can be tried."""

_RANGES = {  # lowest, highest, step
    "crop_coefficient": (0.5, 5.0, 0.05),
    "wider_coefficient": (0.5, 6.0, 0.05),
    "crop_hand_coefficient": (0.5, 4.0, 0.05),
    "min_face_score": (0.0, 1.0, 0.01),
    "min_hand_score": (0.0, 1.0, 0.01),
}
_MOST_GROUPS = 500  # in a list to choose from
_MOST_ROWS = 400  # of a reply
_CHECKED = 2.0  # seconds between two looks for decisions of others
_PICTURES_FIRST = 2.0  # seconds before doubt is scored, so that the first pictures come soon
_STRIP = 15  # frames of the same group before, and after
_SHOWN_BEFORE = (Change.MOVED.value, Change.LOST.value)

_logger = logging.getLogger(__name__)


class Explorer(FrameWidget):
    """Look at every frame of a run in a notebook, and try settings of pairing.

    Nothing is written until "Apply", which pairs the run with the settings that were tried and writes ``hands.json``.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    doubt
        What `doubt.score_doubt` returned, such as with a label check; None: it is computed while the widget is in use.

    Raises
    ------
    RunError
        If tables of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> Explorer(open_run("output"))  # doctest: +SKIP
    """

    _esm = read_script("explorer")
    _css = read_style("explorer")

    def __init__(self, run: FinishedRun, *, doubt: pd.DataFrame | None = None) -> None:
        check_run(run)
        self._trial = Trial(run)
        super().__init__(run, RunFrames(run, self._trial.saved))
        if doubt is not None and not self.frames.samples["frame_path"].isin(doubt["frame_path"]).all():
            raise ConfigError("doubt: it lacks frames of this run; pass what doubt.score_doubt(run) returned, or None")
        self._given_doubt = doubt
        self._doubt: Floats | None = None
        self._looked = time.monotonic()
        self._reasons: list[str] = []
        self._doubt_thread: threading.Thread | None = None
        self._settings: PairingConfig | None = None  # None: as saved
        self._samples = self._trial.saved
        self._changes: pd.DataFrame | None = None  # against what is saved; None: there are none
        self._selection, self._order = 0, np.arange(len(self._samples), dtype=np.int64)
        self._answers |= {
            "open": self._open,
            "select": self._select,
            "rows": self._get_rows,
            "frame": self._get_frame,
            "apply": self._apply,
        }

    def __repr__(self) -> str:
        return f"Explorer({str(self.run.store)!r}, {len(self.frames.samples):,} frames)"

    @property
    def selected(self) -> list[str]:
        """Paths of the frames that are selected in the grid, in its order: `Review(run, frames=explorer.selected)`."""
        paths: list[str] = self._samples["frame_path"].iloc[self._order].tolist()
        return paths

    @property
    def samples(self) -> pd.DataFrame:
        """The outcomes under the settings that are tried: one row per frame, as `pairing.pair_frames` returns them."""
        return self._samples

    def make_still(self) -> Still:
        """Make the static picture: frames of as many classes and groups as possible."""
        text = (
            f"{self.run.store}: {outcomes.summarize_samples(self._samples)}. Run this cell in JupyterLab, Colab or VS "
            "Code to look at every frame and to try settings of pairing."
        )
        rows = self._samples[self._samples["outcome"].isin(SAMPLES).to_numpy()]
        return make_still(self.run, self.frames, rows if len(rows) else self._samples, text)

    # -- answers to messages

    def _open(self, _: Message) -> Reply:
        self._start_doubt()
        return {"kind": "opened", "facts": self._list_facts()}

    def _select(self, message: Message) -> Reply:
        start = time.perf_counter()
        self._look_for_decisions()
        self._try_settings(message.get("settings"))
        wanted = selection.read_filter(message.get("filter") or {})
        changes = None if self._changes is None else self._changes["change"]
        rows = selection.select_rows(
            self._samples, wanted, doubt=self._doubt, changes=changes, new=self._trial.new_decisions
        )
        self._order = selection.sort_rows(
            self._samples, rows, str(message.get("sort") or "table"), bool(message.get("descending")), doubt=self._doubt
        )
        self._selection += 1
        counts = selection.count_rows(self._samples, self._trial.saved, self._changes)
        return {
            "kind": "selected",
            "selection": self._selection,
            "total": len(self._order),
            **counts,
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _get_rows(self, message: Message) -> Reply:
        if message["selection"] != self._selection:
            return {
                "kind": "rows",
                "selection": message["selection"],
                "from": message["from"],
                "rows": [],
                "stale": True,
            }
        first = max(0, int(message["from"]))
        rows = self._order[first : min(int(message["to"]), first + _MOST_ROWS)]
        return {"kind": "rows", "selection": self._selection, "from": first, "rows": self._describe_rows(rows)}

    def _get_frame(self, message: Message) -> Reply:
        row = int(message["row"])
        if not 0 <= row < len(self._samples):
            raise DecisionError(f"There is no row {row} in this run of {len(self._samples):,} frames.")
        values = self.frames.get_row(row, self._samples)
        (frame,) = self._describe_rows(np.array([row]))
        boxes = [vars(box) for box in self.frames.read_boxes([row], self._settings).list_boxes(values)]
        before = [box for box in frame["boxes"] if box["kind"] == "before"]
        group = self.frames.list_rows_of_group(row)
        here = int(np.flatnonzero(group == row)[0])
        strip = self._describe_rows(group[max(0, here - _STRIP) : here + _STRIP + 1])
        lines = [*self._describe_frame(values, row)]
        return {
            "kind": "frame",
            "row": row,
            "place": next(iter(np.flatnonzero(self._order == row).tolist()), None),
            "frame": frame | {"boxes": [*before, *boxes], "lines": lines},
            "strip": strip,
        }

    def _apply(self, message: Message) -> Reply:
        settings = self._read_settings(message.get("settings"))
        self.run.refresh()
        self._check_frames(self.run.frames)
        text = describe_pairing(self.run, outcomes.pair_run(self.run, settings or self.run.pairing))
        self._refresh()
        return {"kind": "applied", "text": text, "facts": self._list_facts()}

    # -- what others change

    def _look_for_decisions(self) -> None:
        """Take decisions that people made since, such as in a review beside this, and tell the front end."""
        if time.monotonic() - self._looked < _CHECKED:
            return
        self._looked = time.monotonic()
        try:
            if not self._trial.is_outdated:
                return
            trial = Trial(self.run)
        except RunError:  # what is shown stays of use
            self.send({"kind": "facts", "facts": {"state": "Frames of this run are being detected."}})
            return
        self._check_frames(trial.saved)
        self._trial = trial
        self._refresh(reads=False)
        self.send({"kind": "facts", "facts": self._list_facts()})

    def _check_frames(self, table: pd.DataFrame) -> None:
        """Refuse to go on with a run that has other frames than those that are shown."""
        if table["frame_path"].tolist() != self.frames.samples["frame_path"].tolist():
            raise ConfigError("The run has other frames now: run this cell again to see them.")

    def _refresh(self, *, reads: bool = True) -> None:
        """Show the run as it is now; the settings are those of the run."""
        if reads:
            self._trial.refresh()
        self.frames.set_samples(self._trial.saved)
        self._settings, self._samples, self._changes = None, self._trial.saved, None
        if self._doubt is not None:  # nobody doubts what a person decided
            self._doubt[self._trial.saved["decision"].notna().to_numpy()] = 0
        if self._given_doubt is None and self._doubt is not None:  # else it is being scored
            self._doubt_thread = None
            self._start_doubt()

    # -- settings of pairing

    def _read_settings(self, values: Mapping[str, Any] | None) -> PairingConfig | None:
        """Return the settings that a message gives; None if they are those of the run."""
        if values is None:
            return None
        unknown = sorted(set(values) - set(_SETTINGS))
        if unknown:
            raise ConfigError(f"{unknown[0]}: this setting cannot be tried here; accepted: {', '.join(_SETTINGS)}")
        settings = change_settings(self.run.pairing, values)
        return None if settings == self.run.pairing else settings

    def _try_settings(self, values: Mapping[str, Any] | None) -> None:
        """Pair with other settings, unless they are those of the last time."""
        settings = self._read_settings(values)
        if settings == self._settings:
            return
        if settings is None:
            self._samples, self._changes = self._trial.saved, None
        else:
            self._samples = self._trial.pair(settings)
            self._changes = compare_samples(self._trial.saved, self._samples)
        self._settings = settings

    # -- doubt

    def _start_doubt(self) -> None:
        """Score the doubt in a thread: it takes seconds where there are many frames."""
        if self._doubt_thread is not None:
            return
        this = weakref.ref(self)
        run, given = self.run, self._given_doubt

        def score() -> None:
            time.sleep(_PICTURES_FIRST)
            try:
                found = score_in_process(run) if given is None else given
            except (DocumentedError, OSError) as error:  # the grid is of use without it
                _logger.warning("%s", error)
                return
            widget = this()
            if widget is not None:
                widget.set_doubt(found)

        self._doubt_thread = threading.Thread(target=score, name="detectime doubt", daemon=True)
        self._doubt_thread.start()

    def set_doubt(self, doubt: pd.DataFrame) -> None:
        """Take the doubt of the frames, and tell the front end that they can be sorted by it."""
        rows = pd.Index(doubt["frame_path"]).get_indexer(pd.Index(self._trial.saved["frame_path"]))
        found = doubt.iloc[np.maximum(rows, 0)]
        self._reasons = found["reasons"].where(rows >= 0, "").tolist()
        self._doubt = np.where(rows >= 0, found["doubt"].to_numpy(np.float64), np.nan)
        self.send({"kind": "facts", "facts": {"doubt_ready": True}})

    # -- words

    def _list_facts(self) -> Reply:
        samples, config = self.frames.samples, self.run.config
        groups = pd.unique(samples["video_name"].astype(str))
        counts = samples["outcome"].value_counts()
        settings = {name: config_to_dict(self.run.pairing)[name] for name in _SETTINGS}
        classes = samples[["label", "class_name"]].drop_duplicates("class_name").sort_values("label")["class_name"]
        return {
            "frames": len(samples),
            "wanted": int(samples["wanted"].sum()),
            "samples": int(samples["outcome"].isin(SAMPLES).sum()),
            "name": str(self.run.store),
            "classes": classes.astype(str).tolist(),
            "outcomes": [
                {
                    "name": outcome.value,
                    "sentence": outcome.sentence,
                    "is_sample": outcome.is_sample,
                    "count": int(counts.get(outcome.value, 0)),
                }
                for outcome in Outcome
            ],
            "groups": sorted(groups.tolist()) if len(groups) <= _MOST_GROUPS else None,
            "detectors": selection.list_detectors(samples),
            "reviewers": _list_reviewers(samples),
            "sorts": [{"name": name, "title": title} for name, title in selection.SORTS.items()],
            "doubt_ready": self._doubt is not None,
            "settings": settings,
            "ranges": {name: _widen(limits, settings[name]) for name, limits in _RANGES.items()},
            "fallbacks": ["none", "wider", *(["frame"] if config.detection.whole_frame else [])],
            "needs_pairing": self._trial.needs_pairing,
            "state": self._describe_state(),
        }

    def _describe_state(self) -> str:
        """Say what the saved samples lack; empty if nothing."""
        if self._trial.needs_pairing:
            return "Decisions or detections are newer than hands.json: the grid shows them, and Apply writes them too."
        return ""

    def _describe_rows(self, rows: Indices) -> list[dict[str, Any]]:
        values = self._samples.iloc[rows].to_dict("records")
        changes = None if self._changes is None else self._changes["change"].iloc[rows].astype(str).tolist()
        before = _list_boxes_before(self._trial.saved.iloc[rows], self._samples.iloc[rows]) if changes else []
        described = []
        for k, (number, row) in enumerate(zip(rows.tolist(), values, strict=True)):
            change = None if changes is None else changes[k]
            found = self.frames.describe_row(row, number)  # type: ignore[arg-type]
            if change in _SHOWN_BEFORE:
                found["boxes"].insert(0, {"kind": "before", "corners": before[k], "label": "before"})
            doubt = (
                None if self._doubt is None or np.isnan(self._doubt[number]) else round(float(self._doubt[number]), 3)
            )
            described.append(found | {"change": change, "doubt": doubt})
        return described

    def _describe_frame(self, values: Row, row: int) -> Iterator[str]:
        """Yield what is known of a frame, a sentence or a list each."""
        yield from describe_row_outcome(values)
        if self._doubt is not None and self._reasons[row]:
            names = [name for name in self._reasons[row].split(", ") if name]
            yield f"Doubt {self._doubt[row]:.2f}: {' '.join(_REASONS[name].sentence for name in names)}"
        if isinstance(values["found_by"], str):
            yield f"Found by {values['found_by'].replace('+', ' and ')}."
        if isinstance(values["fallback"], str):
            yield f"Fallback: {values['fallback']}."
        if values["other_hand"]:
            yield "Another hand near a face is not the chosen one."
        if isinstance(values["decision"], str):
            yield f"Decided by {values['decided_by']}: {values['decision']}, {str(values['decided_at'])[:16]} UTC."


_REASONS = {reason.value: reason for reason in Reason}


def _list_boxes_before(saved: pd.DataFrame, samples: pd.DataFrame) -> list[list[float]]:
    """Return what was saved of each row: the hand or, where that did not change, the crop."""
    hands, crops = pairing.get_boxes(saved, "hand"), pairing.get_boxes(saved, "bbox")
    is_same = (hands == pairing.get_boxes(samples, "hand")).all(axis=1)
    corners: list[list[float]] = np.where(is_same[:, None], crops, hands).round(1).tolist()
    return corners


def _list_reviewers(samples: pd.DataFrame) -> list[str]:
    """Return the people who decided, each once: two of them may have decided about hand and class of a frame."""
    joined = samples["decided_by"].dropna().unique().tolist()
    return sorted({name for names in joined for name in str(names).split(", ")})


def _widen(limits: tuple[float, float, float], value: float | None) -> tuple[float, float, float]:
    """Return the range of a slider, so that the value of the run lies in it."""
    low, high, step = limits
    return (low, high, step) if value is None else (min(low, value), max(high, value), step)

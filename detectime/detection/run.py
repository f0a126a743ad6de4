"""A run: detection over a frame table, shard by shard, resumed after an interruption."""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import detectime
from detectime import config as configuration
from detectime.boxes import Flags, Integers
from detectime.config import Config
from detectime.detection import changes, engines, manifest, resume, shards, turned_frames
from detectime.detection.changes import Changes
from detectime.detection.engines.contract import Engine, LostShard, get_peak_memory
from detectime.detection.manifest import Manifest, RunError
from detectime.detection.pending_frames import PendingFrames
from detectime.detection.shards import DamagedError, Results
from detectime.detection.worker import make_row_without_boxes
from detectime.detectors.registry import choose_detectors
from detectime.labels import frame_table
from detectime.notes import Note
from detectime.progress import Progress
from detectime.schema import DETECTION_OUTCOMES, DETECTIONS, DETECTIONS_FILE
from detectime.sources.contract import MissingFrameError, Source, SourceError, UnreachableFrameError
from detectime.storage import run_tables
from detectime.storage import store as stores
from detectime.storage.store import Store

_PROBES = 20  # frames whose presence shows that the source is still there
_HINTS = ("misplaced", "passed_over")  # notes that say why no frame may be found
_MAX_REPAIRS = 100  # damaged files that one call sets aside

_logger = logging.getLogger(__name__)


def detect_frames(
    table: pd.DataFrame, source: Source, config: Config, output: str, engine: Engine | None = None
) -> pa.Table:
    """Run detection on every wanted frame that has no result yet, or that changed since.

    Results are saved shard by shard below `output`. A call that was interrupted in any way is resumed by the next one.
    In the end the shards become one ``detections.parquet``. Notes are stored in ``run.json``: see `runs.open_run`.

    Parameters
    ----------
    table
        The frame table, with `wanted`: see `frame_table.select_frames`.
    source
        Where the frames are.
    config
        The settings of the detectors in use bind the run. A key that was not set takes the run's value: see
        `resume.resume_config`. Everything else may change from call to call.
    output
        The folder of the run, or its URL.
    engine
        What runs shards on workers: see `engines.contract`. None: as the configuration says.

    Returns
    -------
    Table
        The columns `schema.PAIRING_COLUMNS`: one row for each frame processed in this run, now or before, those of
        `table` first and in its order. ``detections.parquet`` has all columns of `schema.DETECTIONS`.

    Raises
    ------
    RunError
        If the folder holds a run with another detection configuration, if its boxes would be mixed with those of other
        detectors, if more than half of its frames changed, or if every wanted frame is missing.
    ConfigError
        If there is no such detector or device, or if a face cache cannot be used.
    StoreError
        If the folder cannot be written to, or another run works in it.
    TableVersionError
        If a newer detectime made what lies in the folder.
    """
    store = stores.open_store(output)
    with store.lock():
        run = _Run(store, table, source, config, engine)
        for _ in range(_MAX_REPAIRS):
            try:
                return run.execute()
            except DamagedError as error:
                run.repair(error)
        raise RunError(f"{store}: files are damaged again and again; is the disk broken?")


class Pending(NamedTuple):
    """What a call of `detect_frames` would process.

    Parameters
    ----------
    frames
        bool, shape (rows of the table,).
    done
        Wanted frames that have a result which counts.
    changed
        How many of `frames` have a result, but changed since.
    unreachable
        Why the source cannot be listed; None if it can.
    """

    frames: Flags
    done: int
    changed: int
    unreachable: str | None


def find_pending(table: pd.DataFrame, source: Source, config: Config, store: Store) -> Pending:
    """Return which frames `detect_frames` would process now. Nothing is written.

    Parameters
    ----------
    table, source, config
        As in `detect_frames`; the configuration as `resume.resume_config` returns it.
    store
        The folder of the run, which need not exist.

    Raises
    ------
    RunError
        If a file of results is damaged, or if there are frames to process and not one wanted frame exists.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> from detectime.paths import SAMPLE
    >>> from detectime.sources import open_source
    >>> table = pd.DataFrame({"frame_path": ["like_01/0001.jpg", "ok_01/0001.jpg"], "wanted": [True, False]})
    >>> table["on_disk"] = True
    >>> store = stores.open_store("no/such/run", reading=True)
    >>> find_pending(table, open_source(str(SAMPLE / "TRAIN_DATA")), load_config(), store).frames.tolist()
    [True, False]
    """
    wanted = table["wanted"].to_numpy()
    if config.run.redetect is True:
        _check_frames_exist(table, source, changes.list_stamps(table, source)[1])
        return Pending(wanted, 0, 0, None)
    try:
        results = Results(store)
    except DamagedError as error:
        raise RunError(f"{store}/{error}; run without --dry-run: what can be read of it is kept") from error
    rows = results.find_rows(pa.array(table["frame_path"], pa.string(), from_pandas=True))
    pending = _find_pending(wanted, results, rows, config.run.retry_failed)
    stamps, unreachable = changes.list_stamps(table, source)
    max_pixels = config.detection.max_pixels
    found = changes.find_changes(table, stamps, rows, results.index, pending, source, max_pixels)
    frames = pending | found.changed
    if frames.any():
        _check_frames_exist(table, source, unreachable)
        source.check_frames(pa.array(table["frame_path"][frames], pa.string()))
    return Pending(frames, int((wanted & ~frames).sum()), found.count, unreachable)


def _find_pending(wanted: Flags, results: Results, rows: Integers, retry_failed: bool) -> Flags:
    """Return for each row of the table whether its frame is wanted and has no result that counts."""
    is_done = rows >= 0
    if retry_failed and len(results):
        is_ok = pc.equal(results.index["outcome"], "ok").to_numpy()
        is_done &= is_ok[rows]
    pending: Flags = wanted & ~is_done
    return pending


def _check_frames_exist(table: pd.DataFrame, source: Source, unreachable: str | None) -> None:
    """Refuse to start if not one of the wanted frames exists."""
    wanted = table["wanted"]
    if (wanted & table["on_disk"]).any() and not table.attrs.get("unreachable"):
        return
    first = table["frame_path"][wanted].iloc[0]
    reason = unreachable
    if reason is None:
        name = None
        with contextlib.suppress(SourceError):
            name, _ = next(source.list_frames(), (None, None))
        reason = f"a file that exists is called {name!r}" if name else "the location is empty"
    hints = [str(note) for note in table.attrs.get("notes", ()) if note.kind in _HINTS]
    question = "is the drive mounted, is `images` the folder that frame_path is relative to?"
    raise RunError(
        f"{source.root}: not one of the {int(wanted.sum())} wanted frames exists (the first is "
        f"{first!r}; {reason}); {'; '.join(hints) or question}"
    )


class _Run:
    """One call of `detect_frames`, in the folder that it has locked."""

    def __init__(
        self, store: Store, table: pd.DataFrame, source: Source, config: Config, engine: Engine | None
    ) -> None:
        self.store, self.table, self.source = store, table, source
        self.config, self.notes = resume.resume_config(config, store)
        self.chosen = choose_detectors(self.config.detection)
        self.engine = engine or engines.choose_engine(self.config.run)
        self.frame_paths = pa.array(table["frame_path"], pa.string(), from_pandas=True)
        self.wanted = table["wanted"].to_numpy()
        self.stamps, self.unreachable = changes.list_stamps(table, source)
        self.retry_failed = self.config.run.retry_failed
        self.at = manifest.format_now()
        self.manifest = self._begin()

    def execute(self) -> pa.Table:
        """Run detection on pending frames, put the results into one file, and return them.

        Raises
        ------
        DamagedError
            If a file of results cannot be read: it is to be set aside, and this called again.
        """
        results = Results(self.store)
        rows = results.find_rows(self.frame_paths)
        is_pending = _find_pending(self.wanted, results, rows, self.retry_failed)
        max_pixels = self.config.detection.max_pixels
        found = changes.find_changes(self.table, self.stamps, rows, results.index, is_pending, self.source, max_pixels)
        self._check_changes(found)
        pending = pa.array(is_pending | found.changed)
        is_growing = bool(pc.any(pending).as_py())
        state_notes = [*self._note_listing(results, rows), *self._bind(pending)]
        self.notes += [*self._note_lost(results), *changes.note_doubts(self.table, found, self.at)]
        if is_growing:
            if not self._has_noted("changed"):
                self.notes += changes.note_changes(found, self.at)
            del results, rows
            self._process(self.frame_paths.filter(pending), self.stamps.filter(pending))
            results = Results(self.store)
            self._check_complete(results)
        else:
            run_tables.write_frames(self.store, self.table)
        if not results.is_compact or found.has_new_stamps:
            results.compact(self.frame_paths, found.stamps, found.contents)
        del results
        detections = shards.sort_detections(shards.read_detections(self.store), self.frame_paths)
        self._finish(detections, is_growing, state_notes)
        return detections

    def repair(self, error: DamagedError) -> None:
        """Set a damaged file aside; detection runs again on frames that have no row then."""
        kept, rescued = shards.set_aside_damaged(self.store, error.name)
        saved = f", {rescued} of its rows were saved," if rescued else ""
        text = f"file of detections was damaged; it is kept as {kept}{saved} and other frames were processed again"
        self.notes.append(Note("damaged", 1, text, error.name, self.at))

    def _begin(self) -> Manifest:
        """Return the manifest of the run that is resumed, or of a new one."""
        existing = manifest.read_manifest(self.store)
        if existing is None:
            if shards.list_shards(self.store) or stores.has_file(self.store, DETECTIONS_FILE):
                raise RunError(
                    f"{self.store}: there are detections, but no {manifest.MANIFEST_FILE} that says how they were "
                    "made; give another `output`, or put it back"
                )
            self.chosen.check()
            return manifest.make_manifest(self.config, self.chosen.fingerprints())
        self._finish_renaming(existing)
        if self.config.run.redetect is True and not self._continues_redetection(existing):
            return self._begin_again()
        old_images, images = existing["configuration"]["data"]["images"], self.config.data.images
        if old_images != images and not self.unreachable:
            text = f"The images moved from {old_images} to {images}; frames of the same names are the same."
            self.notes.append(Note("moved", 1, text, at=self.at))
        return existing

    def _continues_redetection(self, existing: Manifest) -> bool:
        """Whether a call with `redetect: true` was interrupted, and this one finishes its work."""
        return (
            bool(existing["redetect"])
            and existing["finished"] is None
            and existing["configuration"]["detection"] == configuration.config_to_dict(self.config.detection)
            and existing["detectors"] == self.chosen.fingerprints()
        )

    def _begin_again(self) -> Manifest:
        """Keep the old results under other names, since they were expensive, and return the manifest of a new run."""
        _check_frames_exist(self.table, self.source, self.unreachable)
        self._prepare_detectors()
        fresh = manifest.make_manifest(self.config, self.chosen.fingerprints()) | {"redetect": True}
        existing = manifest.read_manifest(self.store) or {}
        fresh |= {key: existing[key] for key in ("split", "imported") if key in existing}  # they outlive detections
        results = Results(self.store)
        if len(results):
            if not results.is_compact:
                results.compact(self.frame_paths, pa.nulls(len(self.frame_paths), pa.string()))
            copy = stores.find_free_name(self.store, f"run.{manifest.format_file_time(self.at)}", ".json")
            self.store.put(copy, self.store.get(manifest.MANIFEST_FILE) or b"")
            kept = f"detections{copy.removeprefix('run').removesuffix('.json')}.parquet"
            text = f"rows of detections were made anew; the old ones are kept as {kept}"
            self.notes.append(Note("redetected", len(results), text, None, self.at))
            fresh["redetect"] = {"rename": kept}  # if this process is killed, the next call renames it
        manifest.replace_notes(fresh, "detection", self.notes)
        manifest.write_manifest(self.store, fresh)
        self._finish_renaming(fresh)
        return fresh

    def _finish_renaming(self, existing: Manifest) -> None:
        """Rename the detections from before `redetect: true`, if that is still to be done."""
        if not isinstance(existing["redetect"], dict):
            return
        kept = existing["redetect"]["rename"]
        if stores.has_file(self.store, kept):  # a process that was killed while renaming leaves both names
            self.store.delete([DETECTIONS_FILE])
        elif stores.has_file(self.store, DETECTIONS_FILE):
            self.store.rename(DETECTIONS_FILE, kept)
        existing["redetect"] = True
        manifest.write_manifest(self.store, existing)

    def _check_changes(self, found: Changes) -> None:
        """Refuse to process most of a run again: it is rather another data set, or a drive that lost its times."""
        if self.config.run.redetect in (True, "changed") or 2 * found.count <= found.compared:
            return
        unknown = f", {found.unknown} of them another size and no content recorded" if found.unknown else ""
        raise RunError(
            f"{self.source.root}: {found.count} of {found.compared} frames have other content than when they were "
            f"processed{unknown} (the first: {found.first!r}); is this the data set that {self.store} was made from? "
            "If so, set `redetect: changed` to process them again, or give another `output`"
        )

    def _has_noted(self, kind: str) -> bool:
        """Whether this pass was interrupted and noted such an event before."""
        notes = manifest.read_notes(self.manifest)
        return self.manifest["finished"] is None and any(note.kind == kind and note.at for note in notes)

    def _note_lost(self, results: Results) -> list[Note]:
        """Note that the detections of a finished run are gone."""
        count = sum(self.manifest["outcomes"].values())
        if len(results) or not count or self.manifest["finished"] is None:
            return []
        text = f"rows of {DETECTIONS_FILE} are gone; their frames are processed again"
        return [Note("lost", count, text, None, self.at)]

    def _note_listing(self, results: Results, rows: Integers) -> list[Note]:
        """Note what differs between the listing of the source and the results."""
        if self.unreachable:
            text = f"The images cannot be reached, and the run goes on with what it has: {self.unreachable}"
            return [Note("unreachable", 1, text)]
        return changes.note_listing(self.table, rows, results.index, self.retry_failed)

    def _bind(self, pending: pa.Array) -> list[Note]:
        """Check that frames may be added to this run, and record what it is made with; return notes."""
        is_growing = bool(pc.any(pending).as_py())
        if is_growing:
            _check_frames_exist(self.table, self.source, self.unreachable)
            self.source.check_frames(self.frame_paths.filter(pending))
        detectors, notes = resume.check_detectors(self.manifest, self.chosen, self.config, self.store, is_growing)
        if is_growing:
            self._prepare_detectors()
        config = configuration.config_to_dict(self.config)
        if self.unreachable:  # perhaps a typing error; the run knows a location that existed
            config["data"]["images"] = self.manifest["configuration"]["data"]["images"]
        self.manifest |= {
            "detectime": detectime.__version__,
            "detectors": detectors,
            "configuration": config,
            "frames": {"rows": len(self.table), "labels_sha256": self.table.attrs.get("labels_sha256")},
        }
        return notes

    def _prepare_detectors(self) -> None:
        """Check that the detectors can run on the wanted frames, and download what they lack."""
        wanted = self.table.loc[self.wanted, "frame_path"]
        self.chosen.check()
        self.chosen.prepare(wanted)
        turned_frames.check_cached_faces(self.chosen, self.source, wanted)

    def _process(self, pending: pa.Array, stamps: pa.Array) -> None:
        """Run detection on all pending frames, and save the results."""
        self.manifest["finished"] = None
        manifest.replace_notes(self.manifest, "detection", self.notes)  # this call may be interrupted
        manifest.write_manifest(self.store, self.manifest)
        run_tables.write_frames(self.store, self.table)
        queue = PendingFrames(pending, stamps, self.config.run.save_per_num_images)
        number = shards.find_last_shard_number(self.store)
        peak = 0
        results = self.engine(queue, self.chosen, self.source, self.config.run)
        wanted = int(self.wanted.sum())
        with Progress(wanted, name="frames", done=wanted - len(pending)) as progress, contextlib.closing(results):  # type: ignore[type-var]
            for shard, result in results:
                if isinstance(result, LostShard):
                    given_up = queue.return_lost(shard, result)
                    if given_up is None:
                        continue
                    row = make_row_without_boxes(given_up, "failed", result.reason)
                    result = pa.Table.from_pylist([row], schema=DETECTIONS)
                self._check_source_exists(result)
                number += 1
                shards.save_shard(self.store, number, shards.set_stamps(result, queue.take_stamps(shard)))
                peak = max(peak, get_peak_memory(result))
                progress.add(result.num_rows)
        if peak:
            _logger.info("peak memory of a worker: %.0f MB", peak / 1e6)
        self.manifest["peak_memory_of_a_worker"] = max(peak, self.manifest["peak_memory_of_a_worker"])
        self.retry_failed = False  # if a damaged file makes this start over, those frames have been retried

    def _check_source_exists(self, result: pa.Table) -> None:
        """Stop if the source is gone: otherwise a drive that is unmounted would make every frame `missing`."""
        lost = result["frame_path"].filter(pc.not_equal(result["outcome"], "ok")).to_pylist()
        if not lost:
            return
        existing = self.table.loc[self.table["on_disk"], "frame_path"]
        if not existing.isin(lost).any():
            return
        probes = existing.iloc[:: max(1, len(existing) // _PROBES)]
        frames = self.source.read_frames(probes)
        if all(isinstance(frame, MissingFrameError | UnreachableFrameError) for _, frame in frames):
            raise RunError(
                f"{self.source.root}: the frames that existed at the start are gone (for one, {lost[0]!r}); is the "
                "drive still mounted, does the server answer? Nothing is lost: run again when it does"
            )

    def _check_complete(self, results: Results) -> None:
        lacking = self.frame_paths.filter(pa.array(self.wanted & (results.find_rows(self.frame_paths) < 0)))
        if len(lacking):  # another process wrote there too, or deleted something
            raise RunError(
                f"{self.store}: {len(lacking)} frames have no result, though all were processed (the first is "
                f"{lacking[0].as_py()!r}): does another run write there? Run again: it processes these"
            )

    def _finish(self, detections: pa.Table, has_grown: bool, state_notes: list[Note]) -> None:
        """Record that the run is finished, and its notes."""
        if has_grown or self.manifest["finished"] is None:
            self.manifest["finished"] = manifest.format_now()
        self.manifest |= {"redetect": False, "outcomes": count_detection_outcomes(detections)}
        wanted = detections.filter(pc.is_in(detections["frame_path"], self.frame_paths.filter(pa.array(self.wanted))))
        turned = turned_frames.note_turned(wanted, self.config.detection.exif)
        cached = turned_frames.note_cached_faces(self.chosen, wanted)
        # What the table knows of turned videos before their frames are decoded is in the note about all frames.
        notes = [note for note in frame_table.list_notes(self.table) if note.kind != turned_frames.NOTE_KIND]
        manifest.replace_notes(self.manifest, "frames", notes)
        manifest.replace_notes(self.manifest, "detection", [*self.notes, *state_notes, *turned, *cached])
        manifest.write_manifest(self.store, self.manifest)


def count_detection_outcomes(detections: pa.Table) -> dict[str, int]:
    """Count the frames of each detection outcome.

    Raises
    ------
    ValueError
        If a row has an outcome that is not in `schema.DETECTION_OUTCOMES`.

    Examples
    --------
    >>> count_detection_outcomes(pa.table({"outcome": ["ok", "ok", "missing"]}))
    {'ok': 2, 'missing': 1, 'unreadable': 0, 'failed': 0}
    """
    counts = {row["values"].as_py(): row["counts"].as_py() for row in pc.value_counts(detections["outcome"])}
    unknown = sorted(set(counts) - set(DETECTION_OUTCOMES))
    if unknown:
        raise ValueError(f"unknown outcomes of detection: {', '.join(unknown)}")
    return {outcome: counts.get(outcome, 0) for outcome in DETECTION_OUTCOMES}


def summarize_detections(detections: pa.Table, exif: str) -> str:
    """Summarize the detections of a run: a line with the counts, and one about frames that are stored rotated.

    Parameters
    ----------
    detections
        What `detect_frames` returned.
    exif
        The configuration's `detection.exif`.

    Examples
    --------
    >>> detections = pa.table({"frame_path": ["a.jpg"], "outcome": ["ok"], "orientation": [1]})
    >>> summarize_detections(detections, "apply")
    'Processed in this folder so far: 1 ok, 0 missing, 0 unreadable, 0 failed'
    """
    counts = count_detection_outcomes(detections)
    line = f"Processed in this folder so far: {', '.join(f'{count:,} {name}' for name, count in counts.items())}"
    return "\n".join([line, *map(str, turned_frames.note_turned(detections, exif))])

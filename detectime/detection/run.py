"""A run: detection over a frame table, shard by shard, resumed where it was left."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import detectime
from detectime import config as configuration
from detectime.boxes import Flags, Integers
from detectime.config import Config
from detectime.detection import changes, engines, manifest, shards
from detectime.detection.changes import Changes
from detectime.detection.engines.contract import Engine, LostShard, Shard, get_peak_memory
from detectime.detection.manifest import Manifest, RunError
from detectime.detection.shards import DamagedError, Results
from detectime.detection.worker import make_row_without_boxes
from detectime.detectors.registry import choose_detectors
from detectime.labels import frame_table
from detectime.notes import Note, note_found
from detectime.progress import Progress
from detectime.schema import DETECTION_OUTCOMES, DETECTIONS, DETECTIONS_FILE
from detectime.sources.contract import MissingFrameError, Source, SourceError, UnreachableFrameError
from detectime.storage import run_tables
from detectime.storage import store as stores
from detectime.storage.store import Store

_PROBED = 20  # frames that tell whether others are there still
_ATTEMPTS = 3  # a frame that loses its worker so often is the reason for it
_REPAIRS = 100  # damaged files that one call sets aside

_logger = logging.getLogger(__name__)


def detect_frames(
    table: pd.DataFrame, source: Source, config: Config, output: str, engine: Engine | None = None
) -> pa.Table:
    """Look at every wanted frame that was not looked at before, or that changed since.

    What is found is saved shard by shard below `output`; a call that was interrupted, by whatever, is resumed by the
    next. When all is done the shards become one ``detections.parquet``. What is worth telling is stored in ``run.json``
    as notes: see `runs.open_run`.

    Parameters
    ----------
    table
        The frame table, with `wanted`: see `labels.frame_table.select_frames`.
    source
        Where the frames are.
    config
        The run is bound to the settings of the detectors that it uses; a key that was not set takes the run's value,
        see `detection.manifest.resume_config`. Everything else may change from call to call.
    output
        The folder of the run.
    engine
        What runs shards on workers: see `detectime.detection.engines`. None: as the configuration says.

    Returns
    -------
    Table
        The columns `schema.PAIRING_COLUMNS`: one row for each frame that was looked at in this run, now or before,
        those of `table` first and in its order. ``detections.parquet`` has all columns of `schema.DETECTIONS`.

    Raises
    ------
    RunError
        If the folder holds a run with another detection configuration, if its boxes would be mixed with those of other
        detectors, if more than half of its frames changed, if `source` reads frames in another way than the
        configuration says, or if every wanted frame is missing.
    ConfigError
        If there is no such detector, or no such device, or if a face cache cannot be used.
    StoreError
        If the folder cannot be written to, or another run works in it.
    TableVersionError
        If a newer detectime made what lies in the folder.
    """
    store = stores.open_store(output)
    with store.lock():
        run = _Run(store, table, source, config, engine)
        for _ in range(_REPAIRS):
            try:
                return run.work()
            except DamagedError as error:
                run.repair(error)
        raise RunError(f"{store}: files are damaged again and again; is the disk broken?")


class _Run:
    """One call of `detect_frames`, in the folder that it has locked."""

    def __init__(
        self, store: Store, table: pd.DataFrame, source: Source, config: Config, engine: Engine | None
    ) -> None:
        self.store, self.table, self.source = store, table, source
        self.config, self.notes = manifest.resume_config(config, store)
        self.chosen = choose_detectors(self.config.detection)
        self.engine = engine or engines.choose_engine(self.config.run)
        self.names = pa.array(table["frame_path"], pa.string(), from_pandas=True)
        self.wanted = table["wanted"].to_numpy()
        self.stamps, self.unreachable = changes.list_stamps(table, source)
        self.retry_failed = self.config.run.retry_failed
        self.at = manifest.format_now()
        self.manifest = self._begin()

    def work(self) -> pa.Table:
        """Look at what is pending, make the results one file, and return it.

        Raises
        ------
        DamagedError
            If a file of results cannot be read: it is to be set aside, and this called again.
        """
        results = Results(self.store)
        rows = results.find_rows(self.names)
        lacking = self._is_pending(results, rows)
        found = changes.find_changes(self.table, self.stamps, rows, results.index, lacking, self.source)
        self._check_changes(found)
        pending = pa.array(lacking | found.changed)
        growing = bool(pc.any(pending).as_py())
        state = [*self._note_listing(results, rows), *self._bind(growing)]
        self.notes += [*self._note_lost(results), *changes.describe_doubts(self.table, found, self.at)]
        if growing:
            if not self._is_told("changed"):
                self.notes += changes.describe_changes(found, self.at)
            del results, rows
            self._look(self.names.filter(pending), self.stamps.filter(pending))
            results = Results(self.store)
            self._check_complete(results)
        else:
            run_tables.write_frames(self.store, self.table)
        if not results.is_compact or found.are_stamps_new:
            results.compact(self.names, found.stamps, found.contents)
        del results
        table = shards.sort_detections(shards.read_detections(self.store), self.names)
        self._finish(table, growing, state)
        return table

    def repair(self, error: DamagedError) -> None:
        """Set a damaged file aside; frames that have no row then are looked at again."""
        kept, rescued = shards.set_aside_damaged(self.store, error.name)
        saved = f", {rescued} of its rows were saved," if rescued else ""
        text = f"file of detections was damaged; it is kept as {kept}{saved} and other frames were looked at again"
        self.notes.append(Note("damaged", 1, text, error.name, self.at))

    def _begin(self) -> Manifest:
        """Return the manifest of the run that goes on, or of a new one."""
        before = manifest.read_manifest(self.store)
        if before is None:
            if shards.list_shards(self.store) or stores.has_file(self.store, DETECTIONS_FILE):
                raise RunError(
                    f"{self.store}: there are detections, but no {manifest.MANIFEST_FILE} that says how they were "
                    "made; give another `output`, or put it back"
                )
            self.chosen.check()
            return manifest.make_manifest(self.config, self.chosen.fingerprints())
        self._finish_renaming(before)
        if self.config.run.redetect is True and not self._goes_on_redetecting(before):
            return self._begin_again()
        was = before["configuration"]["data"]["images"]
        if was != self.config.data.images and not self.unreachable:
            text = f"The images moved from {was} to {self.config.data.images}; frames of the same names are the same."
            self.notes.append(Note("moved", 1, text))
        return before

    def _goes_on_redetecting(self, before: Manifest) -> bool:
        """Whether a call with `redetect: true` was interrupted, and this one finishes its work."""
        return (
            bool(before["redetect"])
            and before["finished"] is None
            and before["configuration"]["detection"] == configuration.config_to_dict(self.config.detection)
            and before["detectors"] == self.chosen.fingerprints()
        )

    def _begin_again(self) -> Manifest:
        """Keep what the run has under other names, since it was costly, and return the manifest of a new one."""
        self._check_place()
        self.chosen.check()
        self.chosen.prepare(self.table.loc[self.wanted, "frame_path"])
        fresh = manifest.make_manifest(self.config, self.chosen.fingerprints()) | {"redetect": True}
        results = Results(self.store)
        if len(results):
            if not results.is_compact:
                results.compact(self.names, pa.nulls(len(self.names), pa.string()))
            copy = stores.find_free_name(self.store, f"run.{manifest.format_file_time(self.at)}", ".json")
            self.store.put(copy, self.store.get(manifest.MANIFEST_FILE) or b"")
            kept = f"detections{copy.removeprefix('run').removesuffix('.json')}.parquet"
            text = f"rows of detections were made anew; the old ones are kept as {kept}"
            self.notes.append(Note("redetected", len(results), text, None, self.at))
            fresh["redetect"] = {"rename": kept}  # if this is killed the next call does it
        manifest.replace_notes(fresh, "detection", self.notes)
        manifest.write_manifest(self.store, fresh)
        self._finish_renaming(fresh)
        return fresh

    def _finish_renaming(self, of_run: Manifest) -> None:
        """Rename the detections of before `redetect: true`, where that is still to be done."""
        if not isinstance(of_run["redetect"], dict):
            return
        kept = of_run["redetect"]["rename"]
        if stores.has_file(self.store, kept):  # killed in the middle of it, which leaves both names
            self.store.delete([DETECTIONS_FILE])
        elif stores.has_file(self.store, DETECTIONS_FILE):
            self.store.rename(DETECTIONS_FILE, kept)
        of_run["redetect"] = True
        manifest.write_manifest(self.store, of_run)

    def _is_pending(self, results: Results, rows: Integers) -> Flags:
        """Say of each row of the table whether its frame is wanted and has no result that counts."""
        done = rows >= 0
        if self.retry_failed and len(results):
            is_ok = pc.equal(results.index["outcome"], "ok").to_numpy()
            done &= is_ok[rows]
        pending: Flags = self.wanted & ~done
        return pending

    def _check_changes(self, found: Changes) -> None:
        """Refuse to look again at most of a run: rather it is another data set, or a drive that lost its times."""
        if self.config.run.redetect in (True, "changed") or 2 * found.count <= found.compared:
            return
        raise RunError(
            f"{self.source.root}: {found.count} of {found.compared} frames have other content than when they were "
            f"looked at{self._count_unknown(found)} (the first: {found.first!r}); is this the data set that "
            f"{self.store} was made of? If so, say `redetect: changed` to look at them again, or give another `output`"
        )

    def _count_unknown(self, found: Changes) -> str:
        return f", {found.unknown} of them another size and no content recorded" if found.unknown else ""

    def _is_told(self, kind: str) -> bool:
        """Whether this pass was interrupted, and told of such an event before."""
        notes = manifest.read_notes(self.manifest)
        return self.manifest["finished"] is None and any(note.kind == kind and note.at for note in notes)

    def _note_lost(self, results: Results) -> list[Note]:
        """Tell that a finished run has no detections any more."""
        count = sum(self.manifest["outcomes"].values())
        if len(results) or not count or self.manifest["finished"] is None:
            return []
        return [
            Note("lost", count, f"rows of {DETECTIONS_FILE} are gone; their frames are looked at again", None, self.at)
        ]

    def _note_listing(self, results: Results, rows: Integers) -> list[Note]:
        """Tell of a place that is gone, of frames that are gone, and of missing ones that are there now."""
        if self.unreachable:
            text = f"The images cannot be reached, and the run goes on with what it has: {self.unreachable}"
            return [Note("unreachable", 1, text)]
        is_there = self.table["on_disk"].to_numpy()  # a source may have a frame and know no stamp
        if not len(results) or not is_there.any():
            return []
        known = self.wanted & (rows >= 0)
        was_missing = pc.equal(results.index["outcome"], "missing").to_numpy()[rows] & known
        gone = self.table["frame_path"][known & ~was_missing & ~is_there]
        back = self.table["frame_path"][was_missing & is_there] if not self.retry_failed else gone[:0]
        return [
            *note_found(
                "gone",
                list(gone),
                "frame that was looked at is gone; what was found in it is kept",
                "frames that were looked at are gone; what was found in them is kept",
            ),
            *note_found(
                "back",
                list(back),
                "frame that was missing is there now; `retry_failed` looks at it",
                "frames that were missing are there now; `retry_failed` looks at them",
            ),
        ]

    def _bind(self, growing: bool) -> list[Note]:
        """Check that frames may be added to this run, and record what it is made with; returns notes."""
        if growing:
            self._check_place()
        detectors, notes = manifest.check_detectors(self.manifest, self.chosen, self.config, self.store, growing)
        if growing:
            self.chosen.check()
            self.chosen.prepare(self.table.loc[self.wanted, "frame_path"])
        config = configuration.config_to_dict(self.config)
        if self.unreachable:  # perhaps a slip of the pen; the run knows a place that was there
            config["data"]["images"] = self.manifest["configuration"]["data"]["images"]
        self.manifest |= {
            "detectime": detectime.__version__,
            "detectors": detectors,
            "configuration": config,
            "frames": {"rows": len(self.table), "labels_sha256": self.table.attrs.get("labels_sha256")},
        }
        return notes

    def _check_place(self) -> None:
        """Refuse to look at frames that cannot be there."""
        detection = self.config.detection
        if (self.source.exif, self.source.max_pixels) != (detection.exif, detection.max_pixels):
            raise RunError(
                "the source reads frames with another exif or max_pixels than detection.exif and detection.max_pixels "
                f"say ({self.source.exif}, {self.source.max_pixels} and {detection.exif}, {detection.max_pixels}); "
                "make it by sources.of(config), with the config that manifest.resume_config returned"
            )
        there = self.wanted & self.table["on_disk"].to_numpy()
        if there.any() and not self.table.attrs.get("unreachable"):
            return
        first = self.table["frame_path"][self.wanted].iloc[0]
        reason = self.unreachable
        if reason is None:
            name = None
            with contextlib.suppress(SourceError):
                name, _ = next(self.source.list_frames(), (None, None))
            reason = f"what is there is called {name!r}, for one" if name else "nothing is there"
        raise RunError(
            f"{self.source.root}: not one of the {int(self.wanted.sum())} wanted frames is there (the first is "
            f"{first!r}; {reason}); is the drive mounted, is `images` the folder that frame_path is relative to?"
        )

    def _look(self, pending: pa.Array, stamps: pa.Array) -> None:
        """Have all pending frames looked at, and save what comes."""
        self.manifest["finished"] = None
        manifest.replace_notes(self.manifest, "detection", self.notes)  # this call may be interrupted
        manifest.write_manifest(self.store, self.manifest)
        run_tables.write_frames(self.store, self.table)
        queue = _Queue(pending, stamps, self.config.run.save_per_num_images)
        number = shards.find_last_shard_number(self.store)
        losses: Counter[str] = Counter()
        peak = 0
        results = self.engine(queue, self.chosen, self.source, self.config.run)
        with Progress(len(pending)) as progress, contextlib.closing(results):  # type: ignore[type-var]
            for shard, result in results:
                if isinstance(result, LostShard):
                    again, given_up = _bisect(shard, result, losses)
                    queue.put_back(shard, again)  # at the end: what killed the worker may have been a passing shortage
                    if not given_up:
                        continue
                    result = pa.Table.from_pylist(
                        [make_row_without_boxes(given_up, "failed", result.reason)], schema=DETECTIONS
                    )
                self._check_still_there(result)
                number += 1
                shards.save_shard(self.store, number, _stamp(result, queue.take_stamps(shard)))
                peak = max(peak, get_peak_memory(result))
                progress.add(result.num_rows)
        if peak:
            _logger.info("a worker took %.0f MB of memory at most", peak / 1e6)
        self.manifest["peak_memory_of_a_worker"] = max(peak, self.manifest["peak_memory_of_a_worker"])
        self.retry_failed = False  # if this is done again, for want of a damaged file, those frames have had their try

    def _check_still_there(self, result: pa.Table) -> None:
        """Stop if the place of the frames is gone: else a drive that is lost on the way makes every frame `missing`."""
        lost = result["frame_path"].filter(pc.not_equal(result["outcome"], "ok")).to_pylist()
        if not lost:
            return
        there = self.table.loc[self.table["on_disk"], "frame_path"]
        if not there.isin(lost).any():
            return
        few = there.iloc[:: max(1, len(there) // _PROBED)]
        if all(isinstance(frame, MissingFrameError | UnreachableFrameError) for _, frame in self.source.open(few)):
            raise RunError(
                f"{self.source.root}: the frames that were there a while ago are gone (for one, {lost[0]!r}); is the "
                "drive still mounted, does the server answer? Nothing is lost: run again when it does"
            )

    def _check_complete(self, results: Results) -> None:
        lacking = self.names.filter(pa.array(self.wanted & (results.find_rows(self.names) < 0)))
        if len(lacking):  # somebody wrote there too, or deleted something
            raise RunError(
                f"{self.store}: {len(lacking)} frames have no result, though all were looked at (the first is "
                f"{lacking[0].as_py()!r}): does another run write there? Run again: it looks at these"
            )

    def _finish(self, table: pa.Table, growing: bool, state: list[Note]) -> None:
        """Record that the run is finished, and what is worth telling."""
        if growing or self.manifest["finished"] is None:
            self.manifest["finished"] = manifest.format_now()
        self.manifest |= {"redetect": False, "outcomes": count_detection_outcomes(table)}
        manifest.replace_notes(self.manifest, "frames", frame_table.list_notes(self.table))
        manifest.replace_notes(self.manifest, "detection", [*self.notes, *state])
        manifest.write_manifest(self.store, self.manifest)


class _Queue:
    """The frames that are pending, cut into shards when they are asked for: a million names are compact until then."""

    def __init__(self, pending: pa.Array, stamps: pa.Array, size: int) -> None:
        self._pending, self._stamps, self._size = pending, stamps, size
        self._next = 0
        self._again: deque[Shard] = deque()
        self._places: dict[Shard, int] = {}  # of shards that are not saved yet

    def __len__(self) -> int:
        return -(-(len(self._pending) - self._next) // self._size) + len(self._again)

    def share_among(self, workers: int) -> None:
        """Cut a small set so that each worker gets some of it."""
        if not self._next:
            self._size = max(1, min(self._size, -(-len(self._pending) // workers)))

    def popleft(self) -> Shard:
        """Take the next shard; those that were put back come last."""
        if self._next >= len(self._pending):
            return self._again.popleft()
        shard = tuple(self._pending.slice(self._next, self._size).to_pylist())
        self._places[shard] = self._next
        self._next += len(shard)
        return shard

    def put_back(self, shard: Shard, parts: Iterable[Shard]) -> None:
        """Add the parts of a shard, in their order, that are to be tried again; none: it is done."""
        place = self._places[shard]
        for part in parts:
            self._places[part] = place
            self._again.append(part)
            place += len(part)

    def take_stamps(self, shard: Shard) -> pa.Array:
        """Return the stamps of a shard that is done."""
        return self._stamps.slice(self._places.pop(shard), len(shard))


def _stamp(result: pa.Table, stamps: pa.Array) -> pa.Table:
    """Add to rows what the source listed of their frames, and the version of the table."""
    place = DETECTIONS.get_field_index("stamp")
    return result.set_column(place, DETECTIONS.field(place), stamps).replace_schema_metadata(DETECTIONS.metadata)


def _bisect(shard: Shard, loss: LostShard, losses: Counter[str]) -> tuple[list[Shard], str | None]:
    """Close in on the frame that costs workers: the shards to try next, and the frame that is given up, if any."""
    if len(shard) == 1:
        losses[shard[0]] += 1
        return ([], shard[0]) if losses[shard[0]] >= _ATTEMPTS else ([shard], None)
    if loss.at is None:
        middle = len(shard) // 2
        return [shard[:middle], shard[middle:]], None
    losses[shard[loss.at]] += 1
    parts = shard[: loss.at], shard[loss.at : loss.at + 1], shard[loss.at + 1 :]
    return [part for part in parts if part], None


def count_detection_outcomes(detections: pa.Table) -> dict[str, int]:
    """Count the frames of each outcome of detection.

    Raises
    ------
    ValueError
        If a row has an outcome that `schema.DETECTION_OUTCOMES` does not name.
    """
    counts = {row["values"].as_py(): row["counts"].as_py() for row in pc.value_counts(detections["outcome"])}
    unknown = sorted(set(counts) - set(DETECTION_OUTCOMES))
    if unknown:
        raise ValueError(f"unknown outcomes of detection: {', '.join(unknown)}")
    return {outcome: counts.get(outcome, 0) for outcome in DETECTION_OUTCOMES}

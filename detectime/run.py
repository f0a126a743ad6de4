"""A run: detection over a frame table, shard by shard, resumed where it was left."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import detectime
from detectime import config as configuration
from detectime import detectors, engines
from detectime import store as stores
from detectime.boxes import Integers
from detectime.config import Config
from detectime.detect import row_without_boxes
from detectime.engines import Engine, Lost, Shard, local
from detectime.progress import Progress
from detectime.schema import DETECTIONS, DETECTIONS_FILE, OUTCOMES
from detectime.sources import Missing, Source, SourceError, Unreachable
from detectime.store import Store

_MANIFEST = "run.json"
_SHARDS = "shards"
_DIGITS = 9  # of a shard's number, so that names sort as numbers do
_SHARD = re.compile(rf"{_SHARDS}/(\d{{{_DIGITS}}})\.parquet")
_FEW = 500  # shards in memory as tables of their own
_PIECE = 65_536  # rows that are handled together
_PROBED = 20  # frames that tell whether others are there still
_ATTEMPTS = 3  # a frame that loses its worker so often is the reason for it


class RunError(RuntimeError):
    """A run that must not start; the message says why and what to do."""


def detect(table: pd.DataFrame, source: Source, config: Config, output: str, engine: Engine | None = None) -> pa.Table:
    """Look at every wanted frame that was not looked at before.

    What is found is saved shard by shard below `output`; a call that was interrupted, by whatever, is resumed by the
    next. When all is done the shards become one ``detections.parquet``.

    Parameters
    ----------
    table
        The frame table, with `wanted`: see `frames.select`.
    source
        Where the frames are.
    config
        The run is bound to its `detection` section; everything else may change from call to call.
    output
        The folder of the run.
    engine
        What runs shards on workers: see `detectime.engines`. None: as the configuration says.

    Returns
    -------
    Table
        In the schema of `schema.DETECTIONS`: a row for each frame looked at in this run, now or before, those of
        `table` first and in its order.

    Raises
    ------
    RunError
        If the folder holds a run with another detection configuration, if `source` reads frames in another way than the
        configuration says, or if every wanted frame is missing.
    ConfigError
        If there is no such detector, or no such device, or if a face cache cannot be used.
    StoreError
        If the folder cannot be written to, or another run works in it.
    """
    detectors.check(config.detection)
    store = stores.of(output)
    with store.lock():
        config = _resolved(store, config)
        manifest = _resume(store, config)
        pieces = _read(store)
        pending = _pending(table, pieces, config.run.retry_failed)
        more = len(pending) > 0
        if more:
            if (source.exif, source.max_pixels) != (config.detection.exif, config.detection.max_pixels):
                raise RunError(
                    "the source reads frames with another exif or max_pixels than detection.exif and "
                    "detection.max_pixels say; make it by sources.of(config)"
                )
            if not (table["wanted"] & table["on_disk"]).any():
                there = None
                with contextlib.suppress(SourceError):
                    there = next(source.names(), None)
                what = f"what is there is called {there!r}, for one" if there else "nothing is there"
                raise RunError(
                    f"{source.root}: not one of the {int(table['wanted'].sum())} wanted frames is there (the first is "
                    f"{pending[0].as_py()!r}; {what}); is the drive mounted, is `images` the folder that "
                    "frame_path is relative to?"
                )
            detectors.prepare(config.detection, table.loc[table["wanted"], "frame_path"])
            manifest["finished"] = None
            pieces.clear()
            store.put(_MANIFEST, _as_json(manifest))
            peak = _work(store, table, pending, source, config, engine or engines.of(config.run))
            manifest["peak_memory_of_a_worker"] = max(peak, manifest["peak_memory_of_a_worker"])
            del pending  # a million names
            pieces = _read(store)
            lacking = _pending(table, pieces, retry_failed=False)
            if len(lacking):  # somebody wrote there too, or deleted something
                raise RunError(
                    f"{store}: {len(lacking)} frames have no result, though all were looked at (the first is "
                    f"{lacking[0].as_py()!r}): does another run write there? Run again: it looks at these"
                )
        found = _in_order(pieces, table)
        if more or _shards(store):
            _compact(store, found)
        if more or manifest["finished"] is None:
            manifest["finished"] = _now()
        manifest["outcomes"] = count_outcomes(found)
        store.put(_MANIFEST, _as_json(manifest))
    return found


def _resolved(store: Store, config: Config) -> Config:
    """Say whether whole frames are looked at: where it is not given, if `fallback` needs it or the run did before."""
    if config.detection.whole_frame is not None:
        return config
    whole_frame = config.pairing.fallback == "frame"
    with contextlib.suppress(ValueError, KeyError, TypeError):  # `_resume` says what is wrong with it
        before = json.loads(store.get(_MANIFEST) or b"{}")
        if before["configuration"]["detection"]["whole_frame"] is True and not whole_frame:
            print(f"This run looks at whole frames (detection.whole_frame) and goes on doing so: {store}")
            whole_frame = True
    return dataclasses.replace(config, detection=dataclasses.replace(config.detection, whole_frame=whole_frame))


def _resume(store: Store, config: Config) -> dict[str, Any]:
    """Return the manifest of this run, after a check that it may go on with this configuration."""
    manifest = {
        "detectime": detectime.__version__,
        "started": _now(),
        "finished": None,
        "peak_memory_of_a_worker": 0,  # bytes, of all that worked on this run
        "detectors": detectors.fingerprints(config.detection),
        "configuration": configuration.as_dict(config),
    }
    content = store.get(_MANIFEST)
    if content is None:
        if _shards(store) or store.get(DETECTIONS_FILE) is not None:
            raise RunError(
                f"{store}: there are detections, but no {_MANIFEST} that says how they were made; "
                "give another `output`, or put it back"
            )
        return manifest
    try:
        before = json.loads(content)
        differing = _differences(_identity(before), _identity(manifest))
        manifest["started"], manifest["finished"] = before["started"], before["finished"]
        manifest["peak_memory_of_a_worker"] = before.get("peak_memory_of_a_worker", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{store}/{_MANIFEST}: this is no manifest of a run ({error!r}); give another `output`"
        ) from error
    moved = before["configuration"]["data"]["images"] != config.data.images
    if moved and not differing:
        print(
            f"Frames that were looked at before, in {before['configuration']['data']['images']}, are taken to be those "
            f"of the same names in {config.data.images}"
        )
    if differing:
        if config.pairing.fallback == "frame" and not before["configuration"]["detection"].get("whole_frame"):
            differing.append("pairing.fallback = 'frame' is what asks for detection.whole_frame")
        raise RunError(
            f"{store}: this folder holds a run with another detection configuration; give another `output`, or go "
            "back to its values: " + "; ".join(differing)
        )
    return manifest


def _identity(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a run is bound to, by key."""
    values = manifest["configuration"]["detection"]
    detection = {f"detection.{key}": value for key, value in values.items() if key not in configuration.FREE}
    weights = {
        "sha256 of the face cache's content"
        if detector == configuration.FACE_CACHE
        else f"weights of {detector}: {name}": sha256
        for detector, files in manifest["detectors"].items()
        for name, sha256 in files.items()
    }
    return detection | weights


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{key}: the run has {before.get(key)!r}, now it is {now.get(key)!r}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _pending(table: pd.DataFrame, pieces: list[pa.Table], retry_failed: bool) -> pa.Array:
    """Wanted frames that no result is there for, in the order of the table."""
    found = pa.concat_tables([piece.select(["frame_path", "outcome"]) for piece in pieces])
    if retry_failed:
        found = found.filter(pc.equal(found["outcome"], "ok"))
    wanted = pa.array(table.loc[table["wanted"], "frame_path"], pa.string())
    pending = wanted.filter(pc.invert(pc.is_in(wanted, value_set=found["frame_path"])))
    del wanted, found
    pa.default_memory_pool().release_unused()  # Arrow keeps what is free; here that is as much as the table
    return pending


def _work(store: Store, table: pd.DataFrame, pending: pa.Array, source: Source, config: Config, engine: Engine) -> int:
    """Have all pending frames looked at, and save what comes; return the bytes that a worker took at most."""
    # Small sets are divided among the workers; a large one is cut into shards of the size that was asked for.
    workers = local.processes(config.detection, config.run)
    size = min(config.run.save_per_num_images, -(-len(pending) // workers))
    shards = _Shards(pending, size)
    number = _last_number(store)
    losses: Counter[str] = Counter()
    peak = 0
    results = engine(shards, config.detection, source, config.run)
    with Progress(len(pending)) as progress, contextlib.closing(results):  # type: ignore[type-var]
        for shard, result in results:
            if isinstance(result, Lost):
                again, given_up = _bisect(shard, result, losses)
                shards.put_back(again)  # at the end: what killed the worker may have been a passing shortage
                if not given_up:
                    continue
                result = pa.Table.from_pylist([row_without_boxes(given_up, "failed", result.reason)], schema=DETECTIONS)
            _check_still_there(result, table, source)
            number += 1
            _save(store, f"{_SHARDS}/{number:0{_DIGITS}d}.parquet", result.replace_schema_metadata())
            peak = max(peak, engines.peak_memory(result))
            progress.add(result.num_rows)
    if peak:
        print(f"A worker took {peak / 1e6:.0f} MB of memory at most")
    return peak


class _Shards:
    """The frames that are pending, cut into shards when they are asked for: a million names are compact until then."""

    def __init__(self, pending: pa.Array, size: int) -> None:
        self._pending, self._size, self._next = pending, size, 0
        self._again: deque[Shard] = deque()

    def __len__(self) -> int:
        return -(-(len(self._pending) - self._next) // self._size) + len(self._again)

    def popleft(self) -> Shard:
        """Take the next shard; those that were put back come last."""
        if self._next >= len(self._pending):
            return self._again.popleft()
        shard = tuple(self._pending.slice(self._next, self._size).to_pylist())
        self._next += self._size
        return shard

    def put_back(self, shards: Iterable[Shard]) -> None:
        """Add shards that are to be tried again."""
        self._again.extend(shards)


def _check_still_there(result: pa.Table, table: pd.DataFrame, source: Source) -> None:
    """Stop if the place of the frames is gone: else a drive that is lost on the way makes every frame `missing`."""
    lost = result["frame_path"].filter(pc.not_equal(result["outcome"], "ok")).to_pylist()
    if not lost:
        return
    there = table.loc[table["on_disk"], "frame_path"]
    if not there.isin(lost).any():
        return
    few = there.iloc[:: max(1, len(there) // _PROBED)]
    if all(isinstance(frame, Missing | Unreachable) for _, frame in source.open(few)):
        raise RunError(
            f"{source.root}: the frames that were there a while ago are gone (for one, {lost[0]!r}); is the drive "
            "still mounted, does the server answer? Nothing is lost: run again when it does"
        )


def _bisect(shard: Shard, loss: Lost, losses: Counter[str]) -> tuple[list[Shard], str | None]:
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


def _read(store: Store) -> list[pa.Table]:
    """All results in the order in which they were saved, in pieces: ten thousand small ones take several times more."""
    pieces: list[pa.Table] = []
    few: list[pa.Table] = []
    for name, content in store.contents((DETECTIONS_FILE, *_shards(store))):
        for table in _tables(f"{store}/{name}", content):
            few.append(table)
            if sum(map(len, few)) >= _PIECE or len(few) >= _FEW:
                pieces.append(pa.concat_tables(few).combine_chunks())
                few = []
    return [*pieces, pa.concat_tables([*few, DETECTIONS.empty_table()]).combine_chunks()]


def _tables(name: str, content: bytes | None) -> Iterator[pa.Table]:
    if content is None:
        return
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        for k in range(file.num_row_groups):
            found = file.read_row_group(k, use_threads=False)  # for small files threads only cost
            if not found.schema.equals(DETECTIONS):
                raise RunError(f"{name}: this holds no detections; delete it, and its frames are looked at again")
            yield found
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{name}: damaged ({error}); delete it, and its frames are looked at again") from error


def _in_order(pieces: list[pa.Table], table: pd.DataFrame) -> pa.Table:
    """Unite results, a row a frame, of which what was saved last counts.

    The frames of the table come first, in its order; the others follow by name. `pieces` is empty afterwards: they go
    one by one as their rows are taken over, so that a million rows are not there twice.
    """
    names = pa.chunked_array([chunk for piece in pieces for chunk in piece["frame_path"].chunks], pa.string())
    place = pc.index_in(names, value_set=pa.array(table["frame_path"], pa.string())).fill_null(len(table)).to_numpy()
    order = _order(place, names, len(table))
    del names, place
    pa.default_memory_pool().release_unused()  # Arrow keeps what is free; here that is as much as the table
    ends = np.cumsum([len(piece) for piece in pieces])
    starts = ends - [len(piece) for piece in pieces]
    owner = np.searchsorted(ends, order, side="right")
    last_use = {int(k): i for i, k in enumerate(owner)}
    united = []
    for first in range(0, len(order), _PIECE):
        owners = owner[first : first + _PIECE]
        rows, places = [], []
        for k in np.unique(owners).tolist():
            there = np.flatnonzero(owners == k)
            rows.append(pieces[k].take(order[first + there] - starts[k]))
            places.append(there)
            if last_use[k] < first + _PIECE:
                pieces[k] = DETECTIONS.empty_table()
        united.append(pa.concat_tables(rows).take(np.argsort(np.concatenate(places))).combine_chunks())
    pieces.clear()
    return pa.concat_tables([*united, DETECTIONS.empty_table()])


def _order(place: Integers, names: pa.ChunkedArray, outside: int) -> Integers:
    """Rows by place, those of the place `outside` by name; of rows of one frame the last."""
    if (place == outside).any():
        keys = pa.table({"place": place, "name": names})
        order = pc.sort_indices(keys, [("place", "ascending"), ("name", "ascending")]).to_numpy().astype(np.int64)
    else:
        order = np.argsort(place, kind="stable")
    again = place[order[1:]] == place[order[:-1]]
    beyond = int(np.searchsorted(place[order], outside))  # from here on one place is not one frame
    others = names.take(order[beyond:]).combine_chunks()
    again[beyond:] = pc.equal(others[1:], others[:-1]).to_numpy(zero_copy_only=False)
    kept: Integers = order[np.append(~again, True)[: len(order)]]
    return kept


def _compact(store: Store, found: pa.Table) -> None:
    shards = _shards(store)
    _save(store, DETECTIONS_FILE, found)
    store.delete(shards)  # a run that is killed here finds rows twice, and the same


def _save(store: Store, name: str, table: pa.Table) -> None:
    with store.writing(name) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=_PIECE)


def _shards(store: Store) -> list[str]:
    """Names of the shards in the order in which they were saved; what else lies there is somebody else's."""
    return [name for name in store.names(_SHARDS) if _SHARD.fullmatch(name)]


def _last_number(store: Store) -> int:
    names = _shards(store)
    return int(_SHARD.sub(r"\1", names[-1])) if names else 0


def count_outcomes(detections: pa.Table) -> dict[str, int]:
    """Count the frames of each outcome of detection."""
    counts = {row["values"].as_py(): row["counts"].as_py() for row in pc.value_counts(detections["outcome"])}
    return {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}


def _as_json(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=4).encode() + b"\n"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""Real inputs of every kind: a few frames of the sample, what programs write for them, and a run on them.

python -m tools.fuzz.material FOLDER [--without-runs]

The files of ``FOLDER/seeds/KIND`` are the inputs that are changed; ``frames``, ``videos``, ``run`` and ``interrupted``
are what they are read with. Nothing in them depends on the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from detectime import decision_files, outcomes, runs, sources
from detectime.config import RunConfig, load_config
from detectime.decisions import Decision
from detectime.detection import run
from detectime.detection.engines.contract import EngineError, LostShard, Shard, ShardQueue
from detectime.detection.worker import Worker
from detectime.detectors.registry import Chosen
from detectime.exports import export
from detectime.labels import frame_table
from detectime.paths import CONFIG, SAMPLE
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES
from detectime.sources.contract import Source
from detectime.splits.run_split import split_run
from tools.fuzz import media, texts

FRAMES = tuple(f"{video}/{number:04}.jpg" for video in ("stop_01", "ok_01") for number in (1, 2, 3))
"""The frames of the sample that are used."""

_MOMENT = "2026-01-02T03:04:05+00:00"
_MOMENTS = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
_MEMORY = re.compile(rb'("peak_memory_of_a_worker": )\d+')
_FROZEN = Path(__file__).resolve().parents[2] / "tests" / "frozen" / "0.2.0"


def make_material(folder: Path, *, with_runs: bool = True) -> None:
    """Make everything in a folder; without runs it takes a fraction of the time."""
    frames = folder / "frames"
    for name in FRAMES:
        (frames / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLE / "TRAIN_DATA" / name, frames / name)
        os.utime(frames / name, (media.TIME, media.TIME))
    labels = pd.read_csv(SAMPLE / "train.csv", dtype=str)
    labels = labels[labels["frame_path"].isin(FRAMES)]
    labels.to_csv(folder / "labels.csv", index=False)
    truth = json.loads((SAMPLE / "truth.json").read_bytes())
    save = partial(_save, folder / "seeds")
    texts.write_tables(save, labels)
    texts.write_annotations(save, {name: truth[name]["hands"] for name in FRAMES})
    media.write_pictures(save, frames / FRAMES[0])
    media.write_archives(save, frames, FRAMES)
    media.write_videos(save, folder / "videos", [frames / name for name in FRAMES])
    media.write_weights(save)
    save("config_yml", CONFIG.read_bytes(), (_FROZEN / "config.yml").read_bytes())
    if with_runs:
        _write_runs(folder, save)


def list_settings(folder: Path) -> dict[str, str]:
    """Return the parameters of a run on the frames in a folder of material."""
    return {"images": str(folder / "frames"), "labels": str(folder / "labels.csv")}


def _save(seeds: Path, kind: str, *contents: bytes | str) -> None:
    """Save inputs of a kind beside those that are there."""
    (seeds / kind).mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents, len(os.listdir(seeds / kind))):
        (seeds / kind / f"{number:02}").write_bytes(content.encode() if isinstance(content, str) else content)


def _write_runs(folder: Path, save: texts.Save) -> None:
    """Make a finished run with decisions, a split and an export, and an interrupted one."""
    output = folder / "run"
    finished = _detect(folder, output, _detect_inline)
    assert finished is not None
    outcomes.pair_run(finished)
    _decide(finished)
    outcomes.pair_run(finished)
    split_run(finished, {"train": 0.5, "test": 0.5})
    export.export_run(finished, ["cvat"], output / "exports", workers=1)
    _detect(folder, folder / "interrupted", _stop_early)
    for file in folder.glob("*/**/*.json"):
        file.write_bytes(_fix_times(file.read_bytes()))
    for table in ("frames", "detections", "outcomes"):
        save(f"{table}_parquet", (output / f"{table}.parquet").read_bytes())
    save("run_json", (output / "run.json").read_bytes())
    save("hands_json", (output / "hands.json").read_bytes())
    save("decisions", (output / "decisions" / "anna.jsonl").read_bytes())
    save("cvat_decisions", (output / "exports" / "cvat" / "annotations.xml").read_bytes())
    save("export_json", (output / "exports" / "cvat" / "export.json").read_bytes())
    for name in ("default", "cascade"):
        save("run_json", (_FROZEN / name / "run.json").read_bytes())
        save("detections_parquet", (_FROZEN / name / "detections.parquet").read_bytes())
    save("shard", *(path.read_bytes() for path in sorted((folder / "interrupted" / "shards").glob("0*.parquet"))))


def _decide(finished: FinishedRun) -> None:
    """Write decisions of each kind, in a file whose name does not depend on the time."""
    samples = finished.outcomes
    sample = samples[samples["outcome"].isin(SAMPLES)].iloc[0]
    x1, y1, x2, y2 = (float(sample[f"hand_{corner}"]) for corner in CORNERS)
    shown = (x1, y1, x2, y2), str(sample["class_name"])
    log = decision_files.DecisionLog(finished.store, "anna")
    log.append(
        Decision(_MOMENT, "anna", "keep", sample["frame_path"], sample["content"], *shown),
        Decision(_MOMENT, "anna", "reject", FRAMES[1], None, None, None),
        Decision(_MOMENT, "anna", "box", FRAMES[2], None, None, None, box=(10.0, 20.0, 110.0, 140.0)),
        Decision(_MOMENT, "anna", "label", FRAMES[3], None, None, "ok", class_name="like"),
    )
    written = finished.store.get(str(log.name)) or b""
    finished.store.put(f"{decision_files.FOLDER}/anna.jsonl", _fix_times(written))
    finished.store.delete([str(log.name)])


def _fix_times(content: bytes) -> bytes:
    """Replace what differs from run to run: times, and the memory that was used."""
    return _MEMORY.sub(rb"\g<1>1", _MOMENTS.sub(_MOMENT.encode(), content))


def _detect(folder: Path, output: Path, engine: Any) -> FinishedRun | None:
    """Detect in the frames, and open the run; None if it was interrupted."""
    given = list_settings(folder) | {"output": str(output), "save_per_num_images": 2, "workers": 1}
    config = load_config(CONFIG, given)
    source = sources.open_source(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    with contextlib.suppress(EngineError):
        run.detect_frames(table, source, config, config.data.output, engine)
        return runs.open_run(output)
    return None  # it was interrupted


def _detect_inline(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Detect in this process: an engine."""
    shards.share_among(1)
    worker = Worker(chosen)
    while shards:
        shard = shards.popleft()
        yield shard, worker(source, shard)


def _stop_early(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Detect two shards and fail: an engine that leaves an interrupted run."""
    results = _detect_inline(shards, chosen, source, settings)
    yield next(results)
    yield next(results)
    raise EngineError("interrupted")


if __name__ == "__main__":
    make_material(Path(sys.argv[1]), with_runs=sys.argv[2:] != ["--without-runs"])

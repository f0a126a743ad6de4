"""Measure exports: the tables of every format, and what writing pictures costs beside decoding alone.

python -m benchmarks.exporting [SAMPLES]    the tables; the pictures are a chapter of `python -m benchmarks`
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.data import Frames
from benchmarks.loading import make_run
from benchmarks.rows import ListedFolder, run_shards, write_labels
from detectime import config as configuration
from detectime import outcomes, runs
from detectime.config import Config
from detectime.detection import run as detection_run
from detectime.exports.annotations import collect_annotations
from detectime.exports.chunks import Chunks
from detectime.exports.contract import ExportConfig, ExportHead
from detectime.exports.export import export_run
from detectime.exports.pictures import PictureWorker, Reading
from detectime.exports.registry import FORMATS
from detectime.exports.selection import select_frames
from detectime.images import decode_image
from detectime.labels import frame_table, frames_csv
from detectime.runs import FinishedRun
from detectime.storage.store import open_store

SAMPLES = 175_000  # as many as the contest has
ALL_PAIRED = 100.0  # a `crop_coefficient` with which every hand overlaps the square of its face
PICTURES = ("coco", "imagefolder", "webdataset", "huggingface")


def print_report(frames: Frames, settings: Config, rounds: int) -> None:
    """Print the CPU time per frame of writing pictures as a worker does, without its start, and of decoding alone."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with contextlib.redirect_stdout(io.StringIO()):  # progress
            run = make_run(frames, settings, frames.images, folder / "run")
        selection = select_frames(run, ExportConfig())
        paths = selection.frames["frame_path"].tolist()
        work = {"decoding alone": partial(_decode, frames.images, paths)}
        work |= {f"export to {name}": partial(_write_pictures, run, name, folder) for name in PICTURES}
        contenders = {name: partial(_time_each, function, len(paths)) for name, function in work.items()}
        measured = measure.time_in_turn(contenders, rounds)
    reference = measured["decoding alone"]
    measure.print_table(
        f"{frames.title}: CPU ms per frame of writing pictures, {len(paths)} frames",
        ("", "ms per frame", "× decoding"),
        (
            (name, measure.format_spread(values, 2), measure.format_ratios(values, reference))
            for name, values in measured.items()
        ),
    )


def _time_each(work: partial[None], frames: int) -> float:
    return 1000 * measure.time_cpu(work) / frames


def _decode(images: Path, paths: list[str]) -> None:
    for path in paths:
        decode_image((images / path).read_bytes())


def _write_pictures(run: FinishedRun, name: str, folder: Path) -> None:
    """Write the pictures of a run in this process."""
    with tempfile.TemporaryDirectory(dir=folder) as to:
        store, kind, config = open_store(to), FORMATS[name], ExportConfig()
        collected = collect_annotations(run, select_frames(run, config), kind, config)
        data, detection = collected.data, run.config.detection
        head = ExportHead(data.classes, data.numbers, data.pictures)
        worker = PictureWorker(to, name, Reading(detection.exif, detection.max_pixels), head)
        chunks = Chunks(collected, kind, store)
        while chunks:
            worker(run.source, chunks.popleft(), lambda _: None)


def _make_run(samples: int, folder: Path) -> FinishedRun:
    """Make a run of imagined frames, each with a sample."""
    labels = write_labels(samples, folder)
    settings = configuration.load_config(parameters={"labels": str(labels), "output": str(folder / "run")})
    source = ListedFolder(str(folder), rows=samples)
    table = frames_csv.read_frames_csv(labels, source, settings.labels)
    table = frame_table.select_frames(table, settings.classes)
    detection_run.detect_frames(table, source, settings, settings.data.output, run_shards)
    run = runs.open_run(settings.data.output)
    parameters = {"crop_coefficient": ALL_PAIRED, "wider_coefficient": ALL_PAIRED}
    outcomes.pair_run(run, configuration.load_config(parameters=parameters).pairing)
    return run


def _measure_tables(output: str, name: str) -> tuple[float, float, float]:
    """Return the seconds, the CPU seconds and the peak memory in MB of the tables of a format."""
    run = runs.open_run(output)
    begin, before = time.perf_counter(), time.process_time()
    # Not deleted before the next format: ext4 makes new files slowly after many were deleted.
    export_run(run, [name], Path(output).parent, ExportConfig(images="none"))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - before
    return seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """Print the table of formats that hold no pictures of their own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporting", description="Measure exports of tables.")
    parser.add_argument("samples", type=int, nargs="?", default=SAMPLES, metavar="SAMPLES", help=f"default: {SAMPLES}")
    parser.add_argument("--of", nargs=2, metavar=("OUTPUT", "FORMAT"), help=argparse.SUPPRESS)  # in its own process
    arguments = parser.parse_args()
    if arguments.of:
        print(*_measure_tables(*arguments.of))
        return
    with tempfile.TemporaryDirectory() as text:
        with contextlib.redirect_stdout(io.StringIO()):  # progress
            run = _make_run(arguments.samples, Path(text))
        rows = []
        for name in (name for name, kind in FORMATS.items() if "none" in kind.accepted_images):
            command = [sys.executable, "-m", "benchmarks.exporting", "--of", str(run.store), name]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            seconds, cpu, peak = map(float, printed.split())
            rows.append((name, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:.0f}"))
    measure.print_table(
        f"{arguments.samples:,} samples, tables without pictures, each format in a process of its own",
        ("format", "seconds", "CPU seconds", "peak memory, MB"),
        rows,
    )


if __name__ == "__main__":
    main()

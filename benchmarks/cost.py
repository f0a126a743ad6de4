"""Measure CPU milliseconds per frame, by stage, and compare with plain decoding and with the MediaPipe loop."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks import measure, peers
from benchmarks.data import WORDS, Frames, make_worker
from benchmarks.peers import Loop
from detectime import boxes, pairing
from detectime import config as configuration
from detectime.config import Config
from detectime.detection.worker import Worker
from detectime.exports import hands_json
from detectime.images import EncodedImage
from detectime.sources.folder import FolderSource

SIDES = (None, 1280, 1920)  # pixels of the longer side that frames are enlarged to; None: original size
STAGES = ("decode", "faces", "hands: hagrid", "hands: mediapipe", "other", "total", "of which resizing")
BATCH = 4  # frames; the rows are the same
ALL_PIXELS = "balanced, faces at 640, full decoding"
PLAIN, LOOP = "plain full decoding in its own process: cv2.imread, cvtColor", "MediaPipe 0.10 loop"
PAIRED = 100_000  # frames to pair and write


def make_variants(settings: Config) -> dict[str, Config]:
    """Return the configurations to compare, by name."""

    def set_keys(**keys: Any) -> Config:
        return dataclasses.replace(settings, detection=configuration.load_config(parameters=keys).detection)

    variants = {word: set_keys(quality=word) for word in WORDS}
    variants |= {f"{word}, batch: {BATCH}": set_keys(quality=word, batch=BATCH) for word in WORDS}
    return variants | {ALL_PIXELS: set_keys(face_first_resolution=640, reduced_decoding=False)}


def print_report(frames: Frames, settings: Config, peer: Loop | None, rounds: int) -> None:
    """Print the tables."""
    names = frames.names
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            images = frames.images if side is None else enlarge(frames, side, Path(folder, str(side)))
            size = "original size" if side is None else f"enlarged to a longer side of {side}"
            compare_costs(images, names, f"{len(names)} frames, {size}", settings, peer, rounds)
    compare_sizes(frames, settings)
    time_pairing(frames, settings, rounds)


def enlarge(frames: Frames, side: int, folder: Path) -> Path:
    """Write the frames scaled to a longer side, as JPEG of quality 90."""
    for name in frames.names:
        image = cv2.imread(str(frames.images / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        scale = side / max(image.shape)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        larger = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(target), larger, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def compare_costs(
    folder: Path, names: Sequence[str], title: str, settings: Config, peer: Loop | None, rounds: int
) -> None:
    """Print two tables for the frames of one folder: total cost of all contenders, and cost by stage."""
    paths = [str(folder / name) for name in names]
    source = FolderSource(str(folder))
    workers = {name: make_worker(variant.detection) for name, variant in make_variants(settings).items()}
    profiles: dict[str, list[Counter[str]]] = {name: [] for name in workers}

    def decode_all() -> None:  # no image is kept, as in a loop
        for path in paths:
            cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]

    def time_detection(name: str) -> float:
        profile = Profile(workers[name])
        with profile:
            seconds = measure.time_cpu(lambda: workers[name](source, names))
        profiles[name].append(profile.finish(seconds))
        return seconds

    contenders: dict[str, Callable[[], float]] = {
        PLAIN: lambda: plain_loop.time(folder, names),
        "the same in this process, which keeps its memory": lambda: measure.time_cpu(decode_all),
    }
    if peer:
        contenders[LOOP] = lambda: peer.time(folder, names)
    ours = {name: partial(time_detection, name) for name in workers}
    with peers.start_decode_loop() as plain_loop:
        measured = measure.time_in_turn(contenders | ours, rounds)
    per_frame = {name: [1000 * s / len(names) for s in seconds] for name, seconds in measured.items()}
    plain, loop = (per_frame.get(name, []) for name in (PLAIN, LOOP))
    measure.print_table(
        f"{title}: total including reading, one thread",
        ("", "CPU ms per frame", "× plain decoding", "× MediaPipe loop"),
        (
            (
                name,
                measure.format_spread(times),
                measure.format_ratios(times, plain),
                measure.format_ratios(times, loop) if loop else "–",
            )
            for name, times in per_frame.items()
        ),
    )
    measure.print_table(
        f"{title}: by stage, CPU ms per frame",
        ("", *STAGES),
        (
            (name, *(measure.format_spread(1000 * times[stage] / len(names) for times in runs[1:]) for stage in STAGES))
            for name, runs in profiles.items()
            if "batch" not in name  # frames are decoded in threads meanwhile, whose time would count twice
        ),
    )


class Profile:
    """CPU time of the stages of a worker, measured by wrapping the functions that it calls."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._times: Counter[str] = Counter()
        cascade = worker.cascade
        self._face_detector, self._searches = cascade._face_detector, cascade._searches
        self._read_pixels = EncodedImage.read_pixels
        self._resize: Callable[..., Any] = cv2.resize

    def __enter__(self) -> None:
        read_pixels, times = self._read_pixels, self._times

        def read_timed(image: EncodedImage, side: int | None = None) -> Any:
            before = time.process_time()
            pixels = read_pixels(image, side)
            times["decode"] += time.process_time() - before  # type: ignore[assignment]
            return pixels

        def timed_resize(*arguments: Any, **more: Any) -> Any:
            before = time.process_time()
            resized = self._resize(*arguments, **more)
            times["of which resizing"] += time.process_time() - before  # type: ignore[assignment]
            return resized

        cv2.resize = timed_resize
        EncodedImage.read_pixels = read_timed  # type: ignore[method-assign, assignment]
        cascade = self._worker.cascade
        cascade._face_detector = _Timed(self._face_detector, "faces", times)
        cascade._searches = [
            dataclasses.replace(search, detector=_Timed(search.detector, f"hands: {search.spec.name}", times))
            for search in self._searches
        ]

    def __exit__(self, *_: object) -> None:
        cv2.resize = self._resize
        EncodedImage.read_pixels = self._read_pixels  # type: ignore[method-assign]
        self._worker.cascade._face_detector = self._face_detector
        self._worker.cascade._searches = self._searches

    def finish(self, seconds: float) -> Counter[str]:
        """Return the seconds of each stage, and those outside of any stage."""
        stages = sum(taken for stage, taken in self._times.items() if stage != "of which resizing")
        self._times["other"] = seconds - stages  # type: ignore[assignment]
        self._times["total"] = seconds  # type: ignore[assignment]
        return self._times


class _Timed:
    """A detector that counts its CPU time."""

    def __init__(self, detector: Any, name: str, times: Counter[str]) -> None:
        self._detector, self._name, self._times = detector, name, times

    def detect(self, *arguments: Any) -> Any:
        before = time.process_time()
        detections = self._detector.detect(*arguments)
        self._times[self._name] += time.process_time() - before  # type: ignore[assignment]
        return detections


def compare_sizes(frames: Frames, settings: Config) -> None:
    """Compare the samples of the original frames with those of the enlarged frames."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        larger = {side: enlarge(frames, side, Path(folder, str(side))) for side in SIDES if side}
        for name, variant in [(word, make_variants(settings)[word]) for word in WORDS]:
            worker = make_worker(variant.detection)
            samples = frames.make_samples(worker, frames.images, variant)
            has_pair = samples["outcome"] == "paired"
            cells = [f"{int(has_pair.sum())} of {len(frames.names)}"]
            for images in larger.values():
                others = frames.make_samples(worker, images, variant)
                both = has_pair & (others["outcome"] == "paired")
                iou = boxes.compute_iou(_scale_boxes(samples[both]), _scale_boxes(others[both]))
                cells += [f"{int((others['outcome'] == 'paired').sum())}", f"{int((iou >= 0.8).sum())} of {len(iou)}"]
            rows.append((name, *cells))
    head = [text for side in larger for text in (f"at {side}", "IoU ≥ .8 with original size")]
    measure.print_table("Samples of gesture frames, by size", ("", "original size", *head), rows)


def _scale_boxes(samples: pd.DataFrame) -> boxes.Floats:
    sizes: boxes.Floats = samples[["width", "height"]].to_numpy()
    return pairing.get_boxes(samples, "hand") / np.tile(sizes, 2)


def time_pairing(frames: Frames, settings: Config, rounds: int) -> None:
    """Measure pairing and writing, which need no images."""
    variant = make_variants(settings)["best"]
    found = make_worker(variant.detection)(FolderSource(str(frames.images)), frames.names)
    times = -(-PAIRED // len(frames.names))
    many = pa.concat_tables([found] * times).combine_chunks()
    paths = pa.array([f"{k}/{path}" for k in range(times) for path in frames.names])
    many = many.set_column(0, "frame_path", paths).cast(found.schema)
    table = frames.table[frames.table["wanted"]]
    table = table.loc[table.index.repeat(times)].assign(frame_path=paths.to_pylist())
    samples = pairing.pair_frames(table, many, variant.pairing)
    with tempfile.TemporaryDirectory() as folder:
        work: dict[str, Callable[[], object]] = {
            "pairing": lambda: pairing.pair_frames(table, many, variant.pairing),
            "writing hands.json": lambda: hands_json.write_hands_json(samples, Path(folder, "hands.json")),
        }
        measured = measure.time_in_turn({name: partial(measure.time_cpu, w) for name, w in work.items()}, rounds)
    measure.print_table(
        f"Pairing and writing, {len(table):,} frames",
        ("", "CPU µs per frame"),
        ((name, measure.format_spread(1e6 * s / len(table) for s in seconds)) for name, seconds in measured.items()),
    )

"""What a frame costs: CPU milliseconds by stage, beside a plain decode and beside MediaPipe's loop."""

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
from benchmarks.data import Frames, make_worker
from benchmarks.peers import Loop
from detectime import boxes, pairing
from detectime.config import Config
from detectime.detection.worker import Worker
from detectime.exports import hands_json
from detectime.images import EncodedImage
from detectime.sources.folder import FolderSource

SIDES = (None, 1280, 1920)  # longer side that the frames are enlarged to; None: as they are
STAGES = ("decode", "faces", "hands: hagrid", "hands: mediapipe", "the rest", "all", "of it resizing")
PLAIN, LOOP = "plain full decode alone: cv2.imread, cvtColor", "MediaPipe 0.10's loop"
PAIRED = 100_000  # frames whose pairing and writing is timed


def variants(settings: Config) -> dict[str, Config]:
    """Return the configurations that are compared, by name."""

    def with_(**keys: Any) -> Config:
        return dataclasses.replace(settings, detection=dataclasses.replace(settings.detection, **keys))

    return {
        "default": settings,
        "hagrid, mediapipe": with_(hand_detector=("hagrid", "mediapipe")),
        "default, but faces at 640 and full decoding": with_(face_first_resolution=640, reduced_decoding=False),
    }


def report(frames: Frames, settings: Config, peer: Loop | None, rounds: int) -> None:
    """Print the tables."""
    names = frames.names
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            place = frames.images if side is None else enlarge(frames, side, Path(folder, str(side)))
            size = "as they are" if side is None else f"enlarged to a longer side of {side}"
            compare(place, names, f"{len(names)} frames, {size}", settings, peer, rounds)
    agreement(frames, settings)
    arithmetic(frames, settings, rounds)


def enlarge(frames: Frames, side: int, folder: Path) -> Path:
    """Write the frames with another longer side, as JPEG of quality 90."""
    for name in frames.names:
        image = cv2.imread(str(frames.images / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        scale = side / max(image.shape)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        larger = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(target), larger, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder


def compare(folder: Path, names: Sequence[str], title: str, settings: Config, peer: Loop | None, rounds: int) -> None:
    """Time the whole work on one folder, all contenders in turn, and then each stage."""
    paths = [str(folder / name) for name in names]
    source = FolderSource(str(folder))
    workers = {name: make_worker(variant.detection) for name, variant in variants(settings).items()}
    profiles: dict[str, list[Counter[str]]] = {name: [] for name in workers}

    def decode_all() -> None:  # none is kept, as in a loop
        for path in paths:
            cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]

    def look(name: str) -> float:
        profile = Profile(workers[name])
        with profile:
            seconds = measure.cpu(lambda: workers[name](source, names))
        profiles[name].append(profile.finish(seconds))
        return seconds

    contenders: dict[str, Callable[[], float]] = {
        PLAIN: lambda: plain_loop.time(folder, names),
        "the same in this process, its memory kept": lambda: measure.cpu(decode_all),
    }
    if peer:
        contenders[LOOP] = lambda: peer.time(folder, names)
    ours = {name: partial(look, name) for name in workers}
    with peers.decode() as plain_loop:
        measured = measure.in_turn(contenders | ours, rounds)
    per_frame = {name: [1000 * s / len(names) for s in seconds] for name, seconds in measured.items()}
    plain, loop = (per_frame.get(name, []) for name in (PLAIN, LOOP))
    measure.print_table(
        f"{title}: all of it, reading included, one thread",
        ("", "CPU ms a frame", "× plain decode", "× MediaPipe's loop"),
        (
            (name, measure.spread(times), measure.ratios(times, plain), measure.ratios(times, loop) if loop else "–")
            for name, times in per_frame.items()
        ),
    )
    measure.print_table(
        f"{title}: by stage, CPU ms a frame",
        ("", *STAGES),
        (
            (name, *(measure.spread(1000 * p[stage] / len(names) for p in found[1:]) for stage in STAGES))
            for name, found in profiles.items()
        ),
    )


class Profile:
    """CPU time of the parts of a worker's work, taken where it calls them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._times: Counter[str] = Counter()
        self._faces, self._looks, self._pixels = worker._faces, worker._looks, EncodedImage.pixels
        self._resize: Callable[..., Any] = cv2.resize

    def __enter__(self) -> None:
        pixels, times = self._pixels, self._times

        def timed_pixels(picture: EncodedImage, side: int | None = None) -> Any:
            before = time.process_time()
            image = pixels(picture, side)
            times["decode"] += time.process_time() - before  # type: ignore[assignment]
            return image

        def timed_resize(*arguments: Any, **more: Any) -> Any:
            before = time.process_time()
            resized = self._resize(*arguments, **more)
            times["of it resizing"] += time.process_time() - before  # type: ignore[assignment]
            return resized

        cv2.resize = timed_resize
        EncodedImage.pixels = timed_pixels  # type: ignore[method-assign, assignment]
        self._worker._faces = _Timed(self._faces, "faces", times)
        self._worker._looks = [
            dataclasses.replace(look, detector=_Timed(look.detector, f"hands: {look.name}", times))
            for look in self._looks
        ]

    def __exit__(self, *_: object) -> None:
        cv2.resize = self._resize
        EncodedImage.pixels = self._pixels  # type: ignore[method-assign]
        self._worker._faces, self._worker._looks = self._faces, self._looks

    def finish(self, seconds: float) -> Counter[str]:
        """Return the seconds of each stage, and of what is none of them."""
        stages = sum(taken for stage, taken in self._times.items() if stage != "of it resizing")
        self._times["the rest"] = seconds - stages  # type: ignore[assignment]
        self._times["all"] = seconds  # type: ignore[assignment]
        return self._times


class _Timed:
    """A detector whose CPU time is counted."""

    def __init__(self, detector: Any, name: str, times: Counter[str]) -> None:
        self._detector, self._name, self._times = detector, name, times

    def detect(self, *arguments: Any) -> Any:
        before = time.process_time()
        found = self._detector.detect(*arguments)
        self._times[self._name] += time.process_time() - before  # type: ignore[assignment]
        return found


def agreement(frames: Frames, settings: Config) -> None:
    """Compare the samples of the frames as they are with those of the enlarged ones."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        larger = {side: enlarge(frames, side, Path(folder, str(side))) for side in SIDES if side}
        for name, variant in list(variants(settings).items())[:2]:
            worker = make_worker(variant.detection)
            samples = frames.samples(worker, frames.images, variant)
            here = samples["outcome"] == "paired"
            cells = [f"{int(here.sum())} of {len(frames.names)}"]
            for place in larger.values():
                others = frames.samples(worker, place, variant)
                both = here & (others["outcome"] == "paired")
                iou = boxes.compute_iou(_shares(samples[both]), _shares(others[both]))
                cells += [f"{int((others['outcome'] == 'paired').sum())}", f"{int((iou >= 0.8).sum())} of {len(iou)}"]
            rows.append((name, *cells))
    head = [text for side in larger for text in (f"at {side}", "IoU ≥ .8 with as they are")]
    measure.print_table("Samples of gesture frames, and whether size matters", ("", "as they are", *head), rows)


def _shares(samples: pd.DataFrame) -> boxes.Floats:
    sizes: boxes.Floats = samples[["width", "height"]].to_numpy()
    return pairing.get_boxes(samples, "hand") / np.tile(sizes, 2)


def arithmetic(frames: Frames, settings: Config, rounds: int) -> None:
    """Time what needs no image."""
    variant = variants(settings)["hagrid, mediapipe"]
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
        measured = measure.in_turn({name: partial(measure.cpu, w) for name, w in work.items()}, rounds)
    measure.print_table(
        f"What needs no image, {len(table):,} frames",
        ("", "CPU µs a frame"),
        ((name, measure.spread(1e6 * s / len(table) for s in seconds)) for name, seconds in measured.items()),
    )

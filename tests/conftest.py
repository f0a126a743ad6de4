"""Fixtures, and functions that make images, tables and detections, for all test files."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import buckets
import faults
import filelock
import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from finished_runs import make_run
from numpy.typing import NDArray
from PIL import Image
from skips import (  # noqa: F401 (hooks)
    need_extra,
    pytest_addoption,
    pytest_configure,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

from detectime.config import DetectionConfig
from detectime.detection.worker import Worker
from detectime.detectors import hagrid, yunet
from detectime.detectors.registry import FACES, HANDS, choose_detectors
from detectime.images import MAX_PIXELS, RGB, FrameImage, UnreadableImageError, decode_image
from detectime.schema import DETECTIONS
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.reading import read_images
from detectime.storage import downloads, name_index
from detectime.storage.downloads import WeightsFile

# An example takes as long as other tests have the processor.
hypothesis.settings.register_profile("beside others", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("beside others")

LABELS = {"no_gesture": 0, "stop": 1, "victory": 2, "mute": 3, "ok": 4, "like": 5, "dislike": 6}
SHARED = Path(__file__).parents[2] / "shared"
FROZEN = Path(__file__).parent / "frozen" / "0.2.0"

OWN_FOLDERS = {
    "video/1.jpg other/2.jpg": "video/1.jpg other/2.jpg",
    "train_data7/video/1.jpg train_data7/other/2.jpg train_data7/read.me": "video/1.jpg other/2.jpg read.me",
    "train_data/video/1.jpg": "video/1.jpg",
    "train_data7/video/1.jpg __MACOSX/train_data7/._video": "video/1.jpg",
    "train_data7/1.jpg": "train_data7/1.jpg",  # train_data7 is a video here
    "train_data8/video/1.jpg": "train_data8/video/1.jpg",
    "train_data7/video/1.jpg other/2.jpg": "train_data7/video/1.jpg other/2.jpg",
}
"""Members of an archive ``train_data7``, and their frame paths, both unpacked and read in place."""

Box = tuple[float, float, float, float]

PER_HAND = ("landmarks", "presence", "handedness", "proposal", "crop_hash")
"""Columns of the detections table with one element per hand."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the quick tests first; in a worker, the files of most slow tests, so that no worker waits at the end."""
    if hasattr(config, "workerinput"):
        weights: Counter[Path] = Counter()
        for item in items:
            if item.get_closest_marker("slow"):
                weights[item.path] += (
                    20 if hasattr(getattr(item, "module", None), "open_lab") else 1
                )  # JupyterLab starts
        items.sort(key=lambda item: -weights[item.path])
    else:
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def worker() -> Worker:
    """Build a worker with the default detectors."""
    return make_worker()


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return the folder of a finished run on the sample, made once for all xdist workers; tests that write copy it."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    output = folder / "sample_run"
    with filelock.FileLock(folder / "sample_run.lock"):
        if not output.exists():
            Path(str(make_run(folder / "unfinished_run").store)).rename(output)
    return output


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder beside the repository that holds real frames and large weights."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder lacks frames")
    return SHARED


@pytest.fixture
def hagrid_weights(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the `hagrid` weights available, which are not part of the package."""
    return provide_weights(hagrid.WEIGHTS, monkeypatch)


@pytest.fixture
def yunet_weights(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the `yunet` weights available, which are not part of the package."""
    return provide_weights(yunet.WEIGHTS, monkeypatch)


def provide_weights(file: WeightsFile, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the folder that has a weights file in the environment, and return the path of the file."""
    for folder in (SHARED / "weights", *downloads.list_weights_folders()):
        if (folder / file.name).is_file():
            monkeypatch.setenv("DETECTIME_WEIGHTS", str(folder))
            return folder / file.name
    pytest.skip(f"the shared folder lacks weights/{file.name}")


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all detectors selectable without their weights and extras: no test runs detection."""
    for known in (FACES, HANDS):
        for name, spec in known.items():
            own = (lambda _: {"weights": "1"}) if spec.needs and not spec.pinned else spec.own_fingerprint
            find = (lambda _: []) if spec.needs or spec.pinned else spec.find_weights
            changed = dataclasses.replace(spec, find_weights=find, needs=(), own_fingerprint=own)
            monkeypatch.setitem(known, name, changed)


@pytest.fixture
def mediapipe_of_0_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `mediapipe` the revision and weights that runs of 0.2 recorded, so that such a run may grow."""
    made = json.loads((FROZEN / "default" / "run.json").read_text())
    weights = made["detectors"]["mediapipe"]
    spec = dataclasses.replace(HANDS["mediapipe"], revision=1, own_fingerprint=lambda _: weights)
    monkeypatch.setitem(HANDS, "mediapipe", spec)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the frames `faults.NAMES`, which have no fault."""
    folder = tmp_path_factory.mktemp("images")
    faults.make_frames(folder, faults.NAMES)
    return folder


@pytest.fixture(scope="session")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the ``detections.parquet`` of an undisturbed run over `faults.NAMES`."""
    output = tmp_path_factory.mktemp("uninterrupted")
    faults.run_uninterrupted(images, faults.NAMES, output, workers=1)
    return (output / "detections.parquet").read_bytes()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Make a folder for the journal of a `faults.FaultyFolder`."""
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture
def temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this test and its workers a temporary folder of their own, so that no cached index is reused."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    forget_name_indexes()
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of one megabyte."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Serve buckets to a test file, and point the environment at the server; returns its URL."""
    need_extra("moto")
    s3fs = need_extra("s3fs")
    with buckets.serve_buckets() as (address, _), pytest.MonkeyPatch.context() as patch:
        for name, value in buckets.make_environment(address).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # a connection that another file made has no credentials
        yield address
    s3fs.S3FileSystem.clear_instance_cache()  # cached connections lead to this server


def forget_name_indexes() -> None:
    """Forget the indexes that this process has opened, as another process would not have them."""
    name_index._load_or_build.cache_clear()


def count_open_files() -> int:
    """Count the open file descriptors of this process."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else pytest.skip("there is no /proc")


_MEASURE = """
import sys

def read_peak():
    # Not getrusage: a child inherits the maximum of its parent.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

{setup}
peak_before = read_peak()
{work}
print(read_peak() - peak_before)
"""


def measure_memory(setup: str, work: str, *arguments: object) -> tuple[float, list[str]]:
    """Run code in a process of its own; return by how many MB `work` raised its peak memory, and the lines it printed.

    Parameters
    ----------
    setup, work
        Python code; `arguments` are its ``sys.argv[1:]``.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc")
    command = [sys.executable, "-c", _MEASURE.format(setup=setup, work=work), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, megabytes = done.stdout.splitlines()
    return float(megabytes), lines


def make_worker(**parameters: Any) -> Worker:
    """Build a worker in this process, with the detectors that these keys of `detection` choose."""
    return Worker(choose_detectors(DetectionConfig(**parameters)))


def read_image(path: Path) -> RGB:
    """Read and decode an image file."""
    return decode_image(path.read_bytes())


def encode_image(picture: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Encode an image as the bytes of a file."""
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


def draw_pattern(width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Draw a smooth image without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, x + 2 * y], axis=-1).astype(np.uint8)


def draw_noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def darken(image: RGB, share: float) -> RGB:
    """Return an image with this share of its light."""
    return np.asarray(image * share, np.uint8)


def make_huge_png(width: int, height: int) -> bytes:
    """Write a PNG whose header promises many pixels, without the pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def make_huge_jpeg(width: int, height: int) -> bytes:
    """Write a small JPEG whose header promises more pixels."""
    content = bytearray(encode_image(draw_pattern()[..., 0], "JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def read_all(
    source: Source, names: Iterable[str], exif: str = "ignore", max_pixels: int = MAX_PIXELS
) -> list[FrameImage | MissingFrameError | UnreadableImageError]:
    """Read frames of a source as images, or the reasons why there is none."""
    names = list(names)
    found = list(read_images(source, names, exif=exif, max_pixels=max_pixels))
    assert [name for name, _ in found] == names
    return [frame for _, frame in found]


def list_names(source: Source) -> list[str]:
    """List the frame paths of a source."""
    return [name for name, _ in source.list_frames()]


def make_frame_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a frame table as `labels.frame_table.select_frames` returns it; a row needs only a `frame_path`."""
    default = {"video_name": "video", "frame_id": 0, "class_name": "ok", "on_disk": True, "wanted": True}
    table = pd.DataFrame([default | row for row in rows])
    table["label"] = table["class_name"].map(LABELS).astype("int64")
    return table


def make_detection(box: Box, detector: str = "test", stage: str = "frame", score: float = 0.75) -> dict[str, Any]:
    """Make one element of `faces` or `hands`."""
    corners = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    return {**corners, "score": score, "detector": detector, "stage": stage}


def make_detection_row(
    frame_path: str,
    faces: Iterable[Box] = (),
    hands: Iterable[Box | dict[str, Any]] = (),
    size: tuple[int, int] = (640, 480),
    outcome: str = "ok",
) -> dict[str, Any]:
    """Make a row of the detections table; a hand is a box, or the result of `make_detection`."""
    ok = outcome == "ok"
    found = [hand if isinstance(hand, dict) else make_detection(hand) for hand in hands]
    return {
        "frame_path": frame_path,
        "outcome": outcome,
        "error": None if ok else "a reason",
        "width": size[0] if ok else None,
        "height": size[1] if ok else None,
        "faces": [make_detection(box) for box in faces],
        "hands": found,
        **{column: [None] * len(found) for column in PER_HAND},
    }


def make_detections_table(*rows: Mapping[str, Any]) -> pa.Table:
    """Make a detections table from results of `make_detection_row`."""
    return pa.Table.from_pylist(list(rows), schema=DETECTIONS)

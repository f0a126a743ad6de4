"""The functions of detectime that read inputs of each kind, and what a right answer is.

A function ``read_KIND`` returns if the input is accepted, and raises a documented error if it is refused. What was
accepted is looked at as far as a wrong answer can be told from a right one: `WrongAnswerError` otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from detectime import cvat_decisions, decision_import, outcomes, runs, sources, trace
from detectime.config import (
    WITHOUT_LABELS,
    Config,
    RunConfig,
    config_from_dict,
    config_to_dict,
    list_differences,
    load_config,
)
from detectime.detection import run as detection
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detection.worker import make_row_without_boxes
from detectime.detectors import face_cache
from detectime.detectors.registry import Chosen
from detectime.errors import DocumentedError
from detectime.exports import export_folder, selection
from detectime.exports.contract import ExportConfig
from detectime.images import UnreadableImageError, compute_max_bytes, hash_crop
from detectime.labels import frame_table, vocabulary
from detectime.paths import CONFIG
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, DETECTIONS, SAMPLES, TRUTH, Outcome
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.folder import FolderSource
from detectime.sources.listing import list_source
from detectime.sources.reading import read_images
from detectime.splits import split_file
from detectime.storage import run_tables
from detectime.storage.store import open_store
from detectime.truth import reading
from tools.fuzz import material, media

_MAX_PIXELS = 100_000_000  # detection.max_pixels as delivered
_REDUCED = 96  # pixels: what a worker asks for that looks for large faces
_MOST_FRAMES = 40  # of a source that are read
_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
_FARTHEST = 1e6  # pixels: no box of a sample is beyond


class WrongAnswerError(Exception):
    """An answer that cannot be right."""


@dataclass(frozen=True)
class Place:
    """Where an input is read.

    Attributes
    ----------
    material
        What `material.make_material` made.
    scratch
        An empty folder, deleted afterwards.
    """

    material: Path
    scratch: Path

    def copy_run(self, name: str = "run") -> Path:
        """Copy a run of the material, and return its folder."""
        target = self.scratch / "run"
        shutil.copytree(
            self.material / name, target, ignore=shutil.ignore_patterns("exports") if name == "run" else None
        )
        return target


Target = Callable[[Path, Place], None]


def _check(is_right: bool, what: str) -> None:
    if not is_right:
        raise WrongAnswerError(what)


def _try_each(*calls: Callable[[], object]) -> None:
    """Call all functions; raise what the first raised if each refused."""
    refusals: list[DocumentedError] = []
    for call in calls:
        try:
            call()
        except DocumentedError as error:
            refusals.append(error)
    if len(refusals) == len(calls):
        raise refusals[0]


# -- images and sources


@dataclass(frozen=True)
class _OneImage(FolderSource):
    """A folder that has one image, whatever its name."""

    encoded: bytes = b""

    def read_frames(
        self, frame_paths: Iterable[str], max_bytes: int | None = None
    ) -> Iterator[tuple[str, bytes | MissingFrameError | UnreadableImageError]]:
        """Yield the image."""
        return ((name, self.encoded) for name in frame_paths)


def _read_image(path: Path, place: Place) -> None:
    """Read an image as a worker does: some are turned by their orientation, others not."""
    exif = "ignore" if path.stat().st_size % 2 else "apply"
    _read_frames(_OneImage("an image", encoded=path.read_bytes()), ["image"], exif)


def _read_frames(source: Source, names: Iterable[str], exif: str = "apply") -> None:
    """Read frames of a source; raise what the first raised if no frame can be had."""
    refusal: DocumentedError | None = None
    count = 0
    asked = list(names)
    answered = []
    for name, image in read_images(source, asked, exif=exif, max_pixels=_MAX_PIXELS):
        answered.append(name)
        try:
            if isinstance(image, DocumentedError):
                raise image
            for side in (_REDUCED, None):
                pixels = image.read_pixels(side)
                shape = pixels.shape
                _check(pixels.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3, f"pixels of shape {shape}")
                _check(min(shape) > 0, f"no pixels: {shape}")
                allowed = (1, 2, 4, 8) if side else (1,)
                sizes = [(-(-image.height // factor), -(-image.width // factor)) for factor in allowed]
                _check(shape[:2] in sizes, f"{shape} pixels of an image of {image.width} x {image.height}")
            _check(1 <= image.orientation <= 8, f"orientation {image.orientation}")
            hash_crop(pixels, (0, 0, image.width, image.height))
            count += 1
        except DocumentedError as error:
            _check_cause(error)
            refusal = refusal or error
    _check(answered == asked, f"{len(answered)} answers for {len(asked)} frames")
    if not count and refusal is not None:
        raise refusal


def _check_cause(error: DocumentedError) -> None:
    """Find a mistake of detectime's own code among what decoders raise, which is all called a broken image."""
    cause = error.__cause__
    if isinstance(cause, _MISTAKES) and not isinstance(cause, DocumentedError):
        last = traceback.extract_tb(cause.__traceback__)[-1]
        # The names of files of compiled packages are relative to where they were compiled.
        is_of_a_package = "site-packages" in last.filename or not os.path.isfile(last.filename)
        _check(is_of_a_package, f"{type(cause).__name__} in {last.name} is taken for a broken image")


def _read_source(path: Path, place: Place) -> None:
    """List a source, and read its frames."""
    source = sources.open_source(str(path))
    listing = list_source(source)
    if listing.error is not None:
        raise listing.error
    names = [os.fsdecode(name) for name in listing.names.to_pylist()]
    _check(len(set(names)) == len(names), "a name is listed twice")
    if not names:
        _check(bool(listing.unreachable), "nothing is listed, without a reason")
        raise DocumentedError(listing.unreachable)
    _check(listing.find(listing.names).to_pylist() == list(range(len(names))), "a listed name is not found")
    _read_frames(source, names[:_MOST_FRAMES])
    list(source.read_frames(names[-3:], compute_max_bytes(1000)))


# -- labels


def _make_config(place: Place, **parameters: Any) -> Config:
    given = material.list_settings(place.material) | {"output": str(place.scratch / "output")}
    if parameters.get("labels_type") in WITHOUT_LABELS:
        del given["labels"]
    return load_config(CONFIG, given | parameters)


def _read_labels(path: Path, place: Place, rows: pd.DataFrame | None = None, **parameters: Any) -> None:
    """Read labels as a run does before detection: some with the classes of the configuration, others with their own."""
    config = _make_config(place, **parameters)
    source = sources.open_source(config.data.images, config.data.source_type)
    if path.stat().st_size % 2:
        config = dataclasses.replace(config, labels={}, labels_are_auto=True)
        config = vocabulary.number_labels(config, source, rows)
    table = frame_table.read_labels(config, source, rows)
    _check_frames(table, config)
    table = frame_table.select_frames(table, config.classes)
    frame_table.count_frames(table)
    frame_table.summarize_frames(table)
    store = open_store(str(place.scratch))
    run_tables.write_frames(store, table)
    stored = run_tables.read_frames(store)
    _check(stored is not None and stored.columns.tolist() == table.columns.tolist(), "columns are lost when stored")
    _check(stored["frame_path"].tolist() == table["frame_path"].tolist(), "frames are lost when stored")  # type: ignore[index]


def _check_frames(table: pd.DataFrame, config: Config) -> None:
    _check(len(table) > 0, "a frame table without rows")
    _check(bool(table["frame_path"].notna().all() and (table["frame_path"] != "").all()), "a frame without a path")
    _check(bool(table["frame_path"].is_unique), "a frame twice in the frame table")
    _check(table["frame_id"].dtype == np.int64, "frame_id is no whole number")
    _check(bool(table["class_name"].isin(list(config.labels)).all()), "a class that is no label")
    _check(bool(table["video_name"].notna().all()), "a frame without a video_name")
    _check(bool((table["class_name"].map(config.labels) == table["label"]).all()), "a label of another class")
    if TRUTH in table:
        for text in table[TRUTH].dropna():
            _check_shares(text)


def _check_shares(text: str) -> None:
    """Check boxes in a column of the frame table, which are shares of the frame."""
    boxes = np.array(json.loads(text), np.float64).reshape(-1, 4)
    _check(bool(np.isfinite(boxes).all()), f"a box without finite corners: {text[:200]}")
    _check(bool((boxes[:, :2] <= boxes[:, 2:]).all()), f"a box with corners that are swapped: {text[:200]}")
    _check(bool((np.abs(boxes) <= 100).all()), f"a box far outside its frame: {text[:200]}")


def read_csv_frames(path: Path, place: Place) -> None:
    """Read a csv with one row per frame."""
    _read_labels(path, place, labels=str(path))


def read_csv_spans(path: Path, place: Place) -> None:
    """Read a csv with one row per span of a video."""
    _read_labels(path, place, labels=str(path), images=str(place.material / "videos"), source_type="videos")


def read_parquet_labels(path: Path, place: Place) -> None:
    """Read labels in Parquet, also as a DataFrame."""
    _try_each(lambda: _read_labels(path, place, labels=str(path)), lambda: _read_frame(path, place))


def _read_frame(path: Path, place: Place) -> None:
    try:
        rows = pd.read_parquet(path)
        _ = rows.columns.is_unique  # raises if it has names that pandas itself cannot use, such as a dict
    except Exception as error:  # what pandas cannot read is no DataFrame
        raise DocumentedError(str(error) or "no DataFrame") from error
    _read_labels(path, place, rows)


def _read_annotations(path: Path, place: Place, labels_type: str, folder: Path | None = None) -> None:
    """Read annotations as labels, and as truth of a run."""
    _try_each(
        lambda: _read_labels(path, place, labels=str(folder or path), labels_type=labels_type),
        lambda: _read_truth(folder or path, place),
    )


def _read_truth(path: Path, place: Place, truth_format: str | None = None) -> None:
    run = runs.open_run(place.material / "run")
    truth = reading.read_truth(run, str(path), truth_format=truth_format, truth_pixels="upright")
    assert truth is not None
    corners = truth.boxes[list(CORNERS)].to_numpy(np.float64)
    _check(not np.isinf(corners).any(), "a box of the truth is infinite")


def _place_in_folder(path: Path, place: Place, name: str) -> Path:
    folder = place.scratch / "annotations"
    (folder / name).parent.mkdir(parents=True)
    shutil.copyfile(path, folder / name)
    return folder


def read_hagrid(path: Path, place: Place) -> None:
    """Read annotations of HaGRID."""
    _read_annotations(path, place, "hagrid", _place_in_folder(path, place, "stop.json"))


def read_coco(path: Path, place: Place) -> None:
    """Read annotations of COCO."""
    _read_annotations(path, place, "coco")


def read_cvat(path: Path, place: Place) -> None:
    """Read annotations of CVAT."""
    _read_annotations(path, place, "cvat")


def read_voc(path: Path, place: Place) -> None:
    """Read annotations of Pascal VOC."""
    _read_annotations(path, place, "voc", _place_in_folder(path, place, "annotations/stop_01_0001.xml"))


def read_yolo_txt(path: Path, place: Place) -> None:
    """Read boxes of YOLO."""
    folder = _place_in_folder(path, place, "labels/stop_01/0001.txt")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: stop\n  1: ok\n")
    _read_annotations(path, place, "yolo", folder)


def read_yolo_yaml(path: Path, place: Place) -> None:
    """Read the names of classes of YOLO."""
    folder = _place_in_folder(path, place, "data.yaml")
    (folder / "labels" / "stop_01").mkdir(parents=True)
    (folder / "labels" / "stop_01" / "0001.txt").write_text("0 0.4 0.4 0.2 0.2\n1 0.6 0.5 0.1 0.2\n")
    _read_annotations(path, place, "yolo", folder)


def read_truth_json(path: Path, place: Place) -> None:
    """Read a truth.json."""
    _read_truth(path, place, "truth.json")


def read_names(path: Path, place: Place) -> None:
    """Read the classes and groups of frames from their names alone."""
    images = place.scratch / "images"
    for name in path.read_bytes().split(b"\n"):
        file = os.path.join(os.fsencode(images), name.strip(b"/").replace(b"..", b"_"))
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            shutil.copyfile(place.material / "frames" / material.FRAMES[0], file)
        except (OSError, ValueError):  # no disk has such a name
            continue
    rules = ("folder", "prefix", "numbers", "file")
    read = partial(_read_labels, path, place, images=str(images), labels_type="folders")
    _try_each(read, partial(read, group_by=rules[path.stat().st_size % len(rules)]))


def read_webdataset(path: Path, place: Place) -> None:
    """Read a tar whose members say the classes of its images."""
    _try_each(
        lambda: _read_source(path, place),
        lambda: _read_labels(path, place, images=str(path), labels_type="webdataset"),
    )


# -- weights, configuration, caches


def read_h5(path: Path, place: Place) -> None:
    """Read weights of the Mask R-CNN."""
    from detectime.detectors.mask_rcnn.weights import read_weights

    tensors = read_weights(path, media.make_network_settings())
    _check(all(np.isfinite(tensor).all() for tensor in tensors.values()), "weights that are not finite")


def read_config_yml(path: Path, place: Place) -> None:
    """Read a configuration."""
    config = load_config(path)
    _check(config_from_dict(config_to_dict(config)).data == config.data, "a configuration that cannot be stored")
    list_differences(config)


def read_face_cache(path: Path, place: Place) -> None:
    """Read faces."""
    settings = face_cache.FaceCacheSettings(face_cache=str(path))
    cache = face_cache.build(settings)
    face_cache.hash_faces(settings)
    for name in material.FRAMES:
        if cache.knows(name):
            found = cache.faces_of(name, 640, 480)
            _check(bool(np.isfinite(found.boxes).all()), "a face without finite corners")
            inside = (found.boxes >= 0).all() and (found.boxes <= [640, 480, 640, 480]).all()
            _check(bool(inside), "a face outside its frame")


# -- runs


def _check_samples(samples: pd.DataFrame, frames: pd.DataFrame) -> None:
    _check(len(samples) == len(frames), f"{len(samples)} outcomes of {len(frames)} frames")
    known = {outcome.value for outcome in Outcome}
    _check(bool(samples["outcome"].isin(known).all()), "an outcome that is none")
    chosen = samples[samples["outcome"].isin(SAMPLES)]
    corners = chosen[[f"bbox_{corner}" for corner in CORNERS]].to_numpy(np.float64)
    _check(bool(np.isfinite(corners).all()), "a sample without finite corners")
    _check(bool((np.abs(corners) < _FARTHEST).all()), "a sample far outside its frame")
    sizes = chosen[["width", "height"]].to_numpy(np.float64)
    _check(bool((corners[:, 2:] <= sizes + 1).all() and (corners >= -1).all()), "a sample outside its frame")


def _read_run(folder: Path) -> FinishedRun:
    """Open a run, pair it, and read what the report and exports read."""
    run = runs.open_run(folder)
    list(map(str, run.notes))
    paired = run.pair_frames(run.pairing)
    list(map(str, paired.notes))
    _check_samples(paired.samples, run.frames)
    return run


def _read_finished(folder: Path) -> None:
    run = _read_run(folder)
    _try_each(
        lambda: outcomes.summarize_samples(run.outcomes),
        lambda: selection.select_frames(run, ExportConfig()),
        lambda: run.read_detections(),
        lambda: trace.trace_frame(run, material.FRAMES[0]),
    )


def _resume(folder: Path, place: Place) -> None:
    """Run again in the folder of a run, with an engine that detects nothing."""
    config = _make_config(place, output=str(folder))
    source = sources.open_source(config.data.images)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    found = detection.detect_frames(table, source, config, str(folder), _fail_shards)
    _check(found["frame_path"].to_pylist()[: len(table)] == table["frame_path"].tolist(), "frames are lost")
    run = _read_run(folder)
    _check(len(run.frames) == len(table), f"{len(run.frames)} frames of {len(table)}")


def _fail_shards(
    shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
    """Return a row without boxes for each frame: an engine."""
    shards.share_among(1)
    while shards:
        shard = shards.popleft()
        rows = [make_row_without_boxes(name, "failed", "not tried") for name in shard]
        yield shard, pa.Table.from_pylist(rows, schema=DETECTIONS)


def _change_run(path: Path, place: Place, name: str, run: str = "run") -> Path:
    """Copy a run, and put the input in the place of one of its files."""
    folder = place.copy_run(run)
    shutil.copyfile(path, folder / name)
    return folder


def read_run_json(path: Path, place: Place) -> None:
    """Read what a run says of itself."""
    folder = _change_run(path, place, "run.json")
    _try_each(lambda: _read_finished(folder), lambda: _resume(folder, place))


def read_frames_parquet(path: Path, place: Place) -> None:
    """Read the frames of a run, also in place of labels whose images cannot be reached."""
    folder = _change_run(path, place, "frames.parquet")
    gone = str(place.scratch / "gone")
    _try_each(lambda: _read_finished(folder), lambda: _read_labels(path, place, images=gone, output=str(folder)))


def read_detections_parquet(path: Path, place: Place) -> None:
    """Read the detections of a run."""
    folder = _change_run(path, place, "detections.parquet")
    _try_each(lambda: _read_finished(folder), lambda: _resume(folder, place))


def read_outcomes_parquet(path: Path, place: Place) -> None:
    """Read the outcomes of a run."""
    run = runs.open_run(_change_run(path, place, "outcomes.parquet"))
    _try_each(
        lambda: outcomes.summarize_samples(run.outcomes),
        lambda: selection.select_frames(run, ExportConfig()),
        lambda: reading.read_truth(run, str(place.material / "seeds" / "truth_json" / "00"), truth_format="truth.json"),
    )


def read_shard(path: Path, place: Place) -> None:
    """Resume a run of which a part of the results is the input."""
    _resume(_change_run(path, place, "shards/000000001.parquet", "interrupted"), place)


def read_decisions(path: Path, place: Place) -> None:
    """Read what people decided."""
    run = runs.open_run(_change_run(path, place, "decisions/anna.jsonl"))
    list(map(str, run.decisions.notes))
    _check_samples(outcomes.pair_run(run), run.frames)
    selection.select_frames(run, ExportConfig())
    reading.read_reviewed(run)


def read_hands_json(path: Path, place: Place) -> None:
    """Read an edited hands.json."""
    run = runs.open_run(place.copy_run())
    decision_import.import_decisions(
        run, str(path), "bob", lambda: decision_import.import_hands_json(run, str(path), reviewer="bob")
    )
    _check_samples(run.outcomes, run.frames)


def read_cvat_decisions(path: Path, place: Place) -> None:
    """Read what was corrected in CVAT."""
    run = runs.open_run(place.copy_run())
    exported = place.material / "run" / "exports" / "cvat"
    decision_import.import_decisions(
        run, str(path), "bob", lambda: cvat_decisions.import_cvat(run, str(path), "bob", exported, reviewed=True)
    )
    _check_samples(run.outcomes, run.frames)


def read_export_json(path: Path, place: Place) -> None:
    """Read what an export says of itself."""
    folder = place.scratch / "export"
    shutil.copytree(place.material / "run" / "exports" / "cvat", folder)
    shutil.copyfile(path, folder / "export.json")
    state = export_folder.read_export(folder)
    export_folder.check_folder(str(folder), state["request"], overwrite=False)


def read_split_csv(path: Path, place: Place) -> None:
    """Read a split that a person edited."""
    run = runs.open_run(_change_run(path, place, "split.csv"))
    found = split_file.read_split(run.store)
    _check(found is not None and found["video_name"].is_unique, "a group in two parts")
    _try_each(
        lambda: split_file.check_names(found, run.outcomes["video_name"]),  # type: ignore[arg-type]
        lambda: selection.select_frames(run, ExportConfig()),
        lambda: _split(run),
    )


def _split(run: FinishedRun) -> None:
    from detectime.splits.run_split import split_run

    split_run(run, {"train": 0.5, "test": 0.5})


_IMAGES = ("jpeg", "png", "webp", "gif", "tiff", "bmp", "avif", "jpeg2000", "pnm", "heic")
_SOURCES = ("zip", "tar", "mp4", "video")


def get_target(kind: str) -> Target:
    """Return the function that reads inputs of a kind."""
    if kind in _IMAGES:
        return _read_image
    found: Target = _read_source if kind in _SOURCES else globals()[f"read_{kind}"]
    return found

"""What a run is bound to: the settings of its detectors, their weights and revisions, and the reading rule."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import pyarrow.parquet as pq
import pytest
import yaml
from bound_runs import MORE, NAMES, detect, detect_with, expect_refusal, read_files
from faults import (
    InstantEngine,
    list_notes,
    list_stored_files,
    make_config,
    make_frames,
    name_frames,
    read_manifest,
    tabulate_frames,
    wait_until,
)
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import config as configuration
from detectime import outcomes, releases, runs
from detectime.config import Config, DetectionConfig, PairingConfig
from detectime.detection import manifest, resume, run
from detectime.detection.manifest import RunError
from detectime.detectors.contract import DetectorSpec, SharedSettings
from detectime.detectors.registry import FACES, HANDS, choose_detectors
from detectime.errors import ConfigError
from detectime.settings import CHECKED, Share, list_field_names
from detectime.sources.folder import FolderSource
from detectime.storage import run_tables
from detectime.storage import store as stores
from detectime.storage.folder import FolderStore

FROZEN = faults.HERE / "frozen" / "0.2.0"
pytestmark = pytest.mark.usefixtures("no_weights")

Build = Callable[..., DetectorSpec]


@pytest.fixture
def change_detector(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a function that changes a detector, as a release may."""

    def replace(name: str, **values: Any) -> DetectorSpec:
        known = FACES if name in FACES else HANDS
        monkeypatch.setitem(known, name, dataclasses.replace(known[name], **values))
        return known[name]

    return replace


# -- keys of `detection`

# Each key that binds a run: the value in the run, another one, and parameters that make a detector read the key.
BINDING: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "detector_type": ("RetinaNetMobileNetV1", "retinaface", {}),
    "hand_detector": (["hagrid", "mediapipe"], ["mediapipe"], {}),
    "face_confidence": (0.7, 0.6, {}),
    "face_nms": (0.4, 0.3, {"detector_type": "DSFDDetector"}),
    "face_max_resolution": (1280, 640, {}),
    "face_first_resolution": (320, 160, {}),
    "near_coefficient": (2.0, 1.5, {}),
    "hand_confidence": (0.6, 0.5, {"hand_detector": "hagrid,mediapipe"}),
    "hagrid_confidence": (0.8, 0.7, {"hand_detector": "hagrid"}),
    "search": ("frame", "face", {}),
    "search_coefficient": (3.0, 2.1, {}),
    "whole_frame": (True, False, {}),
    "landmark_margin": (0.2, 0.1, {}),
    "mask_rcnn_confidence": (0.9, 0.95, {"hand_detector": "mask_rcnn"}),
    "mask_rcnn_resize": ("plain", "2021", {"hand_detector": "mask_rcnn,mediapipe"}),
    "precision": ("bfloat16", "float32", {"hand_detector": "mask_rcnn"}),
    "reduced_decoding": (False, True, {}),
    "exif": ("ignore", "apply", {}),
    "max_pixels": (1_000_000, 100_000_000, {}),
}
ELSEWHERE = {"quality", "device", "batch", "face_cache", "face_cache_column", "face_cache_pixels", "detector_settings"}


def test_every_key_of_the_detection_is_covered() -> None:
    assert BINDING.keys() | ELSEWHERE == set(list_field_names(DetectionConfig))
    assert not BINDING.keys() & ELSEWHERE


@pytest.mark.parametrize("key", BINDING)
def test_an_unset_key_takes_the_value_of_the_run(key: str, tmp_path: Path) -> None:
    value, _, beside = BINDING[key]
    detect(tmp_path, **{key: value, **beside})
    before = read_manifest(tmp_path)
    assert list_notes(tmp_path, "resumed") == []
    engine, config = detect(tmp_path, MORE)
    assert engine.frames == MORE[len(NAMES) :]
    after = read_manifest(tmp_path)
    assert after["configuration"]["detection"] == before["configuration"]["detection"]
    assert after["detectors"] == before["detectors"]
    assert configuration.config_to_dict(config.detection) == before["configuration"]["detection"]
    (note,) = list_notes(tmp_path, "resumed")
    assert note.count == 1 + len(beside)
    for name in (key, *beside):
        assert f"detection.{name} = {before['configuration']['detection'][name]!r}" in note.text


@pytest.mark.parametrize("key", BINDING)
def test_another_value_is_rejected_with_the_remedy(key: str, tmp_path: Path) -> None:
    value, other, beside = BINDING[key]
    detect(tmp_path, **{key: value, **beside})
    message = expect_refusal(tmp_path, **{key: other, **beside})
    assert f"detection.{key}: the run has {value!r}, now it is {other!r}" in message
    assert "another `output`" in message
    assert "`redetect: true`" in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("key", BINDING)
def test_the_value_of_the_run_is_accepted(key: str, tmp_path: Path) -> None:
    value, _, beside = BINDING[key]
    detect(tmp_path, **{key: value, **beside})
    engine, _ = detect(tmp_path, MORE, **{key: value, **beside})
    assert engine.frames == MORE[len(NAMES) :]
    assert list_notes(tmp_path, "resumed") == []


def test_all_differing_keys_are_named_at_once(tmp_path: Path) -> None:
    detect(tmp_path)
    message = expect_refusal(tmp_path, face_confidence=0.7, hand_confidence=0.6, search="frame")
    for difference in (
        "face_confidence: the run has 0.6, now it is 0.7",
        "hand_confidence",
        "search: the run has None",
    ):
        assert f"detection.{difference}" in message


def test_several_unset_keys_are_one_note(tmp_path: Path) -> None:
    detect(tmp_path, hand_detector="hagrid", hagrid_confidence=0.8, face_confidence=0.7, search_coefficient=3.0)
    detect(tmp_path, face_confidence=0.7)
    (note,) = list_notes(tmp_path, "resumed")
    assert note.count == 3
    assert str(note).startswith("3 settings were not given and keep the values of the run in ")
    assert "hand_detector = ['hagrid']" in note.text
    assert "face_confidence" not in note.text


@pytest.mark.parametrize("changed", [{"device": "cpu"}, {"batch": 4}])
def test_keys_without_effect_on_boxes_may_change(changed: dict[str, Any], tmp_path: Path) -> None:
    detect(tmp_path)
    engine, config = detect(tmp_path, MORE, **changed)
    assert engine.frames == MORE[len(NAMES) :]
    ((key, value),) = changed.items()
    assert getattr(config.detection, key) == value
    assert getattr(detect(tmp_path)[1].detection, key) == getattr(DetectionConfig(), key)  # and it is not kept


def test_a_face_cache_may_be_moved_but_not_changed(tmp_path: Path) -> None:
    faces = [{"frame_path": name, "bbox_a": [1, 2, 3, 4], "bbox_b": None} for name in MORE]
    cache, moved, other = (tmp_path / name for name in ("cache.json", "moved.json", "other.json"))
    cache.write_text(json.dumps(faces))
    other.write_text(json.dumps([{**face, "bbox_a": [9, 9, 9, 9]} for face in faces]))
    output = tmp_path / "run"
    detect(output, detector_type="face_cache", face_cache=str(cache), face_cache_column="bbox_a")
    cache.rename(moved)
    engine, _ = detect(output, MORE, face_cache=str(moved))
    assert engine.frames == MORE[len(NAMES) :]
    assert list_notes(output, "resumed")[0].count == 2  # the detector and the column
    message = expect_refusal(output, name_frames(20), face_cache=str(other))
    assert "the face cache holds other faces" in message
    assert "another `output`" in message
    message = expect_refusal(output, face_cache=str(moved), face_cache_column="bbox_b")
    assert "detection.face_cache_column: the run has 'bbox_a', now it is 'bbox_b'" in message


# -- settings of unused detectors

# Each key of a single detector: a value, parameters for detectors that ignore it, and the names in the message.
UNUSED = [
    ("hand_confidence", 0.99, {"hand_detector": "hagrid"}, "mediapipe", "retinaface and hagrid"),
    ("landmark_margin", 0.2, {"hand_detector": "mask_rcnn"}, "mediapipe, hagrid", "retinaface and mask_rcnn"),
    ("hagrid_confidence", 0.9, {}, "hagrid", "retinaface and mediapipe"),
    ("mask_rcnn_confidence", 0.9, {}, "mask_rcnn", "retinaface and mediapipe"),
    ("mask_rcnn_resize", "plain", {}, "mask_rcnn", "retinaface and mediapipe"),
    ("precision", "bfloat16", {}, "mask_rcnn", "retinaface and mediapipe"),
    (
        "face_first_resolution",
        320,
        {"detector_type": "DSFDDetector"},
        "retinaface, yunet",
        "DSFDDetector and mediapipe",
    ),
    ("face_nms", 0.4, {"detector_type": "face_cache", "face_cache": "x"}, "retinaface", "face_cache and mediapipe"),
    ("face_cache", "x", {}, "face_cache", "retinaface and mediapipe"),
    ("face_cache_column", "bbox_a", {}, "face_cache", "retinaface and mediapipe"),
    ("face_cache_pixels", "stored", {}, "face_cache", "retinaface and mediapipe"),
]


def test_every_key_of_a_single_detector_is_covered() -> None:
    of_all_faces = {"face_confidence", "face_max_resolution"}
    own = (
        set(list_field_names(DetectionConfig))
        - set(list_field_names(SharedSettings))
        - of_all_faces
        - {"detector_settings"}
    )
    assert {key for key, *_ in UNUSED} == own


@pytest.mark.parametrize(("key", "value", "beside", "owner", "used"), UNUSED)
def test_an_unused_setting_is_rejected(
    key: str, value: Any, beside: dict[str, Any], owner: str, used: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refusal:
        detect(tmp_path / "run", **{key: value, **beside})
    message = str(refusal.value)
    shown = os.path.abspath(value) if key == "face_cache" else value
    assert message.startswith(f"detection.{key} = {shown!r}: only ")
    assert owner in message
    assert f"this run uses {used}" in message
    assert f"accepted here: {getattr(DetectionConfig(), key)!r}" in message
    assert not (tmp_path / "run").exists() or list_stored_files(tmp_path / "run") == set()


@pytest.mark.parametrize(("key", "value", "beside", "owner", "used"), UNUSED)
def test_the_default_of_an_unused_setting_is_accepted(
    key: str, value: Any, beside: dict[str, Any], owner: str, used: str
) -> None:
    choose_detectors(make_config(**{key: getattr(DetectionConfig(), key), **beside}).detection)


def test_settings_of_unused_detectors_do_not_bind(tmp_path: Path) -> None:
    detect(tmp_path, hand_detector="hagrid")
    engine, _ = detect(tmp_path, MORE, hand_detector="hagrid", hand_confidence=0.5, mask_rcnn_resize="2021")
    assert engine.frames == MORE[len(NAMES) :]


@pytest.fixture
def old_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a finished run of 0.2.0 with other values of `detection`."""

    def make(**detection: Any) -> Path:
        shutil.copytree(FROZEN / "default", tmp_path / "old")
        content = read_manifest(tmp_path / "old")
        content["configuration"]["detection"] |= detection
        hands = content["configuration"]["detection"]["hand_detector"]
        for name in set(hands) - set(content["detectors"]):
            content["detectors"][name] = HANDS[name].fingerprint(None)
        content["detectors"] = {name: content["detectors"][name] for name in ("retinaface", *hands)}
        (tmp_path / "old" / "run.json").write_text(json.dumps(content))
        return tmp_path / "old"

    return make


@pytest.mark.usefixtures("mediapipe_of_0_2")
def test_a_run_of_0_2_with_an_unused_setting_resumes(old_run: Callable[..., Path]) -> None:
    output = old_run(hagrid_confidence=0.99)
    table = run_tables.read_frames(stores.open_store(str(output)))
    assert table is not None
    grown = [*table["frame_path"][table["wanted"]], *NAMES]
    engine, config = detect(output, grown)
    assert engine.frames == NAMES
    assert config.detection.hand_detector == ("mediapipe",)
    assert config.detection.hagrid_confidence == 0.7  # it has no effect
    (note,) = list_notes(output, "resumed")
    assert "hagrid_confidence" not in note.text
    assert "detection.hagrid_confidence = 0.99: only hagrid reads it" in expect_refusal(
        output, grown, hagrid_confidence=0.99
    )


# -- explicit keys


@checked_dataclass(frozen=True, config=CHECKED)
class _LaterDetection(DetectionConfig):
    hand_confidence: Share = 0.65


@checked_dataclass(frozen=True, config=CHECKED)
class _LaterConfig(Config):
    detection: _LaterDetection = _LaterDetection()  # type: ignore[assignment]


@pytest.fixture
def later_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the default of `hand_confidence`, as a later release may."""
    monkeypatch.setattr(configuration, "DetectionConfig", _LaterDetection)
    monkeypatch.setattr(configuration, "Config", _LaterConfig)
    monkeypatch.setitem(configuration.SECTIONS, "detection", _LaterDetection)
    monkeypatch.setitem(releases.DEFAULTS, "9.1", releases.DEFAULTS["0.3"] | {"detection.hand_confidence": 0.65})


def write_config(folder: Path, version: str | None = None, **detection: Any) -> Path:
    content = yaml.safe_load((faults.ROOT / "config.yml").read_text())
    file = folder / "config.yml"
    known = {"config_version": version} if version else {}
    kept = {key: content[key] for key in ("data", "labels")}
    file.write_text(yaml.safe_dump({**known, **kept, "detection": detection}))
    return file


@pytest.mark.parametrize(
    ("version", "in_file", "parameter", "value", "is_set"),
    [
        (None, None, None, 0.65, False),
        (None, 0.5, None, 0.65, False),  # the default of 0.2
        (None, 0.6, None, 0.6, True),
        (None, 0.65, None, 0.65, True),  # not the default of 0.2, so it was set on purpose
        ("0.3", 0.5, None, 0.65, False),
        ("9.1", 0.65, None, 0.65, False),
        ("9.1", 0.5, None, 0.5, True),
        (None, 0.5, 0.5, 0.5, True),  # a parameter always counts
        (None, None, 0.65, 0.65, True),
        (None, 0.7, 0.5, 0.5, True),
    ],
)
def test_the_default_of_the_files_release_counts_as_unset(
    later_release: None,
    version: str | None,
    in_file: float | None,
    parameter: float | None,
    value: float,
    is_set: bool,
    tmp_path: Path,
) -> None:
    file = write_config(tmp_path, version, **({} if in_file is None else {"hand_confidence": in_file}))
    config = configuration.load_config(file, {"hand_confidence": parameter})
    assert config.detection.hand_confidence == value
    assert config.is_explicit("detection.hand_confidence") is is_set
    assert not config.is_explicit("detection.face_confidence")


@pytest.mark.usefixtures("mediapipe_of_0_2")
def test_a_file_of_0_2_resumes_its_run_with_the_old_defaults(later_release: None, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(FROZEN / "default", output)
    table = run_tables.read_frames(stores.open_store(str(output)))
    assert table is not None
    grown = [*table["frame_path"][table["wanted"]], *NAMES]
    config = configuration.load_config(FROZEN / "config.yml")
    engine, resolved = detect_with(config, output, grown)
    assert engine.frames == NAMES
    assert resolved.detection.hand_confidence == 0.5
    (note,) = list_notes(output, "resumed")
    for value in (
        "detection.hand_confidence = 0.5",
        "detection.landmark_margin = 0.1",
        "detection.exif = 'ignore'",  # what frames were in 0.2, unless it was set
        "pairing.rule = '2021'",
    ):
        assert value in note.text
    assert note.count == 6  # and where its images and labels were: there are none at the default
    new, _ = resume.resume_config(config, stores.open_store(str(tmp_path / "new")))
    assert new.detection.hand_confidence == 0.65  # a new run takes today's default
    asked = configuration.load_config(FROZEN / "config.yml", {"hand_confidence": 0.65})
    with pytest.raises(RunError, match=r"detection.hand_confidence: the run has 0.5, now it is 0.65"):
        detect_with(asked, output, grown)


def test_the_file_of_0_2_as_delivered_sets_nothing() -> None:
    config = configuration.load_config(FROZEN / "config.yml")
    assert config.explicit == frozenset()
    today = configuration.load_config(faults.ROOT / "config.yml")
    assert today.explicit == config.explicit


@pytest.mark.parametrize("version", ["0.1", "0.2.0", "12", "nonsense", "[0.3]"])
def test_a_file_of_an_unknown_release_is_rejected(version: str, tmp_path: Path) -> None:
    file = write_config(tmp_path)
    file.write_text(f"config_version: {version}\n" + file.read_text())
    with pytest.raises(ConfigError) as refusal:
        configuration.load_config(file)
    assert f"{file}: config_version = " in str(refusal.value)
    assert "accepted: 0.2, 0.3" in str(refusal.value)


# -- revisions, weights, and detecting again


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Make a finished run by the detectors of this release."""
    detect(tmp_path / "run")
    return tmp_path / "run"


_PALM_SHA256 = HANDS["mediapipe"].fingerprint(DetectionConfig())["palm_detection.onnx"]
CHANGES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"revision": 3}, ("mediapipe has revision 3, the run was made by revision 2",)),
    (
        {"own_fingerprint": lambda _: {"palm_detection.onnx": "others"}},
        ("weights of mediapipe: palm_detection.onnx", f"('{_PALM_SHA256}' then", "'others'"),
    ),
]


@pytest.mark.parametrize(("changed", "words"), CHANGES, ids=["revision", "weights"])
def test_a_finished_run_survives_a_change_of_its_detectors(
    changed: dict[str, Any], words: tuple[str, ...], finished: Path, change_detector: Build
) -> None:
    outcomes.pair_run(runs.open_run(finished))
    before = read_files(finished)
    change_detector("mediapipe", **changed)
    engine, _ = detect(finished)
    assert engine.asked == []
    outcomes.pair_run(runs.open_run(finished))
    after = read_files(finished)
    assert {name for name in before if before[name] != after[name]} <= {"run.json"}
    assert read_manifest(finished)["detectors"] == json.loads(before["run.json"])["detectors"]
    (note,) = list_notes(finished, "detectors")
    assert all(word in note.text for word in words)


@pytest.mark.parametrize(("changed", "words"), CHANGES, ids=["revision", "weights"])
def test_a_run_cannot_grow_with_other_detectors(
    changed: dict[str, Any], words: tuple[str, ...], finished: Path, change_detector: Build
) -> None:
    change_detector("mediapipe", **changed)
    message = expect_refusal(finished, MORE)
    for word in (*words, str(finished), "another `output`", "`redetect: true`"):
        assert word in message


@pytest.mark.parametrize(
    ("name", "detector"), [("default", "mediapipe"), ("cascade", "hagrid"), ("interrupted", "mediapipe")]
)
def test_a_run_of_0_2_cannot_grow_with_detectors_of_another_revision(name: str, detector: str, tmp_path: Path) -> None:
    output = Path(shutil.copytree(FROZEN / name, tmp_path / name))
    message = expect_refusal(output, MORE)
    for word in (f"{detector} has revision 2, the run was made by revision 1", "another `output`", "`redetect: true`"):
        assert word in message
    engine, _ = detect(output, MORE, redetect=True)
    assert engine.frames == MORE


def test_an_interrupted_run_cannot_resume_with_another_revision(tmp_path: Path, change_detector: Build) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(tmp_path, engine=InstantEngine(stop_after=2))
    change_detector("retinaface", revision=3)
    assert "retinaface has revision 3, the run was made by revision 1" in expect_refusal(tmp_path)


def test_redetect_processes_every_frame_and_keeps_the_old_table(finished: Path, change_detector: Build) -> None:
    before = read_files(finished)
    change_detector("mediapipe", revision=3)
    engine, _ = detect(finished, MORE, redetect=True)
    assert engine.frames == MORE
    made = read_manifest(finished)
    assert made["detectors"]["mediapipe"]["revision"] == 3
    assert made["finished"]
    (kept,) = finished.glob("detections.*.parquet")
    assert re.fullmatch(r"detections\.\d{8}T\d{6}Z\.parquet", kept.name)
    assert kept.read_bytes() == before["detections.parquet"]
    assert (
        kept.with_name(kept.name.replace("detections", "run").replace("parquet", "json")).read_bytes()
        == (before["run.json"])
    )
    (note,) = list_notes(finished, "redetected")
    assert (note.count, kept.name in note.text) == (len(NAMES), True)
    engine, _ = detect(finished, name_frames(18))  # and it can grow again
    assert engine.frames == name_frames(18)[len(MORE) :]


def test_redetect_accepts_other_detectors_and_settings(finished: Path) -> None:
    engine, _ = detect(finished, redetect=True, hand_detector="hagrid", hagrid_confidence=0.8, face_confidence=0.7)
    assert engine.frames == NAMES
    made = read_manifest(finished)
    assert list(made["detectors"]) == ["retinaface", "hagrid"]
    assert made["configuration"]["detection"]["hagrid_confidence"] == 0.8
    engine, config = detect(finished)
    assert engine.asked == []
    assert config.detection.face_confidence == 0.7


def test_redetect_drops_the_settings_of_the_old_detectors(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps([{"frame_path": name, "bbox_a": [1, 2, 3, 4]} for name in NAMES]))
    output = tmp_path / "run"
    detect(output, detector_type="face_cache", face_cache=str(cache), hand_detector="hagrid", hagrid_confidence=0.8)
    engine, config = detect(output, redetect=True, detector_type="retinaface", hand_detector="mediapipe")
    assert engine.frames == NAMES
    assert (config.detection.face_cache, config.detection.hagrid_confidence) == (None, 0.7)


def test_an_interrupted_redetect_resumes(finished: Path, change_detector: Build) -> None:
    before = read_files(finished)
    change_detector("mediapipe", revision=3)
    first = InstantEngine(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        detect(finished, engine=first, redetect=True)
    with pytest.raises(RunError, match="not finished"):
        runs.open_run(finished)
    second = InstantEngine(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        detect(finished, engine=second, redetect=True)
    third, _ = detect(finished)  # without `redetect`, as any other run
    done = [*first.frames[:6], *second.frames[:3], *third.frames]
    assert sorted(done) == sorted(NAMES)
    (kept,) = finished.glob("detections.*.parquet")
    assert kept.read_bytes() == before["detections.parquet"]
    assert len(list(finished.glob("run.*.json"))) == 1
    (note,) = list_notes(finished, "redetected")
    assert kept.name in note.text


@pytest.mark.parametrize("call", ["put", "rename", "put again"])
def test_a_redetect_killed_while_it_sets_aside_the_old_loses_nothing(
    call: str, finished: Path, change_detector: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = read_files(finished)["detections.parquet"]
    change_detector("mediapipe", revision=3)
    method, count = call.partition(" ")[0], 2 if " " in call else 1
    original = getattr(FolderStore, method)
    calls: list[str] = []

    def die(self: FolderStore, *values: Any) -> Any:
        calls.append(str(values[0]))
        if len(calls) == count:
            raise KeyboardInterrupt
        return original(self, *values)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, method, die)
        with pytest.raises(KeyboardInterrupt):
            detect(finished, redetect=True)
    assert len(calls) == count
    detect(finished, redetect=True)
    assert [path.read_bytes() for path in finished.glob("detections.*.parquet")] == [old]
    assert read_manifest(finished)["detectors"]["mediapipe"]["revision"] == 3
    assert pq.read_metadata(finished / "detections.parquet").num_rows == len(NAMES)


def test_redetect_twice_within_a_second_keeps_both(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "format_now", lambda: "2026-11-26T01:02:03+00:00")
    first = read_files(finished)["detections.parquet"]
    detect(finished, MORE, redetect=True)
    second = read_files(finished)["detections.parquet"]
    detect(finished, redetect=True)
    kept = [path.read_bytes() for path in finished.glob("detections.*.parquet")]
    assert sorted(kept) == sorted([first, second])
    assert len(list(finished.glob("run.*.json"))) == 2


@pytest.mark.slow
def test_a_killed_redetect_resumes_and_equals_a_new_run(tmp_path: Path) -> None:
    images, output, journal = tmp_path / "images", tmp_path / "run", tmp_path / "journal"
    journal.mkdir()
    frame_paths = make_frames(images, name_frames(24))
    source = FolderSource(str(images))
    run.detect_frames(tabulate_frames(frame_paths), source, make_config(face_confidence=0.7, workers=1), str(output))
    old = (output / "detections.parquet").read_bytes()
    parameters: dict[str, Any] = {"face_confidence": 0.6, "redetect": True, "workers": 1, "save_per_num_images": 3}
    with faults.start_driver(images, output, 24, journal, pause=0.1, **parameters) as process:
        wait_until(lambda: faults.count_saved_rows(output) >= 6 or process.poll() is not None, 60)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not faults.list_workers(journal), 30)
    saved = faults.count_saved_rows(output)
    assert 6 <= saved < 24
    run.detect_frames(tabulate_frames(frame_paths), source, make_config(**parameters), str(output))
    assert [path.read_bytes() for path in output.glob("detections.*.parquet")] == [old]
    fresh = tmp_path / "fresh"
    run.detect_frames(tabulate_frames(frame_paths), source, make_config(workers=1), str(fresh))
    assert (output / "detections.parquet").read_bytes() == (fresh / "detections.parquet").read_bytes()


# -- pairing, and whole frames


PAIRING: dict[str, Any] = {
    "rule": "2021",
    "crop_coefficient": 1.2,
    "crop_hand_coefficient": 1.7,
    "enlarged_classes": ("ok", "stop"),
    "fallback": "wider",
    "wider_coefficient": 3.5,
    "min_face_score": 0.8,
    "min_hand_score": 0.9,
}


def test_every_key_of_the_pairing_is_covered() -> None:
    assert list(PAIRING) == list_field_names(PairingConfig)


@pytest.mark.parametrize("key", PAIRING)
def test_an_unset_key_of_the_pairing_takes_the_value_of_the_last_pairing(key: str, finished: Path) -> None:
    last = dataclasses.replace(PairingConfig(), **{key: PAIRING[key]})
    outcomes.pair_run(runs.open_run(finished), last)
    engine, config = detect(finished)
    assert engine.asked == []
    assert config.pairing == last
    (note,) = list_notes(finished, "resumed")
    assert (note.count, f"pairing.{key} = " in note.text) == (1, True)
    assert runs.open_run(finished).pairing == last


def test_a_key_of_the_pairing_may_change(finished: Path) -> None:
    outcomes.pair_run(runs.open_run(finished), PairingConfig(crop_coefficient=1.2, fallback="wider"))
    engine, config = detect(finished, crop_coefficient=1.5)  # the default, but set explicitly
    assert engine.asked == []
    assert config.pairing == PairingConfig(fallback="wider")


@pytest.mark.parametrize(
    ("parameters", "whole_frame"),
    [
        ({}, False),
        ({"fallback": "wider"}, False),
        ({"fallback": "frame"}, True),
        ({"whole_frame": True}, True),
        ({"whole_frame": False}, False),
        ({"whole_frame": True, "fallback": "frame"}, True),
    ],
)
def test_whole_frame_is_resolved_from_the_fallback(
    parameters: dict[str, Any], whole_frame: bool, tmp_path: Path
) -> None:
    detect(tmp_path, **parameters)
    assert read_manifest(tmp_path)["configuration"]["detection"]["whole_frame"] is whole_frame
    engine, config = detect(tmp_path, MORE)  # and it stays so
    assert engine.frames == MORE[len(NAMES) :]
    assert config.detection.whole_frame is whole_frame


@pytest.mark.parametrize("parameters", [{"fallback": "none"}, {"fallback": "wider"}, {"fallback": "frame"}])
def test_a_run_with_whole_frames_keeps_them(parameters: dict[str, Any], tmp_path: Path) -> None:
    detect(tmp_path, whole_frame=True)
    engine, config = detect(tmp_path, MORE, **parameters)
    assert engine.frames == MORE[len(NAMES) :]
    assert config.detection.whole_frame is True
    assert config.pairing.fallback == parameters["fallback"]


def test_whole_frame_needs_redetect_to_be_switched_on(finished: Path) -> None:
    message = expect_refusal(finished, fallback="frame")
    assert "detection.whole_frame: the run has False, now it is True" in message
    assert "pairing.fallback = 'frame'" in message
    assert "`redetect: true`" in message
    engine, _ = detect(finished, fallback="frame", redetect=True)
    assert engine.frames == NAMES


def test_whole_frame_cannot_be_switched_off_if_the_last_pairing_needs_it(tmp_path: Path) -> None:
    detect(tmp_path, fallback="frame")
    outcomes.pair_run(runs.open_run(tmp_path))
    message = expect_refusal(tmp_path, whole_frame=False)
    assert "detection.whole_frame: the run has True, now it is False" in message
    with pytest.raises(ConfigError, match="whole_frame = False: `fallback: frame` needs it"):
        make_config(fallback="frame", whole_frame=False)


def test_a_last_pairing_in_conflict_with_a_set_key_is_rejected_by_name(finished: Path) -> None:
    outcomes.pair_run(runs.open_run(finished), PairingConfig(fallback="wider"))
    assert "pairing.wider_coefficient = 2.5: narrower than crop_coefficient" in expect_refusal(
        finished, crop_coefficient=3.0
    )


def test_a_configuration_is_resolved_without_the_detections(finished: Path) -> None:
    """Resolving reads no detections, writes nothing, and can be repeated."""
    (finished / "detections.parquet").unlink()
    before = read_files(finished)
    config = make_config(output=str(finished), hand_detector="mediapipe")
    once, notes = resume.resume_config(config)
    twice, more = resume.resume_config(once)
    assert (once, more) == (twice, [])
    assert notes == []
    assert read_files(finished) == before


# -- what the spans of videos count from


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "first_picture"), ({"span_zero": "player"}, "player"), ({"span_zero": "first_picture"}, "first_picture")],
)
def test_spans_of_a_run_of_0_2_count_from_the_first_picture(
    given: dict[str, str], expected: str, tmp_path: Path
) -> None:
    content = json.loads((FROZEN / "default" / "run.json").read_text())
    content["configuration"]["data"]["source"] = "videos"
    (tmp_path / "run.json").write_text(json.dumps(content))
    config = make_config(output=str(tmp_path), source_type="videos", **given)
    resolved, notes = resume.resume_config(config, stores.open_store(str(tmp_path)))
    assert resolved.data.span_zero == expected
    listed = any("data.span_zero = 'first_picture'" in note.text for note in notes)
    assert listed == (not given)
    new, _ = resume.resume_config(config, stores.open_store(str(tmp_path / "new")))
    assert new.data.span_zero == given.get("span_zero", "player")


def test_frames_that_are_no_videos_have_no_such_note(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    _, notes = resume.resume_config(make_config(), stores.open_store(str(tmp_path / "run")))
    assert not any("span_zero" in note.text for note in notes)


# -- where frames and labels are


@pytest.fixture
def folders_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run whose labels are the folders of its images; the current folder has no data."""
    for name in ("ok", "stop"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").write_bytes(b"")
    given = {"images": str(tmp_path / "images"), "labels_type": "folders", "output": str(tmp_path / "run")}
    config = configuration.load_config(parameters=given)
    manifest.write_manifest(stores.open_store(str(tmp_path / "run")), manifest.make_manifest(config, {}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "run"


def test_a_run_keeps_its_images_and_labels_if_none_are_given(folders_run: Path, tmp_path: Path) -> None:
    config, (note,) = resume.resume_config(configuration.load_config(parameters={"output": str(folders_run)}))
    images = str(tmp_path / "images")
    assert (config.data.images, config.data.labels, config.data.labels_type) == (images, images, "folders")
    assert "data.labels_type = 'folders'" in note.text


def test_folders_that_are_the_labels_move_with_the_images(folders_run: Path, tmp_path: Path) -> None:
    given = {"output": str(folders_run), "images": str(tmp_path / "moved")}
    config, _ = resume.resume_config(configuration.load_config(parameters=given))
    assert (config.data.images, config.data.labels) == (given["images"], given["images"])
    assert config.data.labels_type == "folders"


def test_labels_that_are_given_are_taken(folders_run: Path, tmp_path: Path) -> None:
    given = {"output": str(folders_run), "images": str(tmp_path / "images"), "labels": str(tmp_path / "labels.csv")}
    config, _ = resume.resume_config(configuration.load_config(parameters=given))
    assert (config.data.labels, config.data.labels_type) == (given["labels"], None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, ("/content/boxes.json", "stored")),
        ({"truth_pixels": "upright"}, ("/content/boxes.json", "upright")),
        ({"truth": "null"}, (None, None)),
        ({"truth": "/elsewhere/boxes.json"}, ("/elsewhere/boxes.json", None)),
    ],
    ids=["nothing", "pixels", "no truth", "another"],
)
def test_a_run_keeps_its_truth_if_none_is_given(
    given: dict[str, str], kept: tuple[str | None, str | None], tmp_path: Path
) -> None:
    places = {"images": "/images", "labels": "/labels.csv", "output": str(tmp_path / "run")}
    before = configuration.load_config(parameters=places | {"truth": "/content/boxes.json", "truth_pixels": "stored"})
    manifest.write_manifest(stores.open_store(str(tmp_path / "run")), manifest.make_manifest(before, {}))
    config, notes = resume.resume_config(configuration.load_config(parameters=places | given))
    assert (config.data.truth, config.data.truth_pixels) == kept
    assert ("data.truth = '/content/boxes.json'" in "".join(note.text for note in notes)) == ("truth" not in given)

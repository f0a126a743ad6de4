"""What binds a run: settings of the detectors that it uses, their weights and revisions, and how frames are read."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import faults
import pyarrow.parquet as pq
import pytest
import yaml
from faults import Instant, make_frames, names, settings, stored, table_of, wait_until
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import config as configuration
from detectime import outcomes, releases, runs
from detectime.config import Config, DetectionConfig, PairingConfig
from detectime.detection import manifest, run
from detectime.detection.engines.contract import Engine
from detectime.detection.manifest import RunError
from detectime.detectors.contract import DetectorSpec, SharedSettings
from detectime.detectors.registry import FACES, HANDS, choose_detectors
from detectime.errors import ConfigError
from detectime.notes import Note
from detectime.settings import CHECKED, Share, list_field_names
from detectime.sources.folder import FolderSource
from detectime.storage import run_tables
from detectime.storage import store as stores
from detectime.storage.folder import FolderStore

FROZEN = faults.HERE / "frozen" / "0.2.0"
NAMES = names(12)
MORE = names(16)

Build = Callable[..., DetectorSpec]


class Imaginary(FolderSource):
    """A folder that has whatever frame it is asked for; engines that cost nothing do not ask for one."""

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        return ((name, "a stamp") for name in MORE)

    def read_contents(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        raise AssertionError("a frame was read")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let detectors be chosen whose weights and extras are not here: no test looks at a frame."""
    for known in (FACES, HANDS):
        for name, spec in known.items():
            own = (lambda _: {"weights": "1"}) if spec.needs and not spec.pinned else spec.own_fingerprint
            find = (lambda _: []) if spec.needs or spec.pinned else spec.find_weights
            changed = dataclasses.replace(spec, find_weights=find, needs=(), own_fingerprint=own)
            monkeypatch.setitem(known, name, changed)


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Let a detector become another one, as a release may."""

    def replace(name: str, **values: Any) -> DetectorSpec:
        known = FACES if name in FACES else HANDS
        monkeypatch.setitem(known, name, dataclasses.replace(known[name], **values))
        return known[name]

    return replace


def detect(
    output: Path, frame_paths: Iterable[str] = NAMES, engine: Engine | None = None, **parameters: Any
) -> tuple[Instant, Config]:
    """Run as the notebook does: read frames as the run says."""
    config = settings(**{"save_per_num_images": 3, "output": str(output), **parameters})
    return resume(config, output, frame_paths, engine)


def resume(
    config: Config, output: Path, frame_paths: Iterable[str] = NAMES, engine: Engine | None = None
) -> tuple[Instant, Config]:
    resolved, _ = manifest.resume_config(config, stores.open_store(str(output)))
    source = Imaginary("/nowhere", exif=resolved.detection.exif, max_pixels=resolved.detection.max_pixels)
    engine = engine or Instant()
    run.detect_frames(table_of(list(frame_paths)), source, config, str(output), engine)
    assert isinstance(engine, Instant)
    return engine, resolved


def read(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "run.json").read_text())
    return content


def notes_of(output: Path, kind: str) -> list[Note]:
    return [note for note in runs.open_run(output).notes if note.kind == kind]


def content_of(folder: Path) -> dict[str, bytes]:
    """Return all that lies in a run's folder."""
    return {name: (folder / name).read_bytes() for name in stored(folder)}


def refused(output: Path, frame_paths: Iterable[str] = NAMES, **parameters: Any) -> str:
    """Return what a run says that is refused, and see that it changed nothing."""
    before, engine = content_of(output), Instant()
    with pytest.raises((RunError, ConfigError)) as refusal:
        detect(output, frame_paths, engine, **parameters)
    assert content_of(output) == before
    assert engine.asked == []
    return str(refusal.value)


# -- keys of `detection`

# Each key that binds a run: its value there, another one, and what must be set so that a detector reads it.
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
    "exif": ("apply", "ignore", {}),
    "max_pixels": (1_000_000, 100_000_000, {}),
}
ELSEWHERE = {"device", "batch", "face_cache", "face_cache_column", "detector_settings"}


def test_every_key_of_the_detection_is_tried() -> None:
    assert BINDING.keys() | ELSEWHERE == set(list_field_names(DetectionConfig))
    assert not BINDING.keys() & ELSEWHERE


@pytest.mark.parametrize("key", BINDING)
def test_a_key_that_is_not_set_takes_the_value_of_the_run(key: str, tmp_path: Path) -> None:
    value, _, beside = BINDING[key]
    detect(tmp_path, **{key: value, **beside})
    before = read(tmp_path)
    assert notes_of(tmp_path, "resumed") == []
    engine, config = detect(tmp_path, MORE)
    assert engine.frames == MORE[len(NAMES) :]
    after = read(tmp_path)
    assert after["configuration"]["detection"] == before["configuration"]["detection"]
    assert after["detectors"] == before["detectors"]
    assert configuration.config_to_dict(config.detection) == before["configuration"]["detection"]
    (note,) = notes_of(tmp_path, "resumed")
    assert note.count == 1 + len(beside)
    for name in (key, *beside):
        assert f"detection.{name} = {before['configuration']['detection'][name]!r}" in note.text


@pytest.mark.parametrize("key", BINDING)
def test_another_value_is_refused_with_both_and_the_remedy(key: str, tmp_path: Path) -> None:
    value, other, beside = BINDING[key]
    detect(tmp_path, **{key: value, **beside})
    said = refused(tmp_path, **{key: other, **beside})
    assert f"detection.{key}: the run has {value!r}, now it is {other!r}" in said
    assert "another `output`" in said
    assert "`redetect: true`" in said
    assert str(tmp_path) in said


@pytest.mark.parametrize("key", BINDING)
def test_the_value_of_the_run_is_accepted(key: str, tmp_path: Path) -> None:
    value, _, beside = BINDING[key]
    detect(tmp_path, **{key: value, **beside})
    engine, _ = detect(tmp_path, MORE, **{key: value, **beside})
    assert engine.frames == MORE[len(NAMES) :]
    assert notes_of(tmp_path, "resumed") == []


def test_all_that_differs_is_named_at_once(tmp_path: Path) -> None:
    detect(tmp_path)
    said = refused(tmp_path, face_confidence=0.7, hand_confidence=0.6, search="frame")
    for difference in (
        "face_confidence: the run has 0.6, now it is 0.7",
        "hand_confidence",
        "search: the run has None",
    ):
        assert f"detection.{difference}" in said


def test_several_keys_that_are_not_set_are_one_note(tmp_path: Path) -> None:
    detect(tmp_path, hand_detector="hagrid", hagrid_confidence=0.8, face_confidence=0.7, search_coefficient=3.0)
    detect(tmp_path, face_confidence=0.7)
    (note,) = notes_of(tmp_path, "resumed")
    assert note.count == 3
    assert str(note).startswith("3 settings were not given and keep the values of the run in ")
    assert "hand_detector = ['hagrid']" in note.text
    assert "face_confidence" not in note.text


@pytest.mark.parametrize("changed", [{"device": "cpu"}, {"batch": 4}])
def test_keys_that_change_no_box_are_free(changed: dict[str, Any], tmp_path: Path) -> None:
    detect(tmp_path)
    engine, config = detect(tmp_path, MORE, **changed)
    assert engine.frames == MORE[len(NAMES) :]
    ((key, value),) = changed.items()
    assert getattr(config.detection, key) == value
    assert getattr(detect(tmp_path)[1].detection, key) == getattr(DetectionConfig(), key)  # nor does it stick


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
    assert notes_of(output, "resumed")[0].count == 2  # the detector and the column
    said = refused(output, names(20), face_cache=str(other))
    assert "the face cache holds other faces" in said
    assert "another `output`" in said
    said = refused(output, face_cache=str(moved), face_cache_column="bbox_b")
    assert "detection.face_cache_column: the run has 'bbox_a', now it is 'bbox_b'" in said


# -- settings of detectors that are not used

# For each key of a single detector: a value, detectors that do not read it, and how a message calls those.
UNUSED = [
    ("hand_confidence", 0.99, {"hand_detector": "hagrid"}, "mediapipe", "retinaface and hagrid"),
    ("landmark_margin", 0.2, {"hand_detector": "hagrid,mask_rcnn"}, "mediapipe", "retinaface and hagrid, mask_rcnn"),
    ("hagrid_confidence", 0.9, {}, "hagrid", "retinaface and mediapipe"),
    ("mask_rcnn_confidence", 0.9, {}, "mask_rcnn", "retinaface and mediapipe"),
    ("mask_rcnn_resize", "plain", {}, "mask_rcnn", "retinaface and mediapipe"),
    ("precision", "bfloat16", {}, "mask_rcnn", "retinaface and mediapipe"),
    ("face_first_resolution", 320, {"detector_type": "DSFDDetector"}, "retinaface", "DSFDDetector and mediapipe"),
    ("face_nms", 0.4, {"detector_type": "face_cache", "face_cache": "x"}, "retinaface", "face_cache and mediapipe"),
    ("face_cache", "x", {}, "face_cache", "retinaface and mediapipe"),
    ("face_cache_column", "bbox_a", {}, "face_cache", "retinaface and mediapipe"),
]


def test_every_key_of_a_single_detector_is_tried() -> None:
    of_all_faces = {"face_confidence", "face_max_resolution"}
    own = (
        set(list_field_names(DetectionConfig))
        - set(list_field_names(SharedSettings))
        - of_all_faces
        - {"detector_settings"}
    )
    assert {key for key, *_ in UNUSED} == own


@pytest.mark.parametrize(("key", "value", "beside", "owner", "used"), UNUSED)
def test_a_setting_that_would_be_ignored_is_refused(
    key: str, value: Any, beside: dict[str, Any], owner: str, used: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refusal:
        detect(tmp_path / "run", **{key: value, **beside})
    said = str(refusal.value)
    shown = os.path.abspath(value) if key == "face_cache" else value
    assert said.startswith(f"detection.{key} = {shown!r}: only ")
    assert owner in said
    assert f"this run uses {used}" in said
    assert f"accepted here: {getattr(DetectionConfig(), key)!r}" in said
    assert not (tmp_path / "run").exists() or stored(tmp_path / "run") == set()


@pytest.mark.parametrize(("key", "value", "beside", "owner", "used"), UNUSED)
def test_the_default_of_a_setting_that_is_ignored_is_accepted(
    key: str, value: Any, beside: dict[str, Any], owner: str, used: str
) -> None:
    choose_detectors(settings(**{key: getattr(DetectionConfig(), key), **beside}).detection)


def test_settings_of_detectors_that_are_not_used_do_not_bind(tmp_path: Path) -> None:
    detect(tmp_path, hand_detector="hagrid")
    engine, _ = detect(tmp_path, MORE, hand_detector="hagrid", hand_confidence=0.5, mask_rcnn_resize="2021")
    assert engine.frames == MORE[len(NAMES) :]


@pytest.fixture
def old_run(tmp_path: Path) -> Callable[..., Path]:
    """Make a finished run of 0.2.0 with other values of `detection`."""

    def make(**detection: Any) -> Path:
        shutil.copytree(FROZEN / "default", tmp_path / "old")
        content = read(tmp_path / "old")
        content["configuration"]["detection"] |= detection
        hands = content["configuration"]["detection"]["hand_detector"]
        for name in set(hands) - set(content["detectors"]):
            content["detectors"][name] = HANDS[name].fingerprint(None)
        content["detectors"] = {name: content["detectors"][name] for name in ("retinaface", *hands)}
        (tmp_path / "old" / "run.json").write_text(json.dumps(content))
        return tmp_path / "old"

    return make


def test_a_run_of_0_2_with_a_setting_that_was_ignored_goes_on(old_run: Callable[..., Path]) -> None:
    output = old_run(hand_detector=["hagrid"], hand_confidence=0.99)
    table = run_tables.read_frames(stores.open_store(str(output)))
    assert table is not None
    grown = [*table["frame_path"][table["wanted"]], *NAMES]
    engine, config = detect(output, grown)
    assert engine.frames == NAMES
    assert config.detection.hand_detector == ("hagrid",)
    assert config.detection.hand_confidence == 0.5  # it does nothing
    (note,) = notes_of(output, "resumed")
    assert "hand_confidence" not in note.text
    assert "detection.hand_confidence = 0.99: only mediapipe reads it" in refused(output, grown, hand_confidence=0.99)


# -- what counts as set


@checked_dataclass(frozen=True, config=CHECKED)
class _LaterDetection(DetectionConfig):
    hand_confidence: Share = 0.65


@checked_dataclass(frozen=True, config=CHECKED)
class _LaterConfig(Config):
    detection: _LaterDetection = _LaterDetection()  # type: ignore[assignment]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a later release have another default of `hand_confidence`."""
    monkeypatch.setattr(configuration, "DetectionConfig", _LaterDetection)
    monkeypatch.setattr(configuration, "Config", _LaterConfig)
    monkeypatch.setitem(configuration._SECTIONS, "detection", _LaterDetection)
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
        (None, 0.65, None, 0.65, True),  # nobody wrote that in 0.2 unless he meant it
        ("0.3", 0.5, None, 0.65, False),
        ("9.1", 0.65, None, 0.65, False),
        ("9.1", 0.5, None, 0.5, True),
        (None, 0.5, 0.5, 0.5, True),  # a parameter always counts
        (None, None, 0.65, 0.65, True),
        (None, 0.7, 0.5, 0.5, True),
    ],
)
def test_the_default_of_a_files_release_counts_as_not_set(
    later: None,
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


def test_a_file_of_0_2_resumes_its_run_when_defaults_have_changed(later: None, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(FROZEN / "default", output)
    table = run_tables.read_frames(stores.open_store(str(output)))
    assert table is not None
    grown = [*table["frame_path"][table["wanted"]], *NAMES]
    config = configuration.load_config(FROZEN / "config.yml")
    engine, resolved = resume(config, output, grown)
    assert engine.frames == NAMES
    assert resolved.detection.hand_confidence == 0.5
    (note,) = notes_of(output, "resumed")
    assert (note.count, "detection.hand_confidence = 0.5" in note.text) == (1, True)
    new, _ = manifest.resume_config(config, stores.open_store(str(tmp_path / "new")))
    assert new.detection.hand_confidence == 0.65  # a new run takes today's
    asked = configuration.load_config(FROZEN / "config.yml", {"hand_confidence": 0.65})
    with pytest.raises(RunError, match=r"detection.hand_confidence: the run has 0.5, now it is 0.65"):
        resume(asked, output, grown)


def test_a_file_of_0_2_sets_nothing_but_its_places() -> None:
    config = configuration.load_config(FROZEN / "config.yml")
    assert config.explicit == {"data.images", "data.labels", "data.output"}
    today = configuration.load_config(faults.ROOT / "config.yml")
    assert today.explicit == config.explicit


@pytest.mark.parametrize("version", ["0.1", "0.2.0", "12", "nonsense", "[0.3]"])
def test_a_file_of_a_release_that_is_not_known_is_refused(version: str, tmp_path: Path) -> None:
    file = write_config(tmp_path)
    file.write_text(f"config_version: {version}\n" + file.read_text())
    with pytest.raises(ConfigError) as refusal:
        configuration.load_config(file)
    assert f"{file}: config_version = " in str(refusal.value)
    assert "accepted: 0.2, 0.3" in str(refusal.value)


# -- revisions, weights, and looking again


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run of the first revisions."""
    detect(tmp_path / "run")
    return tmp_path / "run"


CHANGES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"revision": 2}, ("mediapipe has revision 2, the run was made by revision 1",)),
    (
        {"own_fingerprint": lambda _: {"palm_detection.onnx": "others"}},
        ("weights of mediapipe: palm_detection.onnx", "'0e20e6c9bb370be0", "'others'"),
    ),
]


@pytest.mark.parametrize(("changed", "words"), CHANGES, ids=["revision", "weights"])
def test_a_finished_run_outlives_its_detectors(
    changed: dict[str, Any], words: tuple[str, ...], finished: Path, change: Build
) -> None:
    outcomes.pair_run(runs.open_run(finished))
    before = content_of(finished)
    change("mediapipe", **changed)
    engine, _ = detect(finished)
    assert engine.asked == []
    outcomes.pair_run(runs.open_run(finished))
    after = content_of(finished)
    assert {name for name in before if before[name] != after[name]} <= {"run.json"}
    assert read(finished)["detectors"] == json.loads(before["run.json"])["detectors"]
    (note,) = notes_of(finished, "detectors")
    assert all(word in note.text for word in words)


@pytest.mark.parametrize(("changed", "words"), CHANGES, ids=["revision", "weights"])
def test_a_run_does_not_grow_by_other_detectors(
    changed: dict[str, Any], words: tuple[str, ...], finished: Path, change: Build
) -> None:
    change("mediapipe", **changed)
    said = refused(finished, MORE)
    for word in (*words, str(finished), "another `output`", "`redetect: true`"):
        assert word in said


def test_an_interrupted_run_does_not_go_on_with_another_revision(tmp_path: Path, change: Build) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(tmp_path, engine=Instant(stop_after=2))
    change("retinaface", revision=3)
    assert "retinaface has revision 3, the run was made by revision 1" in refused(tmp_path)


def test_redetect_looks_at_every_frame_again_and_keeps_what_was_found(finished: Path, change: Build) -> None:
    before = content_of(finished)
    change("mediapipe", revision=2)
    engine, _ = detect(finished, MORE, redetect=True)
    assert engine.frames == MORE
    made = read(finished)
    assert made["detectors"]["mediapipe"]["revision"] == 2
    assert made["finished"]
    (kept,) = finished.glob("detections.*.parquet")
    assert re.fullmatch(r"detections\.\d{8}T\d{6}Z\.parquet", kept.name)
    assert kept.read_bytes() == before["detections.parquet"]
    assert (
        kept.with_name(kept.name.replace("detections", "run").replace("parquet", "json")).read_bytes()
        == (before["run.json"])
    )
    (note,) = notes_of(finished, "redetected")
    assert (note.count, kept.name in note.text) == (len(NAMES), True)
    engine, _ = detect(finished, names(18))  # and it grows again
    assert engine.frames == names(18)[len(MORE) :]


def test_redetect_may_take_other_detectors_and_settings(finished: Path) -> None:
    engine, _ = detect(finished, redetect=True, hand_detector="hagrid", hagrid_confidence=0.8, face_confidence=0.7)
    assert engine.frames == NAMES
    made = read(finished)
    assert list(made["detectors"]) == ["retinaface", "hagrid"]
    assert made["configuration"]["detection"]["hagrid_confidence"] == 0.8
    engine, config = detect(finished)
    assert engine.asked == []
    assert config.detection.face_confidence == 0.7


def test_redetect_leaves_the_settings_of_the_old_detectors_behind(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps([{"frame_path": name, "bbox_a": [1, 2, 3, 4]} for name in NAMES]))
    output = tmp_path / "run"
    detect(output, detector_type="face_cache", face_cache=str(cache), hand_detector="hagrid", hagrid_confidence=0.8)
    engine, config = detect(output, redetect=True, detector_type="retinaface", hand_detector="mediapipe")
    assert engine.frames == NAMES
    assert (config.detection.face_cache, config.detection.hagrid_confidence) == (None, 0.7)


def test_redetect_that_is_interrupted_goes_on(finished: Path, change: Build) -> None:
    before = content_of(finished)
    change("mediapipe", revision=2)
    first = Instant(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        detect(finished, engine=first, redetect=True)
    with pytest.raises(RunError, match="not finished"):
        runs.open_run(finished)
    second = Instant(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        detect(finished, engine=second, redetect=True)
    third, _ = detect(finished)  # it is a run like any other, and needs not be told again
    done = [*first.frames[:6], *second.frames[:3], *third.frames]
    assert sorted(done) == sorted(NAMES)
    (kept,) = finished.glob("detections.*.parquet")
    assert kept.read_bytes() == before["detections.parquet"]
    assert len(list(finished.glob("run.*.json"))) == 1
    (note,) = notes_of(finished, "redetected")
    assert kept.name in note.text


@pytest.mark.parametrize("call", ["put", "rename", "put again"])
def test_redetect_that_dies_while_it_puts_the_old_aside_loses_nothing(
    call: str, finished: Path, change: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = content_of(finished)["detections.parquet"]
    change("mediapipe", revision=2)
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
    assert read(finished)["detectors"]["mediapipe"]["revision"] == 2
    assert pq.read_metadata(finished / "detections.parquet").num_rows == len(NAMES)


def test_redetect_twice_within_a_second_keeps_both(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "format_now", lambda: "2026-11-26T01:02:03+00:00")
    first = content_of(finished)["detections.parquet"]
    detect(finished, MORE, redetect=True)
    second = content_of(finished)["detections.parquet"]
    detect(finished, redetect=True)
    kept = [path.read_bytes() for path in finished.glob("detections.*.parquet")]
    assert sorted(kept) == sorted([first, second])
    assert len(list(finished.glob("run.*.json"))) == 2


@pytest.mark.slow
def test_redetect_that_is_killed_goes_on_and_equals_a_new_run(tmp_path: Path) -> None:
    images, output, journal = tmp_path / "images", tmp_path / "run", tmp_path / "journal"
    journal.mkdir()
    frame_paths = make_frames(images, names(24))
    source = FolderSource(str(images))
    run.detect_frames(table_of(frame_paths), source, settings(face_confidence=0.7, workers=1), str(output))
    old = (output / "detections.parquet").read_bytes()
    parameters: dict[str, Any] = {"face_confidence": 0.6, "redetect": True, "workers": 1, "save_per_num_images": 3}
    with faults.driver(images, output, 24, journal, pause=0.1, **parameters) as process:
        wait_until(lambda: faults.saved_rows(output) >= 6 or process.poll() is not None, 60)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not faults.working(journal), 30)
    saved = faults.saved_rows(output)
    assert 6 <= saved < 24
    run.detect_frames(table_of(frame_paths), source, settings(**parameters), str(output))
    assert [path.read_bytes() for path in output.glob("detections.*.parquet")] == [old]
    fresh = tmp_path / "fresh"
    run.detect_frames(table_of(frame_paths), source, settings(workers=1), str(fresh))
    assert (output / "detections.parquet").read_bytes() == (fresh / "detections.parquet").read_bytes()


# -- pairing, and whole frames


PAIRING: dict[str, Any] = {
    "crop_coefficient": 1.2,
    "crop_hand_coefficient": 1.7,
    "enlarged_classes": ("ok", "stop"),
    "fallback": "wider",
    "wider_coefficient": 3.5,
    "min_face_score": 0.8,
    "min_hand_score": 0.9,
}


def test_every_key_of_the_pairing_is_tried() -> None:
    assert list(PAIRING) == list_field_names(PairingConfig)


@pytest.mark.parametrize("key", PAIRING)
def test_a_key_of_the_pairing_that_is_not_set_is_that_of_the_last_pairing(key: str, finished: Path) -> None:
    last = dataclasses.replace(PairingConfig(), **{key: PAIRING[key]})
    outcomes.pair_run(runs.open_run(finished), last)
    engine, config = detect(finished)
    assert engine.asked == []
    assert config.pairing == last
    (note,) = notes_of(finished, "resumed")
    assert (note.count, f"pairing.{key} = " in note.text) == (1, True)
    assert runs.open_run(finished).pairing == last


def test_a_key_of_the_pairing_is_free(finished: Path) -> None:
    outcomes.pair_run(runs.open_run(finished), PairingConfig(crop_coefficient=1.2, fallback="wider"))
    engine, config = detect(finished, crop_coefficient=1.5)  # today's default, but it was asked for
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
def test_whole_frames_are_looked_at_if_the_fallback_needs_it(
    parameters: dict[str, Any], whole_frame: bool, tmp_path: Path
) -> None:
    detect(tmp_path, **parameters)
    assert read(tmp_path)["configuration"]["detection"]["whole_frame"] is whole_frame
    engine, config = detect(tmp_path, MORE)  # and so it stays
    assert engine.frames == MORE[len(NAMES) :]
    assert config.detection.whole_frame is whole_frame


@pytest.mark.parametrize("parameters", [{"fallback": "none"}, {"fallback": "wider"}, {"fallback": "frame"}])
def test_a_run_that_looked_at_whole_frames_goes_on_so(parameters: dict[str, Any], tmp_path: Path) -> None:
    detect(tmp_path, whole_frame=True)
    engine, config = detect(tmp_path, MORE, **parameters)
    assert engine.frames == MORE[len(NAMES) :]
    assert config.detection.whole_frame is True
    assert config.pairing.fallback == parameters["fallback"]


def test_a_run_that_did_not_look_at_whole_frames_cannot_begin_to(finished: Path) -> None:
    said = refused(finished, fallback="frame")
    assert "detection.whole_frame: the run has False, now it is True" in said
    assert "pairing.fallback = 'frame'" in said
    assert "`redetect: true`" in said
    engine, _ = detect(finished, fallback="frame", redetect=True)
    assert engine.frames == NAMES


def test_whole_frames_cannot_be_left_off_where_the_last_pairing_needs_them(tmp_path: Path) -> None:
    detect(tmp_path, fallback="frame")
    outcomes.pair_run(runs.open_run(tmp_path))
    said = refused(tmp_path, whole_frame=False)
    assert "whole_frame" in said
    assert "frame" in said
    with pytest.raises(ConfigError, match="whole_frame = False: `fallback: frame` needs it"):
        settings(fallback="frame", whole_frame=False)


def test_a_last_pairing_that_does_not_fit_what_is_set_is_refused_by_name(finished: Path) -> None:
    outcomes.pair_run(runs.open_run(finished), PairingConfig(fallback="wider"))
    assert "pairing.wider_coefficient = 2.5: narrower than crop_coefficient" in refused(finished, crop_coefficient=3.0)


def test_the_table_of_detections_is_not_needed_to_resolve_a_configuration(finished: Path) -> None:
    """What the notebook does first costs nothing, writes nothing, and may be done again."""
    (finished / "detections.parquet").unlink()
    before = content_of(finished)
    config = settings(output=str(finished), hand_detector="mediapipe")
    once, notes = manifest.resume_config(config)
    twice, more = manifest.resume_config(once)
    assert (once, more) == (twice, [])
    assert notes == []
    assert content_of(finished) == before

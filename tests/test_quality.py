"""`detection.quality`: what a word stands for, how it binds a run, and where people see it."""

from __future__ import annotations

import json
import shutil
import tempfile
import typing
from pathlib import Path
from typing import Any

import faults
import pytest
import yaml
from bound_runs import MORE, NAMES, detect, detect_with, expect_refusal
from faults import InstantEngine, list_notes, make_config, name_frames, read_manifest
from hypothesis import given
from hypothesis import strategies as st

from detectime import config as configuration
from detectime import notebook, outcomes, paths, runs
from detectime.cli.info import describe_run
from detectime.config import DetectionConfig, PairingConfig, list_differences, load_config
from detectime.detection import manifest, resume
from detectime.detectors.contract import Quality
from detectime.detectors.quality import BUNDLES, apply_quality, find_defaults
from detectime.detectors.registry import UNBOUND_KEYS, choose_detectors, find_used_keys
from detectime.errors import ConfigError
from detectime.settings import list_field_names
from detectime.storage import store as stores

FROZEN = faults.HERE / "frozen" / "0.2.0"
WORDS: tuple[Quality, ...] = typing.get_args(Quality)
pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the words keys of every kind, whatever this release has."""
    fast = {"detector_type": "RetinaNetMobileNetV1", "hand_detector": ("hagrid", "mediapipe"), "hagrid_confidence": 0.8}
    best = {"hand_detector": ("hagrid", "mediapipe"), "near_coefficient": 0.0, "face_first_resolution": 320}
    monkeypatch.setitem(BUNDLES, "fast", fast)
    monkeypatch.setitem(BUNDLES, "best", best)


use_bundles = pytest.mark.usefixtures("bundles")


# -- what a word stands for


def test_the_words_are_those_of_the_key() -> None:
    assert tuple(BUNDLES) == WORDS
    defaults = DetectionConfig()
    assert BUNDLES["balanced"] == {key: getattr(defaults, key) for key in BUNDLES["balanced"]}
    assert {"detector_type", "hand_detector"} <= BUNDLES["balanced"].keys()
    assert DetectionConfig().quality == "balanced"


@pytest.mark.parametrize("word", WORDS)
def test_a_word_sets_only_keys_of_the_detection_that_bind_a_run(word: Quality) -> None:
    of_the_user = {"quality", "whole_frame", "detector_settings", "face_cache_column", "face_cache_pixels"}
    assert BUNDLES[word].keys() <= set(list_field_names(DetectionConfig)) - of_the_user - set(UNBOUND_KEYS)


@pytest.mark.parametrize("word", WORDS)
def test_a_new_run_takes_the_keys_of_its_word(word: Quality) -> None:
    detection = make_config(quality=word).detection
    choose_detectors(detection)
    assert detection == DetectionConfig(quality=word, **BUNDLES[word])
    assert BUNDLES[word].keys() <= set(find_used_keys(detection))


@use_bundles
def test_a_key_that_is_set_counts_more_than_the_word() -> None:
    config = make_config(quality="best", near_coefficient=1.5)
    assert config.detection.near_coefficient == 1.5  # its own default, but set
    assert config.detection.hand_detector == ("hagrid", "mediapipe")
    assert config.is_explicit("detection.near_coefficient")
    assert config.is_explicit("detection.quality")
    assert not config.is_explicit("detection.hand_detector")
    assert not config.was_resumed("detection.hand_detector")
    assert list_differences(config) == {"detection.quality": "best", "detection.near_coefficient": 1.5}


@use_bundles
def test_a_key_of_the_word_that_no_detector_reads_is_skipped() -> None:
    detection = make_config(quality="fast", hand_detector="mediapipe").detection
    assert (detection.detector_type, detection.hagrid_confidence) == ("RetinaNetMobileNetV1", 0.7)
    choose_detectors(detection)
    detection = make_config(quality="best", detector_type="DSFDDetector").detection
    assert (detection.near_coefficient, detection.face_first_resolution) == (0.0, 160)
    choose_detectors(detection)


@use_bundles
def test_no_word_is_the_defaults_of_the_keys() -> None:
    detection = make_config(quality="null").detection
    assert detection == DetectionConfig(quality=None)


@use_bundles
@pytest.mark.parametrize(("fallback", "whole_frame"), [("none", False), ("frame", True)])
@pytest.mark.parametrize("word", WORDS)
def test_the_fallback_stays_the_users_and_whole_frame_follows_it(
    word: Quality, fallback: str, whole_frame: bool, tmp_path: Path
) -> None:
    _, config = detect(tmp_path, quality=word, fallback=fallback)
    assert config.pairing.fallback == fallback
    assert config.detection.whole_frame is whole_frame


@use_bundles
@pytest.mark.parametrize(
    ("version", "detection", "parameter", "expected"),
    [
        # the file's word, and a key beside it that has its default: somebody wrote both
        ("0.3", {"quality": "best", "hand_detector": ["mediapipe"]}, None, ["mediapipe"]),
        ("0.3", {"quality": "best"}, None, ["hagrid", "mediapipe"]),
        ("0.3", {"quality": "best", "hand_detector": "hagrid"}, "fast", ["hagrid"]),
        # the parameter's word replaces that of the file, not a key beside it
        ("0.3", {"quality": "balanced", "hand_detector": ["mediapipe"]}, "best", ["mediapipe"]),
        ("0.3", {"hand_detector": ["mediapipe"]}, "best", ["mediapipe"]),
        # a file of 0.2 gives every key
        (None, {"hand_detector": ["mediapipe"]}, "best", ["hagrid", "mediapipe"]),
        (None, {"quality": "best", "hand_detector": ["mediapipe"]}, None, ["hagrid", "mediapipe"]),
        (None, {"hand_detector": ["hagrid"]}, "best", ["hagrid"]),
    ],
)
def test_a_key_of_a_file_beside_a_word(
    version: str | None, detection: dict[str, Any], parameter: str | None, expected: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump({"detection": detection, **({"config_version": version} if version else {})}))
    assert list(load_config(file, {"quality": parameter}).detection.hand_detector) == expected


@pytest.mark.parametrize(("value", "is_given"), [(1.5, True), (0.0, True), (2.0, True), (None, False)])
def test_a_key_of_a_file_stays_under_the_word_of_a_parameter(
    value: float | None, is_given: bool, tmp_path: Path
) -> None:
    """Also at its own default, 1.5: somebody wrote it."""
    file = tmp_path / "config.yml"
    detection = {"near_coefficient": value} if is_given else {"face_confidence": 0.7}
    file.write_text(yaml.safe_dump({"config_version": "0.3", "detection": detection}))
    config = load_config(file, {"quality": "best"})
    assert config.detection.near_coefficient == (value if is_given else 0.0)
    assert config.detection.hand_detector == ("hagrid", "mediapipe")
    assert config.is_explicit("detection.near_coefficient") is is_given


@use_bundles
@pytest.mark.parametrize("word", WORDS)
def test_a_whole_file_of_0_2_takes_the_word_of_a_parameter(word: Quality) -> None:
    with_file = load_config(FROZEN / "config.yml", {"quality": word})
    assert with_file.detection == load_config(paths.CONFIG, {"quality": word}).detection


@use_bundles
def test_a_configuration_with_a_word_becomes_plain_values_and_loads_again(tmp_path: Path) -> None:
    config = make_config(quality="best", hagrid_confidence=0.9)
    plain = configuration.config_to_dict(config)
    assert configuration.config_from_dict(plain).detection == config.detection
    (tmp_path / "config.yml").write_text(yaml.safe_dump(plain | {"config_version": "0.3"}))
    assert load_config(tmp_path / "config.yml").detection == config.detection


@pytest.mark.parametrize(("given", "shown"), [("superb", "'superb'"), (3, "3"), (True, "True"), ("", "''")])
def test_another_word_is_refused(given: Any, shown: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        make_config(quality=given)
    assert f"given as a parameter: detection.quality = {shown}: accepted: fast, balanced, best" in str(refusal.value)


def test_a_word_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"detection.quality = 'Best': did you mean 'best'\? accepted: fast, bal"):
        make_config(quality="Best")


@pytest.mark.parametrize("given", [["best"], {"best": 1}, 3])
def test_a_wrong_word_of_a_file_is_refused_by_the_file(given: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump({"config_version": "0.3", "detection": {"quality": given}}))
    with pytest.raises(ConfigError, match=r"config\.yml: detection\.quality = "):
        load_config(file)
    assert load_config(file, {"quality": "best"}).detection.quality == "best"


# -- resuming


@use_bundles
@pytest.mark.parametrize("word", WORDS)
def test_a_run_stores_the_word_and_its_keys(word: Quality, tmp_path: Path) -> None:
    detect(tmp_path, quality=word)
    stored = read_manifest(tmp_path)["configuration"]["detection"]
    expected = configuration.config_to_dict(DetectionConfig(quality=word, whole_frame=False, **BUNDLES[word]))
    assert stored == expected


@use_bundles
@pytest.mark.parametrize("word", ["fast", "best"])
def test_without_a_word_a_run_keeps_its_own(word: Quality, tmp_path: Path) -> None:
    detect(tmp_path, quality=word)
    before = read_manifest(tmp_path)["configuration"]["detection"]
    engine, config = detect(tmp_path, MORE)
    assert engine.frames == MORE[len(NAMES) :]
    assert read_manifest(tmp_path)["configuration"]["detection"] == before
    (note,) = list_notes(tmp_path, "resumed")
    assert note.count == 1
    assert f": detection.quality = {word!r} (given as an option or a parameter, another value" in note.text
    again, notes = resume.resume_config(config, stores.open_store(str(tmp_path)))
    assert again == config
    assert [one.text for one in notes] == [note.text]


@use_bundles
@pytest.mark.parametrize("word", WORDS)
def test_the_word_of_the_run_is_accepted(word: Quality, tmp_path: Path) -> None:
    detect(tmp_path, quality=word)
    engine, _ = detect(tmp_path, MORE, quality=word)
    assert engine.frames == MORE[len(NAMES) :]
    assert list_notes(tmp_path, "resumed") == []


@use_bundles
@pytest.mark.parametrize("given", [{}, {"quality": "best"}])
def test_keys_that_were_set_beside_the_word_are_taken_and_noted(given: dict[str, str], tmp_path: Path) -> None:
    detect(tmp_path, quality="best", near_coefficient=2.0, hand_confidence=0.6, hand_detector="mediapipe")
    engine, config = detect(tmp_path, MORE, **given)
    assert engine.frames == MORE[len(NAMES) :]
    assert (config.detection.near_coefficient, config.detection.hand_confidence) == (2.0, 0.6)
    assert config.detection.hand_detector == ("mediapipe",)
    assert config.detection.face_first_resolution == 320
    (note,) = list_notes(tmp_path, "resumed")
    assert note.count == 4 - len(given)
    assert ("detection.quality = 'best'" in note.text) == (not given)
    for key in ("near_coefficient = 2.0", "hand_confidence = 0.6", "hand_detector = ['mediapipe']"):
        assert f"detection.{key}" in note.text


@use_bundles
@pytest.mark.parametrize(("old", "new"), [("best", "fast"), ("best", "balanced"), ("balanced", "best")])
def test_another_word_than_that_of_the_run_is_rejected_alone(old: str, new: str, tmp_path: Path) -> None:
    detect(tmp_path, quality=old)
    message = expect_refusal(tmp_path, quality=new)
    assert message.endswith(f"process every frame again: detection.quality: the run has {old!r}, now it is {new!r}")
    assert "another `output`" in message
    both = expect_refusal(tmp_path, quality=new, face_confidence=0.7, hand_detector="hagrid")
    assert f"detection.quality: the run has {old!r}, now it is {new!r}; " in both
    assert "detection.face_confidence: the run has 0.6, now it is 0.7" in both
    hands = list(BUNDLES[old].get("hand_detector", ["mediapipe"]))
    assert f"detection.hand_detector: the run has {hands!r}, now it is ['hagrid']" in both


@use_bundles
def test_a_set_key_against_one_of_the_runs_word_is_rejected(tmp_path: Path) -> None:
    detect(tmp_path, quality="best")
    message = expect_refusal(tmp_path, near_coefficient=1.5)
    assert message.endswith("again: detection.near_coefficient: the run has 0.0, now it is 1.5")
    engine, _ = detect(tmp_path, MORE, near_coefficient=0.0)
    assert engine.frames == MORE[len(NAMES) :]


def test_a_run_keeps_its_keys_when_its_word_means_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUNDLES, "best", {"hand_detector": ("hagrid", "mediapipe"), "near_coefficient": 0.0})
    detect(tmp_path, quality="best")
    before = read_manifest(tmp_path)["configuration"]["detection"]
    monkeypatch.setitem(BUNDLES, "best", {"detector_type": "DSFDDetector", "face_confidence": 0.5})
    for parameters in ({}, {"quality": "best"}):
        detect(tmp_path, MORE, **parameters)
        assert read_manifest(tmp_path)["configuration"]["detection"] == before
        (note,) = list_notes(tmp_path, "resumed")
        for key in ("detector_type", "face_confidence", "hand_detector", "near_coefficient"):
            assert f"detection.{key} = " in note.text


@use_bundles
def test_redetect_takes_another_word_and_what_the_run_had_beside_its_own(tmp_path: Path) -> None:
    detect(tmp_path, quality="fast", face_confidence=0.7, near_coefficient=2.0)
    engine, config = detect(tmp_path, quality="best", redetect=True)
    assert engine.frames == NAMES
    expected = DetectionConfig(quality="best", whole_frame=False, face_confidence=0.7, **BUNDLES["best"])
    assert config.detection == expected
    stored = read_manifest(tmp_path)["configuration"]["detection"]
    assert stored == configuration.config_to_dict(expected)
    (note,) = list_notes(tmp_path, "resumed")
    assert (note.count, "detection.face_confidence = 0.7" in note.text) == (1, True)
    engine, config = detect(tmp_path, MORE)
    assert engine.frames == MORE[len(NAMES) :]
    assert config.detection == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"quality": "best"},
        {"quality": "null", "hand_detector": "hagrid,mediapipe"},
        {"quality": "fast", "near_coefficient": 0.0},
    ],
)
def test_redetect_under_a_word_replaces_what_the_word_decides(parameters: dict[str, Any], tmp_path: Path) -> None:
    _, config = detect(tmp_path, **parameters)
    assert config.detection.hand_detector == ("hagrid", "mediapipe")
    _, config = detect(tmp_path, quality="balanced", redetect=True)
    assert config.detection == DetectionConfig(quality="balanced", whole_frame=False)
    _, config = detect(tmp_path, quality="balanced", hand_detector="hagrid", redetect=True)
    assert config.detection.hand_detector == ("hagrid",)  # a key that is given counts more


_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "quality": st.sampled_from(WORDS),
    "hand_detector": st.sampled_from(["mediapipe", "hagrid", "mediapipe,hagrid"]),
    "detector_type": st.sampled_from(["retinaface", "DSFDDetector"]),
    "near_coefficient": st.sampled_from([0.0, 1.5, 2.0]),
    "face_confidence": st.sampled_from([0.5, 0.6]),
}


@use_bundles
@given(parameters=st.fixed_dictionaries({}, optional=_KEYS), subset=st.sets(st.sampled_from(sorted(_KEYS))))
def test_any_run_resumes_with_any_part_of_what_was_set(parameters: dict[str, Any], subset: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = stores.open_store(folder)
        made, _ = resume.resume_config(make_config(**parameters, output=folder), store)
        manifest.write_manifest(store, manifest.make_manifest(made, {}))
        part = {key: value for key, value in parameters.items() if key in subset}
        resumed, notes = resume.resume_config(make_config(**part, output=folder), store)
        assert resumed.detection == made.detection
        listed = "".join(note.text for note in notes)
        default = find_defaults(made.detection)
        for key in _KEYS:
            differs = getattr(made.detection, key) != default[key]
            assert (f"detection.{key} = " in listed) == (differs and key not in part)
        explicit = {f"detection.{key}" for key in parameters}
        assert {key for key in list_differences(made) if key.startswith("detection.")} <= explicit


def test_apply_quality_keeps_what_is_given() -> None:
    detection = DetectionConfig(near_coefficient=3.0, face_confidence=0.9, whole_frame=True)
    changed = apply_quality(detection, "best", ["near_coefficient", "whole_frame"])
    assert (changed.near_coefficient, changed.face_confidence, changed.whole_frame) == (3.0, 0.6, True)


# -- runs of 0.2, which have no word


def test_a_run_of_0_2_is_finished_without_a_word(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "cascade", tmp_path / "run")
    opened = runs.open_run(tmp_path / "run")
    outcomes.pair_run(opened)
    assert opened.config.detection.quality is None
    assert "detection.quality" not in list_differences(opened.config)
    config, (note,) = resume.resume_config(make_config(output=str(tmp_path / "run")))
    assert (config.detection.quality, "quality" in note.text) == (None, False)
    assert "detection.hand_detector = ['hagrid', 'mediapipe']" in note.text
    assert resume.resume_config(config)[0] == config
    assert "quality    not used; every key has a value of its own" in describe_run(tmp_path / "run")


@pytest.mark.parametrize("word", WORDS)
def test_a_run_of_0_2_refuses_a_word(word: Quality, tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    message = expect_refusal(tmp_path / "run", quality=word)
    assert f"detection.quality = {word!r}: the run has no word, but values of its own, as all runs of 0.2" in message
    assert message.endswith("leave `quality` out")
    assert "now it is" not in message  # one reason is enough


@use_bundles
def test_a_run_of_0_2_is_detected_again_under_a_word(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    engine, config = detect(tmp_path / "run", quality="best", redetect=True)
    assert engine.frames == NAMES
    assert config.detection.quality == "best"
    assert {key: getattr(config.detection, key) for key in BUNDLES["best"]} == BUNDLES["best"]
    # Nobody set what was the default of 0.2: the new detections have today's.
    assert (config.detection.landmark_margin, config.detection.exif) == (None, "apply")


def test_a_run_of_0_2_that_is_detected_again_keeps_what_was_set(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "cascade", tmp_path / "run")
    _, config = detect(tmp_path / "run", redetect=True)
    assert config.detection.hand_detector == ("hagrid", "mediapipe")
    assert (config.detection.quality, config.detection.landmark_margin) == ("balanced", None)


def test_a_run_of_0_2_that_is_detected_again_under_a_word_keeps_only_what_the_word_leaves(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "averaged", tmp_path / "run")
    _, config = detect(tmp_path / "run", quality="balanced", redetect=True)
    assert config.detection.hand_detector == ("mediapipe",)
    assert config.detection.near_coefficient == 1.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("default", {}), ("cascade", {}), ("averaged", {"crop_coefficient": 1.2, "fallback": "frame"})],
)
def test_a_run_of_0_2_that_is_detected_again_is_paired_by_the_rule_of_today(
    name: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(FROZEN / name, tmp_path / "run")
    finished, _ = resume.resume_config(make_config(output=str(tmp_path / "run")))
    assert finished.pairing.rule == "2021"
    _, config = detect(tmp_path / "run", redetect=True)
    assert config.pairing == PairingConfig(**expected)  # what somebody set stays
    assert config.pairing.rule == "confidence"


def test_a_rule_that_is_given_stays_when_a_run_of_0_2_is_detected_again(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    _, config = detect(tmp_path / "run", redetect=True, rule="2021")
    assert config.pairing.rule == "2021"


@pytest.mark.usefixtures("mediapipe_of_0_2")
def test_no_word_may_be_given_for_a_run_of_0_2(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "default", tmp_path / "run")
    config = make_config(quality="null", output=str(tmp_path / "run"))
    engine, _ = detect_with(config, tmp_path / "run", name_frames(3), InstantEngine())
    assert engine.frames == name_frames(3)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["configuration"]["detection"]["quality"] is None


# -- where people see it


@use_bundles
def test_the_notebook_and_info_show_the_word_and_not_its_keys(tmp_path: Path) -> None:
    _, config = detect(tmp_path, quality="best", face_confidence=0.7, save_per_num_images=100)
    facts = notebook._list_facts(notebook.NotebookSettings(config, paths.CONFIG))
    assert facts["not the default"] == "detection.quality = 'best', detection.face_confidence = 0.7"
    shown = describe_run(tmp_path)
    assert "\nquality    best\n" in shown
    assert "Settings that differ from those of `quality: best`\n  detection.face_confidence  0.7\n\n" in shown
    detect(tmp_path / "plain", save_per_num_images=100)
    assert "\nquality    balanced\n" in describe_run(tmp_path / "plain")
    assert "Settings: none differs from the default" in describe_run(tmp_path / "plain")


def test_a_run_of_a_release_that_is_not_known_here_keeps_its_word(tmp_path: Path) -> None:
    detect(tmp_path, quality="best")
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_by": "0.9.0"}))
    engine, config = detect(tmp_path, redetect=True)
    assert engine.frames == NAMES
    assert config.detection.quality == "best"

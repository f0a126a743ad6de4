"""Reading a ``run.json`` of any version, and the errors for a broken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detectime import config as configuration
from detectime import runs
from detectime.detection import manifest, resume
from detectime.detection.manifest import RunError
from detectime.errors import ConfigError
from detectime.storage import store as stores

FROZEN = Path(__file__).parent / "frozen" / "0.2.0" / "default" / "run.json"


def write_manifest(folder: Path, content: Any) -> None:
    """Write ``run.json``: text as it is, anything else as JSON."""
    (folder / "run.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_manifest_of_0_2_is_upgraded(tmp_path: Path) -> None:
    old = json.loads(FROZEN.read_text())
    write_manifest(tmp_path, old)
    found = manifest.read_manifest(stores.open_store(tmp_path))
    assert found is not None
    assert found["manifest_version"] == 2
    assert found["detectors"]["mediapipe"] == {"revision": 1, "weights": old["detectors"]["mediapipe"]}
    assert found["pairing"]["settings"]["crop_coefficient"] == 1.5
    assert manifest.get_config(found).detection.hand_detector == ("mediapipe",)


def test_a_key_missing_in_an_older_manifest_has_the_default_of_its_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = json.loads(FROZEN.read_text())
    del old["configuration"]["detection"]["hand_confidence"]
    write_manifest(tmp_path, old)
    monkeypatch.setitem(manifest.releases.DEFAULTS["0.2"], "detection.hand_confidence", 0.25)
    found = manifest.read_manifest(stores.open_store(tmp_path))
    assert found is not None
    assert manifest.get_config(found).detection.hand_confidence == 0.25


@pytest.mark.parametrize(
    "content",
    ["", "{", "5", "[]", "null", '"text"', "{}", {"configuration": {}}, {"detectors": []}],
)
def test_content_other_than_a_manifest_is_rejected(tmp_path: Path, content: Any) -> None:
    write_manifest(tmp_path, content)
    with pytest.raises(RunError, match=r"run\.json: this is not the manifest of a run"):
        manifest.read_manifest(stores.open_store(tmp_path))


def open_run(folder: Path) -> None:
    runs.open_run(folder)


def resume_run(folder: Path) -> None:
    resume.resume_config(configuration.load_config(parameters={"output": str(folder)}))


@pytest.mark.parametrize("lacking", ["data", "images", "detectors", "started", "finished", "detectime"])
@pytest.mark.parametrize("use", [open_run, resume_run])
def test_a_manifest_without_a_required_key_is_rejected(
    tmp_path: Path, lacking: str, use: Callable[[Path], None]
) -> None:
    content = json.loads(FROZEN.read_text())
    for section in (content, content["configuration"], content["configuration"]["data"]):
        section.pop(lacking, None)
    write_manifest(tmp_path, content)
    with pytest.raises(RunError, match=r"run\.json: this is not the manifest of a run"):
        use(tmp_path)


def test_a_section_missing_in_a_manifest_has_the_defaults_of_its_release(tmp_path: Path) -> None:
    content = json.loads(FROZEN.read_text())
    del content["configuration"]["detection"]
    write_manifest(tmp_path, content)
    assert runs.open_run(tmp_path).config.detection.hand_detector == ("mediapipe",)


@pytest.mark.parametrize("changes", [{"manifest_version": 99}, {"detectime": "9.1.0", "manifest_version": 3}])
def test_a_newer_manifest_is_rejected(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_manifest(tmp_path, json.loads(FROZEN.read_text()) | changes)
    with pytest.raises(RunError, match="made by a newer detectime"):
        runs.open_run(tmp_path)


def test_a_value_that_is_no_longer_accepted_is_named(tmp_path: Path) -> None:
    content = json.loads(FROZEN.read_text())
    content["configuration"]["detection"]["hand_confidence"] = "much"
    write_manifest(tmp_path, content)
    with pytest.raises(RunError, match=r"hand_confidence = 'much'"):
        runs.open_run(tmp_path)


def test_a_folder_without_a_run_is_rejected_and_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in this folder"):
        runs.open_run(tmp_path)
    with pytest.raises(RunError, match="there is no such folder"):
        runs.open_run(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["5", "text", "[1, 2]", "true"])
@pytest.mark.parametrize("parameters", [{}, {"workers": 2}, {"limit": 3}])
def test_a_section_that_is_a_single_value_is_rejected(tmp_path: Path, value: str, parameters: dict[str, int]) -> None:
    text = "data: {images: a, labels: b, output: c}\nlabels: {stop: 1}\n"
    (tmp_path / "config.yml").write_text(f"{text}run: {value}\n")
    with pytest.raises(ConfigError, match=r"run = .*should be keys with values"):
        configuration.load_config(tmp_path / "config.yml", parameters)

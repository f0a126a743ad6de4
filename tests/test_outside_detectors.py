"""Outside detectors: their page in the documentation, real runs with them, and what is rejected."""

from __future__ import annotations

import gc
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pyarrow as pa
import pytest
import yaml
from conftest import draw_pattern, encode_image
from faults import list_stored_files, make_config, make_frames, name_frames, tabulate_frames
from finished_runs import write_notebook
from skips import need_extra

import definitions
from detectime import config as configuration
from detectime import outcomes, paths, runs, sources
from detectime.config import Config, DetectionConfig
from detectime.detection import run
from detectime.detection.manifest import RunError
from detectime.detection.worker import Worker
from detectime.detectors.outside import CheckedDetector, describe_outside
from detectime.detectors.registry import FACES, HANDS, TRUSTED, choose_detectors
from detectime.errors import ConfigError
from detectime.labels import frame_table
from detectime.settings import list_field_names
from detectime.sources.folder import FolderSource

PAGE = (definitions.ROOT_DIR / "docs" / "detectors.md").read_text()
EXAMPLE, ALONE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MINE = "my_hands:build"

# Reports a face in the middle of every image, and one hand at the box in its settings.
FIXED = """
import os

import numpy as np

from detectime.detectors.contract import Detections

FINGERPRINT = {"weights": "abc", "version": "1"}


class Fixed:
    def __init__(self, box):
        self.box = box
        self.fingerprint = FINGERPRINT
        if "BUILDS" in os.environ:
            with open(os.environ["BUILDS"], "a") as file:
                file.write(f"{os.getpid()} ")

    def detect(self, images, regions=None):
        return [self.look(image) for image in images]

    def look(self, image):
        height, width = image.shape[:2]
        box = np.array([self.box], np.float32) * [width, height, width, height]
        return Detections(box.astype(np.float32), np.array([0.75], np.float32))


def build_faces(settings, device):
    return Fixed([0.25, 0.25, 0.75, 0.75])


def build(settings, device):
    return Fixed(settings.get("box", [0.5, 0.5, 1, 1]))
"""

WriteModule = Callable[[str, str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Return a function that writes modules which this process and its child processes can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    # Bytecode caches compare times in seconds: a module rewritten within a second would be stale.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, code: str) -> str:
        (folder / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


@pytest.fixture
def fixed(write_module: WriteModule) -> str:
    """Write the module of detectors with fixed boxes."""
    return write_module("fixed", FIXED)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Make a folder of small frames."""
    make_frames(tmp_path / "images", name_frames(8))
    return tmp_path / "images"


def make_sample_config(output: Path, **parameters: Any) -> Config:
    place = {"images": str(paths.SAMPLE / "TRAIN_DATA"), "labels": str(paths.SAMPLE / "train.csv")}
    return make_config(**{**place, "output": str(output), "workers": 2, "save_per_num_images": 20, **parameters})


def run_on_sample(output: Path, **parameters: Any) -> pa.Table:
    """Detect and pair as the notebook does."""
    config = make_sample_config(output, **parameters)
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes, config.selection.limit)
    run.detect_frames(table, source, config, str(output))
    finished = runs.open_run(output)
    outcomes.pair_run(finished)
    return finished.read_detections()


def detect(images: Path, output: Path, count: int = 6, **parameters: Any) -> pa.Table:
    parameters = {"workers": 1, "detector_type": "fixed:build_faces", "hand_detector": "fixed:build", **parameters}
    config = make_config(**parameters)
    return run.detect_frames(tabulate_frames(name_frames(8)[:count]), FolderSource(str(images)), config, str(output))


def read(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "run.json").read_text())
    return content


# -- the page in the documentation


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Save the example of the page as an importable module."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "my_hands.py").write_text(EXAMPLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("my_hands", None)


@pytest.fixture(scope="module")
def sample_run(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the example on the sample with two workers."""
    output = tmp_path_factory.mktemp("sample") / "run"
    run_on_sample(output, hand_detector=MINE)
    return output


@pytest.mark.slow
def test_the_example_is_a_complete_detector(sample_run: Path) -> None:
    found = runs.open_run(sample_run).read_detections()
    assert found["outcome"].unique().to_pylist() == ["ok"]
    hands = [hand for row in found["hands"].to_pylist() for hand in row]
    assert {(hand["detector"], hand["stage"]) for hand in hands} == {(MINE, "near")}
    assert {face["detector"] for row in found["faces"].to_pylist() for face in row} == {"retinaface"}
    for column in ("landmarks", "presence", "handedness", "proposal"):
        assert {value for row in found[column].to_pylist() for value in row} == {None}
    assert [len(row) for row in found["crop_hash"].to_pylist()] == [len(row) for row in found["hands"].to_pylist()]
    assert len(json.loads((sample_run / "hands.json").read_text())) > 80
    made = read(sample_run)
    assert list(made["detectors"]) == ["retinaface", MINE]
    assert made["detectors"][MINE] == {
        "revision": 1,
        "weights": {"fingerprint": "colour of the face, 1"},
        "distribution": None,
        "version": None,
    }
    assert made["configuration"]["detection"]["hand_detector"] == [MINE]


def test_the_example_is_about_thirty_lines() -> None:
    assert sum(1 for line in EXAMPLE.splitlines() if line.strip()) <= 32


@pytest.mark.slow
def test_the_example_searches_whole_frames_too(example: Path) -> None:
    chosen = choose_detectors(DetectionConfig(hand_detector=(MINE,), search="frame", whole_frame=True))
    names = ["stop_01/0001.jpg", "ok_01/0001.jpg"]
    found = Worker(chosen)(FolderSource(str(paths.SAMPLE / "TRAIN_DATA")), names)
    assert found["outcome"].to_pylist() == ["ok", "ok"]


@pytest.mark.slow
def test_the_next_detector_of_a_cascade_runs_where_it_finds_no_hand(
    example: Path, sample_run: Path, tmp_path: Path
) -> None:
    cascade = run_on_sample(tmp_path / "run", hand_detector=f"{MINE}, mediapipe")
    alone = runs.open_run(sample_run).read_detections()
    asked = 0
    for before, after in zip(alone["hands"].to_pylist(), cascade["hands"].to_pylist(), strict=True):
        assert [hand for hand in after if hand["detector"] == MINE] == before
        asked += any(hand["detector"] == "mediapipe" for hand in after)
    assert 0 < asked < 60
    assert list(read(tmp_path / "run")["detectors"]) == ["retinaface", MINE, "mediapipe"]


@pytest.mark.slow
def test_the_page_shows_how_to_try_it_alone(tmp_path: Path) -> None:
    (tmp_path / "my_hands.py").write_text(EXAMPLE)
    (tmp_path / "alone.py").write_text(ALONE)
    (tmp_path / "data").symlink_to(paths.SAMPLE.parent)
    done = subprocess.run(
        [sys.executable, "alone.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[120 rows x 4 columns]" in done.stdout


def test_the_page_shows_the_keys_of_config_yml(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    content = yaml.safe_load((definitions.ROOT_DIR / "config.yml").read_text())
    file = tmp_path / "config.yml"
    file.write_text(shown + yaml.safe_dump({key: content[key] for key in ("config_version", "data", "labels")}))
    config = configuration.load_config(file).detection
    assert config.hand_detector == (MINE, "mediapipe")
    assert config.detector_settings == {MINE: {"tolerance": 12}}


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_the_folder_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "my_hands.py").write_text(EXAMPLE)
    (tmp_path / "frames").symlink_to(paths.SAMPLE / "TRAIN_DATA")
    (tmp_path / "labels.csv").symlink_to(paths.SAMPLE / "train.csv")
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    told = [line for line in commands.replace("\\\n", " ").splitlines() if line.strip()]
    assert len(told) == 2
    short = write_notebook(tmp_path / "short.ipynb")
    for command in told:
        assert command.startswith("detectime run ")
        # With -P this folder is not searched, as for the installed command.
        filled = f"{shlex.quote(sys.executable)} -P -m {command} --limit 12 --notebook {short}"
        done = subprocess.run(
            filled, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert read(tmp_path / "out")["configuration"]["detection"]["hand_detector"] == [MINE]
    detection = read(tmp_path / "out-both")["configuration"]["detection"]
    assert detection["hand_detector"] == [MINE, "mediapipe"]
    assert detection["detector_settings"] == {MINE: {"tolerance": 12}}
    assert json.loads((tmp_path / "out-both" / "hands.json").read_text())


def test_the_table_of_the_page_matches_the_registry() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {name: row for row in rows if len(row) == 5 for name in re.findall(r"`(\w+)`", row[0])}
    assert list(told) == [*FACES, *HANDS]
    for name, (_, _, _, searches, keys) in told.items():
        spec = {**FACES, **HANDS}[name]
        assert sorted(re.findall(r"`(\w+)`", keys)) == sorted(list_field_names(spec.settings))
        if name in HANDS:
            assert searches == ("the frame" if spec.search == "frame" else f"near faces, {spec.reach:g}")
    order = ", ".join(f"`{name}`" for name in TRUSTED)
    assert f"kept: {order}, then your own" in PAGE


# -- what reaches a detector


@pytest.mark.slow
def test_settings_reach_every_worker(fixed: str, images: Path, tmp_path: Path) -> None:
    box = [0.25, 0.5, 0.5, 1.0]
    found = detect(images, tmp_path / "run", workers=2, detector_settings={"fixed:build": {"box": box}})
    for row in found.to_pylist():
        (hand,), (face,) = row["hands"], row["faces"]
        size = [row["width"], row["height"]] * 2
        assert [hand[corner] for corner in ("x1", "y1", "x2", "y2")] == [a * b for a, b in zip(box, size, strict=True)]
        assert (hand["detector"], hand["stage"], hand["score"]) == ("fixed:build", "near", 0.75)
        assert (face["detector"], face["stage"]) == ("fixed:build_faces", "frame")
    assert list(read(tmp_path / "run")["detectors"]) == ["fixed:build_faces", "fixed:build"]


def test_the_properties_of_a_detector_are_honoured(write_module: WriteModule, images: Path) -> None:
    write_module(
        "tell",
        FIXED
        + """
SEEN = []


class Telling(Fixed):
    reach, reduced, revision = 3, False, 7

    def detect(self, images, regions=None):
        SEEN.append(([image.shape[:2] for image in images], regions))
        return super().detect(images)


def build_near(settings, device):
    SEEN.append((dict(settings), device))
    settings["changed"] = "here alone"
    return Telling([0, 0, 0.5, 0.5])


def build_frame(settings, device):
    detector = Telling([0, 0, 0.5, 0.5])
    detector.search = "frame"
    return detector
""",
    )
    source = FolderSource(str(images))

    def look(name: str) -> list[Any]:
        config = DetectionConfig(
            detector_type="tell:build_faces", hand_detector=(name,), detector_settings={name: {"a": 1}}, device="cpu"
        )
        chosen = choose_detectors(config)
        (spec,) = chosen.hands
        assert (spec.revision, spec.reach, spec.reduced) == (7, 3, False)
        Worker(chosen)(source, name_frames(8)[:1])
        assert config.detector_settings == {name: {"a": 1}}
        seen: list[Any] = sys.modules["tell"].SEEN[:]
        sys.modules["tell"].SEEN.clear()
        return seen

    built, (((height, width),), (squares,)) = look("tell:build_near")
    assert built == ({"a": 1}, "cpu")
    side = 2 * 3 * max(width, height) / 2  # of the context square, coefficient 3, of a face of half the frame
    assert np.allclose(
        squares, [[width / 2 - side / 2, height / 2 - side / 2, width / 2 + side / 2, height / 2 + side / 2]]
    )
    assert look("tell:build_frame") == [([(height, width)], None)]


@pytest.mark.slow
def test_weights_are_loaded_once_in_each_process(
    fixed: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    detect(images, tmp_path / "run", workers=1)
    builds = (tmp_path / "builds").read_text().split()
    assert len(set(builds)) == 2  # this process and its worker
    assert all(builds.count(process) == 2 for process in builds)  # faces and hands


def test_the_driver_keeps_no_weights_in_memory(fixed: str) -> None:
    chosen = choose_detectors(DetectionConfig(detector_type="fixed:build_faces", hand_detector=("fixed:build",)))
    chosen.check()

    def count() -> int:
        gc.collect()
        return sum(type(one) is sys.modules["fixed"].Fixed for one in gc.get_objects())

    assert count() == 2
    chosen.fingerprints()
    assert count() == 0
    worker = Worker(chosen)
    assert count() == 2
    del worker


def test_chosen_detectors_are_pickled_as_their_configuration(fixed: str) -> None:
    config = DetectionConfig(
        detector_type="fixed:build_faces",
        hand_detector=("fixed:build", "mediapipe"),
        detector_settings={"fixed:build": {"box": [0, 0, 1, 1]}},
    )
    chosen = choose_detectors(config)
    fingerprints = chosen.fingerprints()  # cached in this object only
    again = pickle.loads(pickle.dumps(chosen))
    assert again == chosen
    assert "hands" not in vars(again)
    assert again.fingerprints() == fingerprints
    assert fingerprints["fixed:build"]["weights"] == {"weights": "abc", "version": "1"}
    assert [spec.name for spec in again.specs] == ["fixed:build_faces", "fixed:build", "mediapipe"]


# -- rejected before any work

GOOD = "class D:\n    fingerprint = '1'\n    def detect(self, images, regions=None): return []\n"

REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "no such module": ("", ("cannot be imported", "ModuleNotFoundError", "package.module:function")),
    "no such function": ("x = 1", ("cannot be imported", "AttributeError", "build")),
    "a broken module": ("1 / 0", ("cannot be imported", "ZeroDivisionError")),
    "a module that leaves": ("raise ImportError('needs my_library')", ("cannot be imported", "needs my_library")),
    "no function": ("build = 5", ("build is not callable", "build(settings, device)")),
    "another signature": ("def build(): pass", ("cannot be built", "TypeError")),
    "build raises": ("def build(settings, device): raise KeyError('size')", ("cannot be built", "KeyError: 'size'")),
    "build returns nothing": ("def build(settings, device): pass", ("no method detect(images, regions=None)",)),
    "detect is no method": (GOOD + "D.detect = 5\ndef build(s, d): return D()", ("no method detect",)),
    "no fingerprint": (GOOD + "del D.fingerprint\ndef build(s, d): return D()", ("has no fingerprint", "sha256")),
}
REFUSED |= {
    f"fingerprint {value}": (GOOD + f"D.fingerprint = {value}\ndef build(s, d): return D()", ("has no fingerprint",))
    for value in ("''", "None", "5", "{}", "{'weights': 5}", "{'weights': ''}", "lambda self: None")
}
REFUSED["fingerprint raises"] = (
    GOOD + "D.fingerprint = lambda self: open('/no/file')\ndef build(s, d): return D()",
    ("fingerprint()", "FileNotFoundError"),
)
REFUSED |= {
    f"{name} {value}": (GOOD + f"D.{name} = {value}\ndef build(s, d): return D()", (f"its {name} is", accepted))
    for name, value, accepted in (
        ("search", "'hand'", "face, frame"),
        ("reach", "0", "a number above 0"),
        ("reach", "float('nan')", "a number above 0"),
        ("reach", "'2'", "a number above 0"),
        ("revision", "'2'", "a whole number"),
        ("revision", "0", "a whole number"),
        ("revision", "True", "a whole number"),
        ("reduced", "'no'", "True, False"),
    )
}


@pytest.mark.parametrize("key", ["hand_detector", "detector_type"])
@pytest.mark.parametrize("fault", REFUSED)
def test_an_invalid_detector_is_rejected_before_any_work(
    fault: str, key: str, write_module: WriteModule, images: Path, tmp_path: Path
) -> None:
    code, words = REFUSED[fault]
    write_module("fixed", FIXED)
    if code:
        write_module("odd", code)
    with pytest.raises(ConfigError) as refusal:
        detect(images, tmp_path / "run", **{key: "odd:build"})
    assert str(refusal.value).startswith(f"detection.{key} = 'odd:build'")
    for word in words:
        assert word in str(refusal.value)
    assert not (tmp_path / "run").exists() or list_stored_files(tmp_path / "run") == set()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"fixed:biuld": {}}, "detector_settings.fixed:biuld: this run does not use it"),
        ({"other:build": {"a": 1}}, "detector_settings.other:build: this run does not use it"),
        ({"mediapipe": {"a": 1}}, "detector_settings.mediapipe: its settings are keys of `detection`"),
        ({"fixed:build": {}, "hagrid": {}}, "detector_settings.hagrid: this run does not use it"),
        ({"fixed:build": 5}, "detector_settings.fixed:build = 5: should be keys with values"),
    ],
)
def test_an_unused_section_is_rejected(sections: dict[str, Any], words: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        detect(images, tmp_path / "run", hand_detector="fixed:build,mediapipe", detector_settings=sections)
    assert words in str(refusal.value)


def test_unused_settings_of_built_in_detectors_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"detection.hand_confidence = 0.9: only mediapipe reads it"):
        choose_detectors(make_config(hand_detector="fixed:build", hand_confidence=0.9).detection)
    with pytest.raises(ConfigError, match=r"detection.face_confidence = 0.9"):
        choose_detectors(make_config(detector_type="fixed:build_faces", face_confidence=0.9).detection)


# -- errors on one frame

WRONG: dict[str, tuple[str, str]] = {
    "raises": ("raise RuntimeError('out of luck')", "RuntimeError: out of luck"),
    "returns nothing": ("return None", "returned a NoneType for 1 images; accepted: a list with one result per image"),
    "too few": ("return []", "returned 0 results for 1 images"),
    "too many": ("return 2 * super().detect(images)", "returned 2 results for 1 images"),
    "arrays": ("return [np.zeros((1, 4))]", "returned a ndarray for an image; accepted: Detections"),
    "shape": ("return [Detections(np.zeros((2, 4), 'f4'), np.ones(1, 'f4'))]", "boxes: shape (2, 4); expected (1, 4)"),
    "type": ("return [Detections(np.zeros((1, 4)), np.ones(1, 'f4'))]", "boxes: dtype float64; expected float32"),
    "nan": ("return [box(1, 1, np.nan, 5)]", "returned the box [1.0, 1.0, nan, 5.0] for an image of 64 x 48"),
    "order": ("return [box(9, 1, 5, 9)]", "returned the box [9.0, 1.0, 5.0, 9.0]"),
    "no area": ("return [box(5, 1, 5, 9)]", "returned the box [5.0, 1.0, 5.0, 9.0]"),
    "outside": ("return [box(70, 1, 80, 9)]", "at least partly inside the image"),
    "score": ("return [box(1, 1, 5, 5, 1.5)]", "returned the score 1.5; accepted: 0 to 1"),
    "score nan": ("return [box(1, 1, 5, 5, np.nan)]", "returned the score nan"),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("key", ["hand_detector", "detector_type"])
@pytest.mark.parametrize("fault", WRONG)
def test_an_error_on_a_frame_costs_only_that_frame(
    fault: str, key: str, batch: int, write_module: WriteModule, tmp_path: Path
) -> None:
    code, reason = WRONG[fault]
    write_module("fixed", FIXED)
    write_module(
        "odd",
        FIXED
        + f"""
def box(x1, y1, x2, y2, score=0.5):
    return Detections(np.array([[x1, y1, x2, y2]], np.float32), np.array([score], np.float32))


class Odd(Fixed):
    def detect(self, images, regions=None):
        if any(image.shape == (48, 64, 3) for image in images):
            {code}
        return super().detect(images)


def build(settings, device):
    return Odd([0.25, 0.25, 0.5, 0.5])
""",
    )
    for name, size in {"a.png": (60, 40), "b.png": (64, 48), "c.png": (40, 60)}.items():
        (tmp_path / name).write_bytes(encode_image(draw_pattern(*size)))
    detectors = {"detector_type": "fixed:build_faces", "hand_detector": ("fixed:build",)}
    detectors[key] = ("odd:build",) if key == "hand_detector" else "odd:build"  # type: ignore[assignment]
    worker = Worker(choose_detectors(DetectionConfig(**detectors, batch=batch)))  # type: ignore[arg-type]
    rows = worker(FolderSource(str(tmp_path)), ["a.png", "b.png", "c.png"]).to_pylist()
    assert [row["outcome"] for row in rows] == ["ok", "failed", "ok"]
    assert reason in rows[1]["error"]
    assert rows[1]["hands"] == rows[1]["faces"] == []
    assert all(len(rows[k]["hands"]) == 1 for k in (0, 2))


def test_boxes_are_clipped_to_the_image(write_module: WriteModule, tmp_path: Path) -> None:
    write_module(
        "wide",
        FIXED
        + """
class Wide(Fixed):
    def look(self, image):
        return Detections(
            np.array([[-5, -5, 20, 999], [1, 2, 3, 4]], np.float32),
            np.array([0.5, 0.4], np.float32),
            presence=np.array([0.9, 0.8], np.float32),
        )


def build(settings, device):
    return Wide(None)
""",
    )
    (tmp_path / "a.png").write_bytes(encode_image(draw_pattern(64, 48)))
    chosen = choose_detectors(DetectionConfig(detector_type="wide:build_faces", hand_detector=("wide:build",)))
    (row,) = Worker(chosen)(FolderSource(str(tmp_path)), ["a.png"]).to_pylist()
    corners = [[hand[corner] for corner in ("x1", "y1", "x2", "y2")] for hand in row["hands"]]
    assert corners == [[0, 0, 20, 48], [1, 2, 3, 4]]
    assert np.allclose(row["presence"], [0.9, 0.8])
    assert all(row["crop_hash"])


def test_the_detector_is_not_called_for_an_empty_batch() -> None:
    assert CheckedDetector(object(), "x:y").detect([], []) == []


@pytest.mark.slow
def test_a_failed_frame_has_a_row(write_module: WriteModule, images: Path, tmp_path: Path) -> None:
    write_module(
        "fixed",
        FIXED
        + """
class Odd(Fixed):
    def look(self, image):
        if image[0, 0, 0] % 2:
            raise RuntimeError("an odd image")
        return super().look(image)


def build_odd(settings, device):
    return Odd([0.25, 0.25, 0.5, 0.5])
""",
    )
    found = detect(images, tmp_path / "run", 8, hand_detector="fixed:build_odd").to_pylist()
    failed = [row for row in found if row["outcome"] == "failed"]
    assert 0 < len(failed) < 8
    assert {row["error"] for row in failed} == {"RuntimeError: an odd image"}
    assert read(tmp_path / "run")["outcomes"] == {
        "ok": 8 - len(failed),
        "missing": 0,
        "unreadable": 0,
        "failed": len(failed),
    }


# -- the binding of a run


GROWTH: dict[str, tuple[tuple[str, str], dict[str, Any], tuple[str, ...]]] = {
    "fingerprint": (('"abc"', '"xyz"'), {}, ("weights of fixed:build: weights", "'abc'", "'xyz'")),
    "a part more": (('"version": "1"', '"version": "1", "size": "9"'), {}, ("fixed:build: size", "None", "'9'")),
    "revision": (
        ("class Fixed:", "class Fixed:\n    revision = 2"),
        {},
        ("fixed:build has revision 2, the run was made by revision 1",),
    ),
    "settings": (
        ("", ""),
        {"detector_settings": {"fixed:build": {"box": [0, 0, 1, 1]}}},
        ("detection.detector_settings: the run has {'fixed:build': {'box': [0, 0, 0.5, 0.5]}}", "[0, 0, 1, 1]"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", GROWTH)
def test_a_run_cannot_be_grown_by_a_changed_detector(
    what: str, write_module: WriteModule, images: Path, tmp_path: Path
) -> None:
    (old, new), parameters, words = GROWTH[what]
    output = tmp_path / "run"
    write_module("fixed", FIXED)
    detect(images, output, detector_settings={"fixed:build": {"box": [0, 0, 0.5, 0.5]}})
    kept = {name: (output / name).read_bytes() for name in list_stored_files(output)}
    write_module("fixed", FIXED.replace(old, new, 1))
    with pytest.raises(RunError) as refusal:
        detect(images, output, 8, **parameters)
    for word in (*words, "another `output`", "`redetect: true`"):
        assert word in str(refusal.value)
    assert {name: (output / name).read_bytes() for name in list_stored_files(output)} == kept
    if not parameters:  # no frames are pending: the detections stay usable
        detect(images, output)
        (note,) = [note for note in runs.open_run(output).notes if note.kind == "detectors"]
        assert all(word in note.text for word in words)
    found = detect(images, output, 8, redetect=True, **parameters)
    assert len(found) == 8
    assert len(list(output.glob("detections.*.parquet"))) == 1


@pytest.mark.slow
def test_unset_keys_keep_the_values_of_the_run(fixed: str, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    sections = {"fixed:build": {"box": [0, 0, 0.5, 0.5]}}
    detect(images, output, detector_settings=sections)
    run.detect_frames(tabulate_frames(name_frames(8)), FolderSource(str(images)), make_config(workers=1), str(output))
    made = read(output)["configuration"]["detection"]
    assert (made["detector_type"], made["hand_detector"]) == ("fixed:build_faces", ["fixed:build"])
    assert made["detector_settings"] == sections
    assert runs.open_run(output).detections.num_rows == 8
    (note,) = [note for note in runs.open_run(output).notes if note.kind == "resumed"]
    assert note.count == 3
    with pytest.raises(
        RunError, match=r"detection.hand_detector: the run has \['fixed:build'\], now it is \['mediapipe'\]"
    ):
        detect(images, output, hand_detector="mediapipe")


@pytest.mark.slow
def test_redetect_drops_the_detector_and_its_settings(fixed: str, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    detect(images, output, detector_settings={"fixed:build": {"box": [0, 0, 0.5, 0.5]}})
    detect(images, output, hand_detector="mediapipe", redetect=True)
    assert list(read(output)["detectors"]) == ["fixed:build_faces", "mediapipe"]
    assert read(output)["configuration"]["detection"]["detector_settings"] == {}


@pytest.mark.slow
def test_a_finished_run_does_not_need_the_module(
    fixed: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    detect(images, output)
    samples = outcomes.pair_run(runs.open_run(output))
    made, hands = read(output), (output / "hands.json").read_bytes()
    (tmp_path / "modules" / "fixed.py").unlink()
    monkeypatch.delitem(sys.modules, "fixed")
    assert outcomes.pair_run(runs.open_run(output)).equals(samples)
    assert (output / "hands.json").read_bytes() == hands
    assert len(json.loads(hands)) == 6
    assert len(detect(images, output)) == 6
    (note,) = [note for note in runs.open_run(output).notes if note.kind == "detectors"]
    assert "ModuleNotFoundError" in note.text
    assert read(output)["detectors"] == made["detectors"]
    with pytest.raises(ConfigError, match="'fixed:build_faces': cannot be imported"):
        detect(images, output, 8)
    assert read(output)["finished"]


# -- distributions


def install(folder: Path, name: str, version: str, **files: str) -> None:
    """Write the metadata of an installed distribution."""
    for old in folder.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, content in files.items():
        (about / file.replace("__", ".")).write_text(content)


@pytest.mark.slow
def test_the_version_of_the_distribution_is_recorded(write_module: WriteModule, images: Path, tmp_path: Path) -> None:
    write_module("fixed", FIXED)
    folder, output = tmp_path / "modules", tmp_path / "run"
    install(folder, "fixed_hands", "1.2", top_level__txt="fixed\n", RECORD="fixed.py,,\n")
    detect(images, output)
    expected = {"revision": 1, "weights": {"weights": "abc", "version": "1"}}
    assert read(output)["detectors"]["fixed:build"] == {**expected, "distribution": "fixed_hands", "version": "1.2"}
    install(folder, "fixed_hands", "1.3", top_level__txt="fixed\n", RECORD="fixed.py,,\n")
    assert len(detect(images, output, 8)) == 8  # the fingerprint is the same
    notes = [note.text for note in runs.open_run(output).notes if note.kind == "detectors"]
    assert any("The detector fixed:build has version 1.3; the run began with 1.2" in text for text in notes)
    assert read(output)["detectors"]["fixed:build"]["version"] == "1.3"


def test_an_editable_distribution_is_found_by_its_folder(
    write_module: WriteModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("fixed", FIXED)
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.syspath_prepend(str(installed))
    origin = {"url": (tmp_path / "modules").as_uri(), "dir_info": {"editable": True}}
    install(installed, "edited", "0.1.dev3", direct_url__json=json.dumps(origin), RECORD="edited.pth,,\n")
    spec = describe_outside("fixed:build", "detection.hand_detector", {}, "cpu")
    assert (spec.distribution, spec.version) == ("edited", "0.1.dev3")


def test_the_distribution_of_a_namespace_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for part in ("first", "second"):
        (tmp_path / "spaced" / part).mkdir(parents=True)
        (tmp_path / "spaced" / part / "__init__.py").write_text(FIXED)
        install(tmp_path, f"spaced_{part}", "1.0", RECORD=f"spaced/{part}/__init__.py,,\n")
    spec = describe_outside("spaced.second:build", "detection.hand_detector", {}, "cpu")
    assert spec.distribution == "spaced_second"


def test_a_loose_file_has_no_distribution(fixed: str) -> None:
    spec = describe_outside("fixed:build", "detection.hand_detector", {}, "cpu")
    assert (spec.distribution, spec.version) == (None, None)


# -- on Ray

_ON_RAY = """
import sys
sys.path[:0] = {folders!r}
import test_outside_detectors as tests
from detectime.detection.engines import EngineError
try:
    tests.run_on_sample(tests.Path({output!r}), hand_detector={detectors!r}, **{parameters!r})
except EngineError as error:
    print("refused:", error)
"""


def run_on_ray(folders: list[Path], output: Path, detectors: str, **parameters: Any) -> str:
    """Run in a separate process, as Ray cannot switch clusters within one; return its output."""
    code = _ON_RAY.format(
        folders=[str(folder) for folder in (*folders, faults.HERE)],
        output=str(output),
        detectors=detectors,
        parameters=parameters,
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=faults.ROOT,
        env={**faults.copy_bare_environment(), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.extra
@pytest.mark.slow
def test_local_ray_gives_the_same_detections(example: Path, sample_run: Path, tmp_path: Path) -> None:
    need_extra("ray")
    run_on_ray([example], tmp_path / "run", MINE, engine="ray")
    assert (tmp_path / "run" / "hands.json").read_bytes() == (sample_run / "hands.json").read_bytes()
    assert read(tmp_path / "run")["detectors"] == read(sample_run)["detectors"]


@pytest.mark.extra
@pytest.mark.slow
def test_the_module_must_be_installed_on_every_node_of_a_cluster(
    example: Path, sample_run: Path, tmp_path: Path
) -> None:
    need_extra("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(example), str(faults.HERE)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            cluster.add_node(num_cpus=1)
            run_on_ray([example], tmp_path / "run", MINE, ray_address=cluster.address)
            (tmp_path / "here").mkdir()
            (tmp_path / "here" / "only_here.py").write_text(EXAMPLE)
            said = run_on_ray([tmp_path / "here"], tmp_path / "no", "only_here:build", ray_address=cluster.address)
        finally:
            cluster.shutdown()
    assert (tmp_path / "run" / "hands.json").read_bytes() == (sample_run / "hands.json").read_bytes()
    assert "refused: these nodes of the Ray cluster cannot work for this run" in said
    assert "No module named 'only_here'" in said

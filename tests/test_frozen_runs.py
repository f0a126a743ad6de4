"""Runs of earlier releases open, pair and resume with nothing set by the user: see ``tests/frozen``.

They grow where their detectors are unchanged. Those of 0.2 are not, so the fixture `mediapipe_of_0_2` pretends that one
of them is, to test what else a growing run keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FROZEN, make_detection, make_detection_row
from finished_runs import write_notebook

import definitions
from detectime import boxes, outcomes, paths, runs, schema, sources
from detectime import config as configuration
from detectime.config import Config, DetectionConfig, PairingConfig
from detectime.detection import manifest, resume, run, shards
from detectime.detection.manifest import RunError
from detectime.labels import frame_table
from detectime.schema import DETECTIONS
from detectime.storage import store as stores

FINISHED = ["default", "cascade", "averaged"]


@pytest.fixture
def frozen(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Copy the run that the test is parametrised with."""
    return copy(request.param, tmp_path)


def copy(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FROZEN / name, folder / name))


def load(output: Path, **parameters: Any) -> Config:
    given = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv", "output": output}
    return configuration.load_config(parameters={**{key: str(value) for key, value in given.items()}, **parameters})


def detect(output: Path, **parameters: Any) -> Config:
    config, _ = resume.resume_config(load(output, **parameters))
    source = sources.open_source(config.data.images, config.data.source_type)
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes, config.selection.limit)
    run.detect_frames(table, source, config, str(output))
    return config


OF_0_2 = ("hand_detector", "near_coefficient", "whole_frame", "landmark_margin")
"""Keys that decide the boxes of frames that are stored upright."""


def hands(output: Path) -> bytes:
    return (output / "hands.json").read_bytes()


def made_by_0_2(name: str) -> bytes:
    return (FROZEN / name / "hands.json").read_bytes()


def hand_boxes(output: Path) -> dict[str, np.ndarray]:
    """Return the boxes of the hands of each processed frame, also of an interrupted run."""
    files = [*output.glob("detections.parquet"), *output.glob("shards/*.parquet")]
    return {
        row["frame_path"]: np.array([[hand[c] for c in ("x1", "y1", "x2", "y2")] for hand in row["hands"]]).reshape(
            -1, 4
        )
        for file in files
        for row in pq.read_table(file).to_pylist()
    }


MADE_BY_0_2 = json.loads((FROZEN / "default" / "run.json").read_text())
CHANGED = {
    "detectors/mediapipe.py": {
        "hand_confidence: Share = 0.5": "hand_confidence: Share = 0.9",
        # As the fixture `mediapipe_of_0_2`.
        "revision=2,": f"own_fingerprint=lambda _: {MADE_BY_0_2['detectors']['mediapipe']},",
    },
    "detectors/contract.py": {
        "face_confidence: Share = 0.6": "face_confidence: Share = 0.95",
        'hand_detector: Annotated[Names, Field(min_length=1)] = ("mediapipe",)': "hand_detector: "
        'Annotated[Names, Field(min_length=1)] = ("hagrid",)',
    },
    "config.py": {
        " crop_coefficient: Coefficient = 1.5": " crop_coefficient: Coefficient = 0.4",
        "crop_hand_coefficient: Coefficient = 1.5": "crop_hand_coefficient: Coefficient = 3.0",
        'fallback: Literal["none", "wider", "frame"] = "none"': 'fallback: Literal["none", "wider", "frame"] = "wider"',
        'enlarged_classes: Names = ("mute",)': 'enlarged_classes: Names = ("ok",)',
    },
}
"""Defaults of a release to come, by where they stand."""


@pytest.fixture(scope="module")
def later_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a package with other defaults."""
    folder = tmp_path_factory.mktemp("later")
    package = folder / "detectime"
    shutil.copytree(definitions.ROOT_DIR / "detectime", package, ignore=shutil.ignore_patterns("models", "__pycache__"))
    (package / "detectors" / "models").symlink_to(definitions.ROOT_DIR / "detectime" / "detectors" / "models")
    for name, changes in CHANGED.items():
        text = (package / name).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (package / name).write_text(text)
    shutil.copy(FROZEN / "config.yml", folder / "config.yml")
    return folder


def run_later(folder: Path, script: str, *arguments: object) -> str:
    """Run Python with the later release, in a process of its own; return what it prints."""
    command = [sys.executable, "-P", "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout


PAIR = "import sys; from detectime import outcomes, runs; outcomes.pair_run(runs.open_run(sys.argv[1]))"
GO_ON = """
import sys
from detectime import outcomes, runs, sources
from detectime.config import load_config
from detectime.detection import resume, run
from detectime.labels import frame_table
images, labels, output = sys.argv[1:]
given = {"images": images, "labels": labels, "output": output}
settings, _ = resume.resume_config(load_config(parameters=given))
source = sources.open_source(images)
table = frame_table.select_frames(frame_table.read_labels(settings, source), settings.classes)
run.detect_frames(table, source, settings, output)
outcomes.pair_run(runs.open_run(output), settings.pairing)
"""
DEFAULTS = """
import sys
from detectime import config
for given in ({}, {"exif": "ignore"}):
    settings = config.load_config(sys.argv[1], given)
    print(settings.detection.exif, settings.pairing.fallback, settings.is_explicit("detection.exif"))
"""


@pytest.mark.parametrize("frozen", FINISHED, indirect=True)
def test_a_finished_run_opens_and_pairs_by_its_folder_alone(frozen: Path) -> None:
    before = hands(frozen)
    opened = runs.open_run(frozen)
    assert len(opened.detections) == 108
    assert len(opened.frames) == 120
    assert opened.frames["frame_id"].dtype == "int64"
    samples = outcomes.pair_run(opened)
    paired = manifest.read_manifest(stores.open_store(frozen))
    assert paired is not None
    assert paired["pairing"]["rule"] == "2021"  # type: ignore[index]
    assert hands(frozen) == before == made_by_0_2(frozen.name)
    assert not [note for note in opened.notes if note.kind == "edited"]
    assert {path.name for path in frozen.glob("hands*")} == {"hands.json"}
    written = pd.read_csv(FROZEN / frozen.name / "outcomes.csv", keep_default_na=False)
    assert samples["outcome"].astype(str).tolist() == written["outcome"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", FINISHED, indirect=True)
def test_a_finished_run_pairs_the_same_when_defaults_have_changed(frozen: Path, later_release: Path) -> None:
    run_later(later_release, PAIR, frozen)
    assert hands(frozen) == made_by_0_2(frozen.name)
    run_later(later_release, GO_ON, paths.SAMPLE / "TRAIN_DATA", paths.SAMPLE / "train.csv", frozen)
    assert hands(frozen) == made_by_0_2(frozen.name)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", FINISHED, indirect=True)
def test_a_finished_run_goes_on_with_nothing_set(frozen: Path) -> None:
    """Without the weights of hagrid, and as the notebook does it: nothing is looked at again."""
    config = detect(frozen)
    opened = runs.open_run(frozen)
    outcomes.pair_run(opened, config.pairing)
    assert hands(frozen) == made_by_0_2(frozen.name)
    if frozen.name == "averaged":
        assert config.pairing.fallback == "frame"
        assert config.pairing.crop_coefficient == 1.2
    if frozen.name != "default":
        (note,) = [note for note in opened.notes if note.kind == "resumed"] or resume.resume_config(load(frozen))[1]
        assert "detection.hand_detector = ['hagrid', 'mediapipe']" in str(note)
    table = pq.read_table(frozen / "detections.parquet")
    assert table["stamp"].null_count == 0  # adopted
    assert table["content"].null_count == len(table)  # nothing was read


@pytest.mark.slow
@pytest.mark.usefixtures("mediapipe_of_0_2")
def test_an_interrupted_run_is_finished_by_its_own_settings(tmp_path: Path, later_release: Path) -> None:
    output, later = copy("interrupted", tmp_path), copy("interrupted", tmp_path / "later")
    kept = hand_boxes(output)
    assert len(kept) == 45  # the five shards of 0.2
    config = detect(output)
    outcomes.pair_run(runs.open_run(output), config.pairing)
    run_later(later_release, GO_ON, paths.SAMPLE / "TRAIN_DATA", paths.SAMPLE / "train.csv", later)
    assert hands(later) == hands(output)

    values = configuration.config_to_dict(config.detection)
    detect(tmp_path / "whole", **{key: values[key] for key in OF_0_2})
    found, whole = hand_boxes(output), hand_boxes(tmp_path / "whole")
    assert found.keys() == whole.keys()
    for path, own in found.items():
        np.testing.assert_array_equal(own, kept.get(path, whole[path]))
    table = pq.read_table(output / "detections.parquet")
    assert table["content"].null_count == 45


@pytest.mark.slow
@pytest.mark.usefixtures("hagrid_weights")
@pytest.mark.parametrize(
    ("name", "detectors"),
    [
        ("default", ["mediapipe"]),
        ("interrupted", ["mediapipe"]),
        ("cascade", ["hagrid", "mediapipe"]),
        ("averaged", ["hagrid", "mediapipe"]),
    ],
)
def test_detectors_of_another_revision_refuse_growing_and_nothing_else(
    name: str, detectors: list[str], tmp_path: Path
) -> None:
    output, classes = copy(name, tmp_path), ["no_gesture", "stop", "victory"]
    reason = f"{detectors[0]} has revision 2, the run was made by revision 1"
    if name in FINISHED:  # nothing is to be looked at
        outcomes.pair_run(runs.open_run(output), detect(output).pairing)
        assert hands(output) == made_by_0_2(name)
        (note,) = [note for note in runs.open_run(output).notes if note.kind == "detectors"]
        assert reason in note.text
    with pytest.raises(RunError, match=rf"{reason}.*another `output`.*redetect: true"):
        detect(output, classes=classes)
    config = detect(output, classes=classes, redetect=True)
    assert list(config.detection.hand_detector) == detectors
    made = manifest.read_manifest(stores.open_store(output))
    assert made is not None
    assert {made["detectors"][detector]["revision"] for detector in detectors} == {2}
    if name in FINISHED:
        (kept,) = output.glob("detections.*Z.parquet")
        assert pq.read_metadata(kept).num_rows == 108


@pytest.mark.slow
@pytest.mark.parametrize("was_opened", [False, True], ids=["first", "after it was opened"])
def test_a_run_that_is_detected_again_is_a_new_run(was_opened: bool, tmp_path: Path) -> None:
    output, new = copy("default", tmp_path), tmp_path / "new"
    if was_opened:
        detect(output)
    config = detect(output, redetect=True)
    assert config.detection == detect(new).detection
    found, expected = hand_boxes(output), hand_boxes(new)
    assert found.keys() == expected.keys()
    for path, boxes_of_frame in found.items():
        np.testing.assert_array_equal(boxes_of_frame, expected[path])


@pytest.mark.slow
def test_todays_boxes_are_near_those_of_0_2(tmp_path: Path) -> None:
    """Nearly each hand of 0.2 is detected, and few others are."""
    values = MADE_BY_0_2["configuration"]["detection"]
    detect(tmp_path, **{key: values[key] for key in OF_0_2})
    now, then = hand_boxes(tmp_path), hand_boxes(copy("default", tmp_path / "copy"))
    assert now.keys() == then.keys()
    pairs = sum(
        int((boxes.compute_iou(now[path][:, None], own) >= 0.5).any(axis=0).sum()) for path, own in then.items()
    )
    assert pairs >= 0.95 * sum(map(len, then.values()))
    assert sum(map(len, now.values())) - pairs <= 0.1 * pairs


def test_the_config_of_0_2_loads_unchanged() -> None:
    old, new = configuration.load_config(FROZEN / "config.yml"), configuration.load_config()
    assert configuration.config_to_dict(old)["labels"] == configuration.config_to_dict(new)["labels"]
    assert old.detection == DetectionConfig()
    assert old.pairing == PairingConfig()
    assert old.explicit == frozenset()


@pytest.mark.slow
def test_a_value_of_an_old_config_that_was_its_default_takes_todays(later_release: Path) -> None:
    """A parameter always counts as set, also where it is the default of the file's release."""
    assert run_later(later_release, DEFAULTS, later_release / "config.yml").splitlines() == [
        "apply wider False",
        "ignore wider True",
    ]


@pytest.mark.slow
def test_the_notebook_of_0_2_stops_with_the_new_names(tmp_path: Path) -> None:
    output = copy("default", tmp_path)
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    given = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv", "output": output}
    command = [str(Path(sys.executable).parent / "papermill"), str(FROZEN / "01_get_train_data.ipynb")]
    command += [str(tmp_path / "out.ipynb"), "--no-progress-bar", "-p", "config", str(paths.CONFIG)]
    command += [part for name, value in given.items() for part in ("-p", name, str(value))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RenamedError: detectime.evaluate was renamed to detectime.evaluation in 0.3.")
    assert "CHANGELOG.md" in last
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("start", ["default", "nothing"])
def test_the_notebook_takes_the_parameters_of_0_2(tmp_path: Path, start: str) -> None:
    output = copy("default", tmp_path) if start == "default" else tmp_path / "new"
    given = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv", "output": output}
    given |= {"config": FROZEN / "config.yml", "source": "folder"}
    command = [str(Path(sys.executable).parent / "papermill"), write_notebook(tmp_path / "short.ipynb")]
    command += [str(tmp_path / "out.ipynb"), "--no-progress-bar"]
    command += [part for name, value in given.items() for part in ("-p", name, str(value))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    if start == "default":
        assert hands(output) == made_by_0_2("default")
    assert runs.open_run(output).outcomes["outcome"].value_counts()["paired"] == (99 if start == "default" else 100)


@pytest.mark.slow
@pytest.mark.usefixtures("mediapipe_of_0_2")
def test_a_run_whose_faces_are_those_of_another_goes_on_when_that_one_is_rewritten(tmp_path: Path) -> None:
    """0.2 bound such a run to the bytes of the other's file; the faces in it are the same."""
    cache, output = copy("default", tmp_path), copy("default", tmp_path / "with")
    then = hashlib.sha256((cache / "detections.parquet").read_bytes()).hexdigest()
    made = json.loads((output / "run.json").read_text())
    made["configuration"]["detection"] |= {"detector_type": "face_cache", "face_cache": str(cache)}
    made["detectors"] = {"face_cache": {"rows": then}, "mediapipe": made["detectors"]["mediapipe"]}
    (output / "run.json").write_text(json.dumps(made))
    for _ in range(2):  # rewritten, and once more
        detect(cache)
        assert hashlib.sha256((cache / "detections.parquet").read_bytes()).hexdigest() != then
        detect(cache, classes=["no_gesture", *configuration.load_config().classes])
    detect(output)
    assert not [note for note in runs.open_run(output).notes if note.kind == "detectors"]
    detect(output, classes=["no_gesture", "stop"])  # it may grow as well
    assert pq.read_metadata(output / "detections.parquet").num_rows == 120


# -- the detections table of 0.3 before its release


@pytest.mark.skipif(
    int(pa.__version__.split(".")[0]) < 26, reason="pyarrow is older than 26 and cannot read such lists"
)
def test_lists_of_fixed_size_become_plain_lists(tmp_path: Path) -> None:
    hand = make_detection((0, 0, 1, 1))
    rows = [make_detection_row("v/1.jpg", hands=[hand, hand]), make_detection_row("v/2.jpg")]
    rows[0]["landmarks"] = [[1.0] * 63, None]
    complete = dict.fromkeys(DETECTIONS.names)
    old = pa.Table.from_pylist([complete | row for row in rows], schema=schema._DETECTIONS_2)
    (tmp_path / "shards").mkdir()
    pq.write_table(old, tmp_path / "shards" / "000000001.parquet")
    store = stores.open_store(tmp_path)
    results = shards.Results(store)
    assert not results.is_compact
    results.compact(pa.array(["v/1.jpg", "v/2.jpg"]), pa.nulls(2, pa.string()))
    found = pq.read_table(tmp_path / "detections.parquet")
    assert found.schema.equals(DETECTIONS)
    assert schema.get_table_version(found.schema, "detections.parquet") == 3
    assert found.to_pylist() == old.to_pylist()


def test_the_table_can_be_read_by_older_releases_of_pyarrow() -> None:
    """Before pyarrow 26, a list of fixed size could be written but not read if it had nulls."""

    def has_fixed_size(kind: pa.DataType) -> bool:
        if pa.types.is_fixed_size_list(kind):
            return True
        children = [kind.field(k).type for k in range(kind.num_fields)]
        return any(map(has_fixed_size, children))

    assert [field.name for field in DETECTIONS if has_fixed_size(field.type)] == []
    assert has_fixed_size(schema._DETECTIONS_2.field("landmarks").type)

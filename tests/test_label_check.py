"""The check of labels: what the network sees in real hands, what is kept, and what bad frames and folders cost."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import provide_weights, read_image
from faults import FaultyFolder
from finished_runs import make_run
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectime import label_check, pairing, runs
from detectime.config import RunConfig
from detectime.detectors import onnx
from detectime.errors import ConfigError
from detectime.images import UnreadableImageError
from detectime.label_check import (
    CONTRADICTED,
    GESTURES,
    check,
    check_labels,
    compare_scores,
    match_classes,
    network,
    scores,
)
from detectime.notes import Note
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, TableVersionError
from detectime.storage import downloads, run_tables
from detectime.storage.downloads import WeightsError
from detectime.storage.store import open_store

HERE = Path(__file__).parent
CLASSES = ("stop", "victory")


@pytest.fixture(autouse=True)
def _weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the weights available, which are not part of the package."""
    provide_weights(label_check.WEIGHTS, monkeypatch)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Check the labels of a run on some frames of the rendered sample.

    Returns
    -------
    Path
        A folder with the folders `images` and `run`, and `labels.pickle`, what the check returned.
    """
    folder = tmp_path_factory.mktemp("label check")
    for name in CLASSES:
        shutil.copytree(SAMPLE / "TRAIN_DATA" / f"{name}_01", folder / "images" / f"{name}_01")
    lines = (SAMPLE / "train.csv").read_text()
    for number, name in ((3, "die"), (4, "sleep")):  # a word for `FaultyFolder`; any other source finds nothing odd
        path = folder / "images" / "stop_01" / f"{number:04}.jpg"
        path.rename(path.with_name(f"{name}_{number}.jpg"))
        lines = lines.replace(f"stop_01/{path.name}", f"stop_01/{name}_{number}.jpg")
    (folder / "train.csv").write_text(lines)
    places = {"images": str(folder / "images"), "labels": str(folder / "train.csv")}
    run = make_run(folder / "run", classes=",".join(CLASSES), **places)
    with pytest.MonkeyPatch.context() as patch:
        provide_weights(label_check.WEIGHTS, patch)
        check_labels(run, workers=1).to_pickle(folder / "labels.pickle")
    return folder


@pytest.fixture
def expected(checked: Path) -> pd.DataFrame:
    labels: pd.DataFrame = pd.read_pickle(checked / "labels.pickle")
    return labels


@pytest.fixture
def checked_run(checked: Path, tmp_path: Path) -> FinishedRun:
    """Copy the run with its frames and with what is kept of the check, so that a test may change them."""
    copy = tmp_path / "copy"
    shutil.copytree(checked, copy)
    manifest = copy / "run" / "run.json"
    manifest.write_text(manifest.read_text().replace(str(checked / "images"), str(copy / "images")))
    return runs.open_run(copy / "run")


@pytest.fixture
def run(checked_run: FinishedRun) -> FinishedRun:
    """Copy the run with its frames, as if it had never been checked."""
    get_table(checked_run).unlink()
    return checked_run


@pytest.fixture
def journal(checked_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that holds a file for each frame that the workers open."""
    folder = tmp_path / "journal"
    folder.mkdir()
    replace_source(monkeypatch, FaultyFolder(checked_run.config.data.images, journal=str(folder), struck=True))
    return folder


def replace_source(monkeypatch: pytest.MonkeyPatch, source: FaultyFolder) -> None:
    monkeypatch.setattr("detectime.label_check.scores.sources.open_source", lambda *_: source)


def get_table(run: FinishedRun) -> Path:
    return Path(str(run.store)) / label_check.FILE_NAME


def list_opened(journal: Path) -> list[str]:
    return sorted(path.name for path in journal.iterdir() if path.suffix == ".jpg")


def list_samples(run: FinishedRun) -> pd.DataFrame:
    rows = run.outcomes
    return rows[rows["outcome"].isin(SAMPLES)]


def get_notes(labels: pd.DataFrame) -> list[Note]:
    notes: list[Note] = labels.attrs["notes"]
    return notes


# -- classes and gestures


@pytest.mark.parametrize(
    ("vocabulary", "classes", "expected"),
    [
        ("stop like", {}, {"stop": "palm stop stop_inverted", "like": "like"}),
        ("stop palm", {}, {"stop": "stop stop_inverted", "palm": "palm stop_inverted"}),
        ("stop palm stop_inverted", {}, {"stop": "stop", "palm": "palm", "stop_inverted": "stop_inverted"}),
        ("halt", {"stop": "halt"}, {"halt": "palm stop stop_inverted"}),
        ("halt back", {"stop": "halt", "stop_inverted": "back"}, {"halt": "palm stop", "back": "palm stop_inverted"}),
        ("two", {"peace": "two", "two_up": "two"}, {"two": "peace peace_inverted two_up two_up_inverted"}),
        ("peace", {"peace": "victory"}, {"peace": "peace peace_inverted"}),  # no such class in this run
        ("peace victory", {"peace": "victory"}, {"peace": "peace peace_inverted", "victory": "peace peace_inverted"}),
        ("wave no_gesture", {"wave": "wave", "no_gesture": "no_gesture"}, {"wave": "", "no_gesture": ""}),
    ],
)
def test_a_class_means_gestures_of_its_name_or_mapped_to_it(
    vocabulary: str, classes: dict[str, str], expected: dict[str, str]
) -> None:
    found = match_classes(vocabulary.split(), classes)
    assert found == {name: tuple(gestures.split()) for name, gestures in expected.items()}


def test_the_network_has_45_gestures() -> None:
    assert len(GESTURES) == len(set(GESTURES)) == 45
    assert {gesture for group in check._ALIKE for gesture in group} <= set(GESTURES)


def compare_one(name: str, scores: Sequence[float], gestures: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Compare a label with scores, one gesture at a time."""
    table = dict(zip(GESTURES, scores, strict=True))
    seen = max(table, key=lambda gesture: table[gesture])
    meaning = [other for other, own in gestures.items() if seen in own]
    predicted = "" if not meaning else name if name in meaning else meaning[0]
    powers = {gesture: np.exp(score) for gesture, score in table.items()}
    margin = max(table[g] for g in gestures[name]) - max(table[g] for g in table if g not in gestures[name])
    shown = gestures[predicted] if predicted else [seen]
    return {
        "seen": seen,
        "predicted": predicted,
        "probability": sum(powers[g] for g in shown) / sum(powers.values()),
        "own_probability": sum(powers[g] for g in gestures[name]) / sum(powers.values()),
        "margin": round(margin, 2),
        "contradicts": round(margin, 2) < CONTRADICTED,
    }


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stop", "palm", "victory", "like"]),
            st.none() | st.lists(st.integers(-3000, 1000), min_size=45, max_size=45, unique=True),
        ),
        max_size=5,
    )
)
def test_comparisons_equal_those_of_a_loop(rows: list[tuple[str, list[int] | None]]) -> None:
    gestures = match_classes(["stop", "palm", "victory", "like", "wave"], {"peace": "victory"})
    scores = np.full((len(rows), 45), np.nan, np.float32)
    for values, (_, hundredths) in zip(scores, rows, strict=True):
        values[:] = np.nan if hundredths is None else np.array(hundredths) / 100
    names = pd.Series([name for name, _ in rows], index=[7] * len(rows), dtype="str")
    labels = compare_scores(names, scores, gestures)
    assert labels.index.tolist() == [7] * len(rows)
    for label, values, (name, hundredths) in zip(labels.to_dict("records"), scores, rows, strict=True):
        if hundredths is None:
            assert (label["seen"], label["predicted"], label["contradicts"]) == ("", "", False)
            assert np.isnan([label["probability"], label["own_probability"], label["margin"]]).all()
        else:
            expected = compare_one(name, values.astype(float).tolist(), gestures)
            numbers = [key for key, value in expected.items() if isinstance(value, float)]
            assert {key: label[key] for key in expected} == expected | {
                key: pytest.approx(expected[key], abs=1e-9) for key in numbers
            }


# -- what the network sees


def test_one_row_per_sample_as_documented(checked_run: FinishedRun, expected: pd.DataFrame) -> None:
    labels = check_labels(checked_run, checked_run.outcomes.sample(frac=1, random_state=0))
    samples = list_samples(checked_run)
    assert sorted(labels["frame_path"]) == sorted(samples["frame_path"])
    assert (labels["frame_path"] == samples["frame_path"].reindex(labels.index)).all()
    kinds = {name: labels[name].dtype.kind for name in ("probability", "own_probability", "margin", "contradicts")}
    assert kinds == {"probability": "f", "own_probability": "f", "margin": "f", "contradicts": "b"}
    assert labels[["probability", "own_probability"]].stack().between(0, 1).all()
    assert set(labels["predicted"]) <= {*checked_run.config.labels, ""}
    assert set(labels["seen"]) <= set(GESTURES)
    assert get_notes(labels) == []
    pd.testing.assert_frame_equal(labels.sort_index(), expected)


def test_right_labels_are_confirmed_and_swapped_ones_contradicted(checked_run: FinishedRun) -> None:
    samples = list_samples(checked_run)
    labels = check_labels(checked_run)
    assert (labels["margin"] > 0).mean() > 0.9
    assert not labels["contradicts"].any()
    swapped = samples.assign(class_name=samples["class_name"].map(dict(zip(CLASSES, CLASSES[::-1], strict=True))))
    contradicted = check_labels(checked_run, swapped)
    assert contradicted["contradicts"].mean() > 0.9
    right = labels["margin"] > 0
    assert (contradicted["predicted"][right] == samples["class_name"][right]).all()


def test_a_hand_is_seen_alike_on_the_left_and_on_the_right(run: FinishedRun) -> None:
    session = onnx.open_session(downloads.find_weights(label_check.WEIGHTS))
    samples = list_samples(run)
    for path, box in zip(samples["frame_path"], pairing.get_boxes(samples, "hand"), strict=True):
        image = read_image(Path(run.config.data.images, path))
        width = image.shape[1]
        scores = network.classify_hand(session, image, box)
        mirrored = np.array([width - box[2], box[1], width - box[0], box[3]])
        other = network.classify_hand(session, image[:, ::-1], mirrored)
        assert GESTURES[scores.argmax()] == GESTURES[other.argmax()]


def test_a_hand_outside_the_frame_has_no_scores() -> None:
    session = onnx.open_session(downloads.find_weights(label_check.WEIGHTS))
    with pytest.raises(UnreadableImageError, match="outside"):
        network.classify_hand(session, np.zeros((48, 64, 3), np.uint8), np.array([70.0, 0, 90, 20]))


def test_classes_that_the_network_does_not_know_are_noted(run: FinishedRun, journal: Path) -> None:
    samples = list_samples(run)
    unknown = (samples["class_name"] == "victory").to_numpy()
    labels = check_labels(run, samples, classes={}, workers=1)
    assert 0 < unknown.sum() < len(samples)
    assert list_opened(journal) == sorted(samples["frame_path"][~unknown].str.replace("/", "-"))
    assert labels["margin"].isna().tolist() == unknown.tolist()
    assert (labels["seen"] == "").tolist() == unknown.tolist()
    assert not labels["contradicts"].any()
    (note,) = get_notes(labels)
    assert (note.kind, note.count, note.example) == ("unchecked", unknown.sum(), "victory")
    assert "knows no gesture for 1 class;" in note.text


def test_classes_may_be_given_other_gestures(checked_run: FinishedRun) -> None:
    samples = list_samples(checked_run).assign(class_name="no_gesture")
    labels = check_labels(checked_run, samples, classes={"palm": "no_gesture", "peace": "no_gesture"})
    assert (labels["margin"] > 0).mean() > 0.9
    assert get_notes(labels) == []


def test_no_sample_gives_no_row(checked_run: FinishedRun, expected: pd.DataFrame) -> None:
    rows = checked_run.outcomes
    labels = check_labels(checked_run, rows[~rows["outcome"].isin(SAMPLES)])
    assert labels.empty
    assert labels.columns.tolist() == expected.columns.tolist()


@pytest.mark.slow
def test_labels_of_hagrid_are_right_but_for_one_wrong_hand(shared: Path, tmp_path: Path) -> None:
    folder = shared / "frames" / "hagrid"
    places = {"images": str(folder / "hagrid_dataset"), "labels": str(folder / "hagrid_annotations" / "val")}
    run = make_run(tmp_path / "run", whole_frame=True, fallback="frame", **places)
    labels = check_labels(run)
    assert len(labels) >= 46
    assert (labels["margin"] > 0).sum() >= 43
    assert labels.loc[labels["contradicts"], "frame_path"].str.startswith("like/27e67b42").tolist() == [True]
    assert count_contradicted_swaps(run, labels) > 0.93


@pytest.mark.slow
@pytest.mark.large
def test_labels_of_the_contest_are_right_but_for_one_wrong_box(shared: Path, tmp_path: Path) -> None:
    folder = shared / "frames" / "contest"
    places = {"images": str(folder / "TRAIN_DATA"), "labels": str(folder / "train.csv")}
    run = make_run(tmp_path / "run", whole_frame=True, fallback="frame", **places)
    labels = check_labels(run)
    assert len(labels) == 103
    assert labels.loc[labels["contradicts"], "frame_path"].tolist() == ["selfie/0003.jpg"]
    assert count_contradicted_swaps(run, labels) > 0.98


@pytest.mark.slow
@pytest.mark.large
def test_labels_that_are_one_word_for_all_hands_are_contradicted(shared: Path, tmp_path: Path) -> None:
    folder = shared / "frames" / "webcam"
    places = {"images": str(folder / "TRAIN_DATA"), "labels": str(folder / "train.csv")}
    run = make_run(tmp_path / "run", whole_frame=True, fallback="frame", **places)
    assert check_labels(run)["contradicts"].mean() > 0.6  # about three in four hands are something else than `stop`


def count_contradicted_swaps(run: FinishedRun, labels: pd.DataFrame) -> float:
    """Return the share of wrong labels that are contradicted: every other class for each sample."""
    samples = list_samples(run)
    right = samples[~labels["contradicts"].to_numpy()]
    found: list[bool] = []
    for name in sorted(set(samples["class_name"])):
        others = right[right["class_name"] != name].assign(class_name=name)
        found.extend(check_labels(run, others)["contradicts"])
    return float(np.mean(found))


# -- what is kept


def test_what_is_kept_is_not_read_again(checked_run: FinishedRun, expected: pd.DataFrame, journal: Path) -> None:
    assert [path.name for path in get_table(checked_run).parent.glob("label_check*")] == [label_check.FILE_NAME]
    shutil.rmtree(checked_run.config.data.images)
    pd.testing.assert_frame_equal(check_labels(checked_run), expected)
    assert list_opened(journal) == []


def test_only_what_is_new_needs_weights(
    checked_run: FinishedRun, expected: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("DETECTIME_MIRROR", "http://[::1/invalid")
    monkeypatch.setattr("detectime.paths.find_model_folder", lambda: tmp_path / "model")
    pd.testing.assert_frame_equal(check_labels(checked_run), expected)
    get_table(checked_run).unlink()
    with pytest.raises(WeightsError, match=r"crops_classifier\.onnx: weights are missing"):
        check_labels(checked_run)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(checked: Path, run: FinishedRun, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(check_labels(run, workers=3), expected)
    assert get_table(run).read_bytes() == (checked / "run" / label_check.FILE_NAME).read_bytes()
    with pytest.raises(ConfigError, match="workers"):
        check_labels(run, workers=0)


def test_only_what_changed_is_computed_again(checked_run: FinishedRun, expected: pd.DataFrame, journal: Path) -> None:
    samples = list_samples(checked_run)
    moved, other = samples["frame_path"].tolist()[:2]
    is_moved = samples["frame_path"] == moved
    samples["hand_x1"] = samples["hand_x1"].where(~is_moved, samples["hand_x1"] + 20)
    samples["content"] = samples["content"].where(samples["frame_path"] != other, "1-00000000")
    labels = check_labels(checked_run, samples, workers=1)
    assert list_opened(journal) == sorted(name.replace("/", "-") for name in (moved, other))
    assert labels["margin"][is_moved].item() != expected["margin"][is_moved].item()
    (note,) = get_notes(labels)
    assert (note.kind, note.count, note.example) == ("unchecked", 1, other)
    assert "changed since detection; run again" in note.text
    rest = ~samples["frame_path"].isin([moved, other]).to_numpy()
    assert_equal_rows(labels, expected, rest)


def assert_equal_rows(labels: pd.DataFrame, expected: pd.DataFrame, rows: NDArray[np.bool_]) -> None:
    pd.testing.assert_frame_equal(pd.DataFrame(labels[rows]), pd.DataFrame(expected[rows]))


def test_scores_of_other_weights_are_computed_again(
    checked: Path, checked_run: FinishedRun, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = run_tables.read_table(checked_run.store, label_check.FILE_NAME, 1)
    assert read is not None
    table, attributes = read
    assert attributes["weights_sha256"] == label_check.WEIGHTS.sha256
    others = attributes | {"weights_sha256": "another"}
    run_tables.write_table(checked_run.store, label_check.FILE_NAME, table, 1, others)
    labels = check_labels(checked_run, workers=1)
    assert len(list_opened(journal)) == len(labels)
    assert get_table(checked_run).read_bytes() == (checked / "run" / label_check.FILE_NAME).read_bytes()


def test_frames_of_unknown_content_are_looked_at_each_time(
    checked_run: FinishedRun, expected: pd.DataFrame, journal: Path
) -> None:
    before = get_table(checked_run).read_bytes()
    labels = check_labels(checked_run, list_samples(checked_run).assign(content=None), workers=1)
    assert len(list_opened(journal)) == len(labels)
    pd.testing.assert_frame_equal(labels, expected)
    assert get_table(checked_run).read_bytes() == before


def test_a_damaged_table_is_made_anew(checked_run: FinishedRun, expected: pd.DataFrame) -> None:
    path = get_table(checked_run)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    labels = check_labels(checked_run, workers=1)
    assert_equal_rows(labels, expected, np.ones(len(expected), bool))
    (note,) = get_notes(labels)
    assert str(note) == "1 file was damaged: what it held was computed again (the first: 'label_check.parquet')"
    assert path.read_bytes() == content


def test_a_table_of_a_newer_detectime_is_refused(run: FinishedRun) -> None:
    run_tables.write_table(run.store, label_check.FILE_NAME, pd.DataFrame({"frame_path": ["a"]}), 99)
    before = get_table(run).read_bytes()
    with pytest.raises(TableVersionError, match="made by a newer detectime"):
        check_labels(run)
    assert get_table(run).read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_noted(
    run: FinishedRun, expected: pd.DataFrame, small_disk: Path
) -> None:
    shutil.copytree(str(run.store), small_disk / "run")
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb") as rest:
        while True:
            rest.write(bytes(4096))
    run.store = open_store(small_disk / "run", reading=True)
    labels = check_labels(run, workers=1)
    assert_equal_rows(labels, expected, np.ones(len(expected), bool))
    (note,) = get_notes(labels)
    assert note.kind == "not_kept"
    assert "No space left on device" in note.text


@pytest.mark.slow
def test_while_another_process_works_in_the_folder_chunks_stay_beside_the_table(
    run: FinishedRun, expected: pd.DataFrame
) -> None:
    folder = Path(str(run.store))
    with open_store(folder).lock():
        pd.testing.assert_frame_equal(check_labels(run, workers=1), expected)
    (part,) = (path.name for path in folder.glob("label_check*"))
    assert part != label_check.FILE_NAME
    pd.testing.assert_frame_equal(check_labels(run, workers=1), expected)
    assert [path.name for path in folder.glob("label_check*")] == [label_check.FILE_NAME]


# -- frames and processes that fail


@pytest.mark.slow
def test_a_frame_that_kills_or_hangs_its_worker_costs_itself(
    run: FinishedRun, expected: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = FaultyFolder(run.config.data.images)
    replace_source(monkeypatch, source)
    settings = RunConfig(workers=1, frame_timeout=2)
    monkeypatch.setattr(scores, "_make_settings", lambda _: settings)
    labels = check_labels(run)
    assert f"{len(labels)}/{len(labels)}" in capsys.readouterr().out
    lost = labels["frame_path"].str.contains("die|sleep").to_numpy(bool)
    assert lost.sum() == 2
    assert labels.loc[lost, "margin"].isna().all()
    assert_equal_rows(labels, expected, ~lost)
    (note,) = get_notes(labels)
    assert (note.kind, note.count, note.example) == ("unchecked", 2, "stop_01/die_3.jpg")
    assert "SIGKILL" in note.text
    replace_source(monkeypatch, FaultyFolder(source.root, struck=True))
    pd.testing.assert_frame_equal(check_labels(run), expected)  # they are tried again


def test_frames_that_are_gone_are_noted(run: FinishedRun) -> None:
    shutil.rmtree(Path(run.config.data.images, "stop_01"))
    labels = check_labels(run, workers=1)
    gone = labels["frame_path"].str.startswith("stop_01")
    assert labels["margin"].isna().tolist() == gone.tolist()
    (note,) = get_notes(labels)
    assert (note.kind, note.count) == ("unchecked", gone.sum())


KILLED = """
import sys
sys.path.insert(0, {here!r})
from faults import FaultyFolder
from detectime import label_check, runs, sources
from detectime.label_check import scores
scores._CHUNK_FRAMES = 3
sources.open_source = lambda *_: FaultyFolder({images!r}, journal={journal!r}, struck=True, pause=0.1)
label_check.check_labels(runs.open_run({output!r}), workers=1)
"""


@pytest.mark.slow
def test_a_killed_check_loses_no_finished_chunk(
    run: FinishedRun, expected: pd.DataFrame, journal: Path, tmp_path: Path
) -> None:
    folder = Path(str(run.store))
    (tmp_path / "first").mkdir()
    places = {"images": run.config.data.images, "journal": str(tmp_path / "first"), "output": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(here=str(HERE), **places)])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("label_check.part-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [run_tables.read_table(run.store, path.name, 1) for path in folder.glob("label_check.part-*")]
    done = {name for read in kept if read is not None for name in read[0]["frame_path"].str.replace("/", "-")}
    assert 6 <= len(done) < len(expected)
    pd.testing.assert_frame_equal(check_labels(run, workers=1), expected)
    assert set(list_opened(journal)) == set(expected["frame_path"].str.replace("/", "-")) - done
    assert [path.name for path in folder.glob("label_check*")] == [label_check.FILE_NAME]


def test_the_labels_of_175000_samples_are_compared_in_seconds() -> None:
    count = 175_000
    scores: NDArray[np.float32] = np.random.default_rng(0).normal(-20, 8, (count, 45)).astype(np.float32)
    names = pd.Series(["stop", "like", "ok", "victory", "dislike"] * (count // 5))
    started = time.process_time()
    labels = compare_scores(names, scores, match_classes(set(names), {"peace": "victory"}))
    assert time.process_time() - started < 5
    assert labels["contradicts"].mean() > 0.5

"""Doubt: every reason on frames that are made for it, and the ranking of wrong samples of real runs."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import FROZEN, Box, make_detection, make_detection_row, make_detections_table
from finished_runs import copy_run, make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from imagined_runs import ImaginedFolder

from benchmarks import ranking
from benchmarks.ranking import Judged
from detectime import outcomes, runs
from detectime.config import RunConfig, load_config
from detectime.decision_files import DecisionLog
from detectime.decisions import Decision, format_time
from detectime.detection import run as detection
from detectime.detection.engines.contract import LostShard, Shard, ShardQueue
from detectime.detectors.registry import Chosen
from detectime.doubt import Reason, score_doubt
from detectime.doubt.reasons import SHOWN
from detectime.labels import frame_table, frames_csv
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, LANDMARKS
from detectime.sources.contract import Source

FACE: Box = (300, 100, 380, 200)
HAND: Box = (420, 120, 500, 220)
PER_HAND = ("landmarks", "presence", "handedness", "proposal", "crop_hash")
SUGGESTED = [f"suggested_{corner}" for corner in CORNERS]
CHANGED = 7  # the frame that differs from the others


@dataclasses.dataclass
class Frame:
    """A frame with a hand that nothing speaks against; a test changes what it is about."""

    number: int
    video: str = "video"
    class_name: str = "ok"
    face: Box | None = FACE
    hand: Box | None = HAND
    score: float = 0.995
    others: Sequence[dict[str, Any]] = ()  # hands beside it
    presence: float | None = 0.995
    proposal_score: float = 0.95
    proposal: Box | None = None  # None: the middle of the hand
    landmarks: Box | None = None  # box to spread the landmarks over; None: the middle of the hand
    pose: str | None = None  # the class whose pose it is; None: its own
    crop_hash: bytes | None = None  # None: its own
    size: tuple[int, int] = (640, 480)

    @property
    def path(self) -> str:
        return f"{self.video}/{self.number:04}.jpg"

    def make_row(self) -> dict[str, Any]:
        """Make its row of the detections table."""
        found = [] if self.hand is None else [make_detection(self.hand, "mediapipe", "near", self.score), *self.others]
        row = make_detection_row(self.path, [] if self.face is None else [self.face], found, self.size)
        if self.hand is not None:
            for name, value in zip(PER_HAND, self._list_properties(), strict=True):
                row[name][0] = value
        return row

    def _list_properties(self) -> tuple[Any, ...]:
        assert self.hand is not None
        middle = shrink_box(self.hand)
        proposal = dict(zip(CORNERS, self.proposal or middle, strict=True)) | {"score": self.proposal_score}
        points = make_landmarks(self.pose or self.class_name, self.number, self.landmarks or middle)
        noise = np.random.default_rng([self.number, *self.video.encode()])
        return points, self.presence, 0.9, proposal, self.crop_hash or noise.bytes(32)


def shrink_box(box: Box) -> Box:
    """Return the box with a tenth less on each side."""
    x1, y1, x2, y2 = box
    x, y = (x2 - x1) / 10, (y2 - y1) / 10
    return x1 + x, y1 + y, x2 - x, y2 - y


def make_landmarks(pose: str, seed: int, box: Box) -> list[float]:
    """Make landmarks in a box: the same for each pose, but for some noise."""
    points = np.random.default_rng(list(pose.encode())).uniform(0, 1, (LANDMARKS, 2))
    points[:2] = (0, 0), (1, 1)
    points[2:] += np.random.default_rng(seed).normal(0, 0.02, (LANDMARKS - 2, 2))
    corner, far = np.array(box[:2]), np.array(box[2:])
    return np.column_stack([corner + np.clip(points, 0, 1) * (far - corner), np.zeros(LANDMARKS)]).ravel().tolist()


def move_box(box: Box, x: float, y: float = 0) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def make_frames(count: int = 20, **values: Any) -> list[Frame]:
    """Make a video of frames in which a hand moves slowly."""
    return [Frame(number, **values, hand=move_box(HAND, number)) for number in range(count)]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., FinishedRun]:
    """Return a function that makes a run of frames."""
    return lambda frames, **parameters: make_synthetic_run(tmp_path / "run", frames, **parameters)


def make_synthetic_run(folder: Path, frames: Sequence[Frame], **parameters: Any) -> FinishedRun:
    """Make a run whose detections are those of frames."""
    folder.mkdir()
    rows = [(frame.video, frame.number, frame.class_name, frame.path) for frame in frames]
    table = pd.DataFrame(rows, columns=["video_name", "frame_id", "class_name", "frame_path"])
    table.to_csv(folder / "labels.csv", index=False)
    places = {"images": str(folder), "labels": str(folder / "labels.csv"), "output": str(folder / "out")}
    config = load_config(parameters=places | parameters)
    detections = {frame.path: frame.make_row() for frame in frames}

    def run_shards(
        shards: ShardQueue, chosen: Chosen, source: Source, settings: RunConfig
    ) -> Iterator[tuple[Shard, pa.Table | LostShard]]:
        while shards:
            shard = shards.popleft()
            yield shard, make_detections_table(*(detections[path] for path in shard))

    source = ImaginedFolder(str(folder), names=tuple(table["frame_path"]))
    read = frames_csv.read_frames_csv(folder / "labels.csv", source, config.labels)
    selected = frame_table.select_frames(read, config.classes, config.selection.limit)
    detection.detect_frames(selected, source, config, config.data.output, run_shards)
    run = runs.open_run(config.data.output)
    outcomes.pair_run(run, config.pairing)
    return run


def test_reasons_have_weights_and_sentences() -> None:
    assert all(SHOWN < reason.weight < 1 for reason in Reason)
    assert all(re.fullmatch(r"[A-Z].*\.", reason.sentence) for reason in Reason)
    assert len({reason.sentence for reason in Reason}) == len(Reason)


def test_what_nothing_speaks_against_is_not_doubted(make: Callable[..., FinishedRun]) -> None:
    doubt = score_doubt(make(make_frames()))
    assert doubt["doubt"].max() < 0.3
    names = {name for text in doubt["reasons"] for name in text.split(", ") if name}
    assert names <= {"odd_pose"}  # of the frames that differ most from the median pose, by noise


def change(**values: Any) -> Callable[[list[Frame]], None]:
    """Return a function that changes one of the frames."""

    def apply(frames: list[Frame]) -> None:
        frames[CHANGED] = dataclasses.replace(frames[CHANGED], **values)

    return apply


def add_classes(frames: list[Frame]) -> None:
    """Give the second half of the frames another class, in another video."""
    for number in range(len(frames) // 2, len(frames)):
        frames[number] = dataclasses.replace(frames[number], class_name="stop", video="other")


def swap_pose(frames: list[Frame]) -> None:
    add_classes(frames)
    change(pose="stop")(frames)


def swap_duplicate(frames: list[Frame]) -> None:
    add_classes(frames)
    for number in (2, 3, CHANGED):
        frames[number] = dataclasses.replace(frames[number], crop_hash=b"a" * 32)
    change(class_name="stop", pose="ok", video="other")(frames)


SECOND = make_detection(move_box(HAND, -220), "mediapipe", "near", 0.99)
PART = make_detection((427, 127, 440, 227), "hagrid", "near", 0.9)
MOVED = move_box(HAND, CHANGED)
SCENES: dict[Reason, tuple[Callable[[list[Frame]], None], dict[str, Any]]] = {
    Reason.LOW_SCORE: (change(score=0.6, presence=0.6), {}),
    Reason.LOW_PRESENCE: (change(presence=0.4), {}),
    Reason.LOW_PROPOSAL: (change(proposal_score=0.5), {}),
    Reason.CLOSE_SECOND: (change(others=[SECOND]), {}),
    Reason.DETECTORS_DISAGREE: (change(others=[PART]), {}),
    Reason.LANDMARKS_OUTSIDE: (change(landmarks=move_box(MOVED, 60)), {}),
    Reason.ODD_SIZE: (change(hand=(440, 140, 470, 177)), {}),
    Reason.ODD_SHAPE: (change(hand=(407, 147, 527, 207)), {}),
    Reason.ODD_POSE: (change(pose="victory"), {}),
    Reason.ON_FACE: (change(hand=(300, 110, 380, 210)), {}),
    Reason.FAR_FROM_FACE: (change(face=(40, 300, 120, 400)), {"fallback": "frame"}),
    Reason.AT_BORDER: (change(face=(450, 320, 530, 420), hand=(560, 380, 640, 480)), {}),
    Reason.JUMP: (change(hand=move_box(HAND, -230)), {}),
    Reason.GAP: (change(hand=None), {}),
    Reason.MISSING_HERE: (change(hand=None), {}),
    Reason.UNPAIRED_HAND: (change(face=(20, 380, 80, 460)), {}),
    Reason.LONE_LABEL: (change(class_name="stop"), {}),
    Reason.POSE_OF_OTHER_CLASS: (swap_pose, {}),
    Reason.DUPLICATE_OTHER_LABEL: (swap_duplicate, {}),
}


@pytest.mark.parametrize("reason", SCENES)
def test_a_reason_is_seen_in_its_frame(reason: Reason, make: Callable[..., FinishedRun]) -> None:
    frames = make_frames()
    apply, parameters = SCENES[reason]
    apply(frames)
    doubt = score_doubt(make(frames, **parameters)).set_index("frame_path")
    path = frames[CHANGED].path
    assert reason in doubt.loc[path, "reasons"].split(", "), doubt.loc[path]
    assert doubt["doubt"].idxmax() == path, doubt.nlargest(3, "doubt")
    assert doubt[reason].idxmax() == path


def test_every_reason_but_that_of_the_network_has_a_scene() -> None:
    assert {*SCENES, Reason.LABEL_CONTRADICTED} == set(Reason)


def test_a_network_that_sees_another_class(make: Callable[..., FinishedRun]) -> None:
    run = make(make_frames())
    margins = pd.DataFrame({"frame_path": ["video/0007.jpg", "video/0003.jpg", "x"], "margin": [-7.0, np.nan, -9.0]})
    doubt = score_doubt(run, labels=margins)
    assert doubt[Reason.LABEL_CONTRADICTED].to_numpy().nonzero()[0].tolist() == [CHANGED]
    assert doubt.loc[CHANGED, "reasons"].startswith("label_contradicted")
    without = score_doubt(run)
    assert doubt.loc[CHANGED, "doubt"] > without.loc[CHANGED, "doubt"] + 0.4
    assert doubt.drop(CHANGED).equals(without.drop(CHANGED))


def test_the_doubt_is_what_the_reasons_and_weights_give(make: Callable[..., FinishedRun]) -> None:
    frames = make_frames()
    change(score=0.3, presence=0.3, proposal_score=0.4, hand=(20, 140, 50, 170))(frames)
    doubt = score_doubt(make(frames))
    parts = pd.DataFrame({reason.value: reason.weight * doubt[reason] for reason in Reason})
    assert doubt["doubt"].to_numpy() == pytest.approx(1 - (1 - parts).prod(axis=1).to_numpy())
    for row, text in enumerate(doubt["reasons"]):
        own = parts.loc[row]
        names = text.split(", ") if text else []
        assert own[names].is_monotonic_decreasing
        assert set(names) == set(own.index[own >= SHOWN])
    assert doubt.loc[CHANGED, "reasons"].count(",") >= 2


def test_a_gap_is_suggested_a_box_between_its_neighbours(make: Callable[..., FinishedRun]) -> None:
    frames = make_frames()
    for number in (7, 8):
        frames[number] = dataclasses.replace(frames[number], hand=None)
    frames[8] = dataclasses.replace(frames[8], size=(1280, 960))
    doubt = score_doubt(make(frames))
    assert doubt[SUGGESTED].notna().all(axis=1).to_numpy().nonzero()[0].tolist() == [7, 8]
    assert doubt.loc[7, SUGGESTED].to_list() == pytest.approx(move_box(HAND, 7))
    assert doubt.loc[8, SUGGESTED].to_list() == pytest.approx([2 * corner for corner in move_box(HAND, 8)])
    assert doubt.loc[7, Reason.GAP] == 1


def test_gaps_between_unlike_frames_suggest_nothing(make: Callable[..., FinishedRun]) -> None:
    frames = [*make_frames(8), *make_frames(8, video="other"), *make_frames(8, video="mixed")]
    frames[7] = dataclasses.replace(frames[7], hand=None)  # the last of a video
    frames[8] = dataclasses.replace(frames[8], hand=None)  # the first of the next
    for number in range(16, 20):
        frames[number] = dataclasses.replace(frames[number], class_name="stop")
    frames[20] = dataclasses.replace(frames[20], hand=None)  # between two classes
    doubt = score_doubt(make(frames))
    assert not doubt[Reason.GAP].any()
    assert doubt[SUGGESTED].isna().all(axis=None)


@pytest.mark.parametrize("step", [1, 10], ids=["every frame", "every tenth frame"])
def test_numbers_of_frames_that_are_left_out_are_no_jump(step: int, make: Callable[..., FinishedRun]) -> None:
    frames = [dataclasses.replace(frame, number=step * frame.number) for frame in make_frames()]
    lost = [frame for k, frame in enumerate(frames) if k not in range(8, 14)]  # the hand goes on moving
    lost[10] = dataclasses.replace(lost[10], hand=move_box(HAND, -230))
    doubt = score_doubt(make(lost))
    assert doubt[Reason.JUMP].to_numpy().nonzero()[0].tolist() == [10]


def test_photos_of_a_person_do_not_jump(make: Callable[..., FinishedRun]) -> None:
    random = np.random.default_rng(0)
    frames = [
        dataclasses.replace(frame, hand=move_box(HAND, random.uniform(-230, 130), random.uniform(-110, 250)))
        for frame in make_frames(40, video="anna")
    ]
    frames[20] = dataclasses.replace(frames[20], hand=None)
    doubt = score_doubt(make(frames, crop_coefficient=4))
    assert not doubt[[Reason.JUMP, Reason.GAP]].any(axis=None)
    assert "missing_here" in doubt.loc[20, "reasons"]


def test_classes_of_a_mixed_group_are_not_alone(make: Callable[..., FinishedRun]) -> None:
    frames = make_frames(30)
    for number in range(30):
        frames[number] = dataclasses.replace(frames[number], class_name=("ok", "stop", "like")[number % 3])
    assert not score_doubt(make(frames))[Reason.LONE_LABEL].any()


def test_what_a_person_decided_is_doubted_for_a_duplicate_only(make: Callable[..., FinishedRun]) -> None:
    frames = make_frames()
    swap_duplicate(frames)
    frames[CHANGED] = dataclasses.replace(frames[CHANGED], score=0.2, presence=0.2)
    frames[5] = dataclasses.replace(frames[5], score=0.2, presence=0.2)
    frames[6] = dataclasses.replace(frames[6], hand=None)
    run = make(frames)
    before = score_doubt(run)
    log = DecisionLog(run.store, "anna")
    for number in (5, 6, CHANGED):
        frame = frames[number]
        action: Any = "reject" if frame.hand is None else "keep"
        log.append(Decision(format_time(), "anna", action, frame.path, None, frame.hand, frame.class_name))
    outcomes.pair_run(run)
    after = score_doubt(run)
    assert (before.loc[[5, 6, CHANGED], "doubt"] > 0.5).all()
    assert after.loc[[5, 6], "doubt"].tolist() == [0, 0]
    assert after.loc[[5, 6], "reasons"].tolist() == ["", ""]
    assert after.loc[[5, 6], SUGGESTED].isna().all(axis=None)
    assert after.loc[CHANGED, "reasons"] == Reason.DUPLICATE_OTHER_LABEL


def test_frames_that_are_not_wanted_have_no_doubt(make: Callable[..., FinishedRun]) -> None:
    frames = make_frames()
    change(score=0.1, class_name="no_gesture")(frames)
    doubt = score_doubt(make(frames))
    assert doubt["doubt"].isna().to_numpy().nonzero()[0].tolist() == [CHANGED]
    assert doubt.loc[CHANGED, "reasons"] == ""
    assert not doubt.loc[CHANGED, list(Reason)].any()


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Make a run with frames of several reasons."""
    frames = make_frames(16)
    swap_duplicate(frames)
    frames += make_frames(12, video="third")
    frames[20] = dataclasses.replace(frames[20], hand=None)
    frames[22] = dataclasses.replace(frames[22], score=0.4, presence=0.4, others=[SECOND, PART])
    frames[24] = dataclasses.replace(frames[24], hand=move_box(HAND, -230))
    return make_synthetic_run(tmp_path_factory.mktemp("mixed") / "run", frames)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_their_index_change_nothing(seed: int, mixed_run: FinishedRun) -> None:
    samples = mixed_run.outcomes
    shuffled = samples.sample(frac=1, random_state=seed)
    shuffled.index = shuffled.index * 3 + 5
    doubt = score_doubt(mixed_run, shuffled)
    assert doubt.index.equals(shuffled.index)
    own = doubt.set_index("frame_path").loc[samples["frame_path"]].reset_index()
    pd.testing.assert_frame_equal(own, score_doubt(mixed_run, samples), check_exact=False, atol=1e-6)


def test_the_table_has_its_columns(mixed_run: FinishedRun) -> None:
    doubt = score_doubt(mixed_run)
    assert doubt.columns.tolist() == ["frame_path", "doubt", "reasons", *SUGGESTED, *(str(reason) for reason in Reason)]
    assert (doubt.drop(columns=["frame_path", "reasons"]).dtypes == "float64").all()
    assert doubt[["doubt", *Reason]].stack().between(0, 1).all()
    assert doubt.attrs["notes"] == []


def test_a_run_without_a_hand_or_a_face(make: Callable[..., FinishedRun]) -> None:
    doubt = score_doubt(make([Frame(number, face=None, hand=None) for number in range(3)]))
    assert doubt["doubt"].tolist() == [0, 0, 0]
    assert doubt["reasons"].tolist() == [""] * 3


@pytest.mark.parametrize("name", ["default", "cascade", "averaged"])
def test_a_run_of_0_2_is_doubted_by_what_it_stored(name: str) -> None:
    doubt = score_doubt(runs.open_run(FROZEN / name))
    assert doubt["doubt"].notna().any()
    unknown = [Reason.LOW_PRESENCE, Reason.LOW_PROPOSAL, Reason.LANDMARKS_OUTSIDE, Reason.ODD_POSE]
    assert not doubt[[*unknown, Reason.POSE_OF_OTHER_CLASS, Reason.DUPLICATE_OTHER_LABEL]].any(axis=None)


def test_more_pairs_of_duplicates_than_are_compared_are_noted(
    make: Callable[..., FinishedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectime.doubt.duplicates._MOST_PAIRS", 20)
    frames = [dataclasses.replace(frame, crop_hash=b"a" * 32) for frame in make_frames()]
    add_classes(frames)
    (note,) = score_doubt(make(frames)).attrs["notes"]
    assert note.count == 100


@pytest.fixture(scope="module")
def sample_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Open a run on the sample."""
    return copy_run(sample_run, tmp_path_factory.mktemp("sample") / "run")


@pytest.mark.parametrize("seed", range(3))
def test_swapped_labels_of_the_sample_come_first(seed: int, sample_run: FinishedRun) -> None:
    samples = sample_run.outcomes
    rows = np.flatnonzero(samples["hand_x1"].notna())
    swapped = np.random.default_rng(seed).choice(rows, 5, replace=False)
    classes = samples["class_name"].to_numpy(dtype=object, copy=True)
    classes[swapped] = np.where(classes[swapped] == "ok", "stop", "ok")
    doubt = score_doubt(sample_run, samples.assign(class_name=classes))["doubt"]
    assert set(swapped) <= set(doubt.nlargest(10).index)


@pytest.mark.slow
def test_wrong_boxes_of_real_frames_come_first(shared: Path, tmp_path: Path) -> None:
    from detectime.evaluation import evaluate_run
    from detectime.truth import read_truth

    webcam = shared / "frames" / "webcam"
    places = {"images": str(webcam / "TRAIN_DATA"), "labels": str(webcam / "train.csv")}
    weak = {"search_coefficient": 0.7, "crop_coefficient": 0.6, "hand_confidence": 0.1, "fallback": "frame"}
    run = make_run(tmp_path, **places, **weak)
    truth = read_truth(run, str(webcam / "truth.json"))
    assert truth is not None
    frames = evaluate_run(run, truth).frames.set_index("frame_path")
    frames = frames[frames["is_sample"]]
    rows = run.outcomes.set_index("frame_path").loc[frames.index]
    doubt = score_doubt(run).set_index("frame_path").loc[frames.index]
    judged = Judged(~frames["is_correct"].to_numpy(bool), np.zeros(len(frames), np.int64), frames["group"])
    assert judged.wrong.sum() >= 10
    by_score = ranking.compute_auc(judged, 1 - rows["hand_score"].to_numpy())
    assert ranking.compute_auc(judged, doubt["doubt"].to_numpy()) > max(by_score, 0.9)
    assert judged.wrong[np.argsort(-doubt["doubt"].to_numpy())[:10]].mean() >= 0.7


@pytest.mark.large
def test_memory_and_time_stay_small() -> None:
    command = [sys.executable, "-m", "benchmarks.doubting", "50000"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, _, megabytes = (float(cell) for cell in printed.splitlines()[-1].strip("| ").split(" | "))
    assert megabytes < 450
    assert seconds < 20


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=30))
def test_the_auc_equals_that_of_all_pairs(rows: list[tuple[bool, int, int]]) -> None:
    wrong, scores, stratum = (np.array(column) for column in zip(*rows, strict=True))
    judged = Judged(wrong, stratum, pd.Series(range(len(rows))))
    pairs = [
        (a > b) + (a == b) / 2
        for a, is_wrong, s in zip(scores, wrong, stratum, strict=True)
        for b, other, t in zip(scores, wrong, stratum, strict=True)
        if s == t and is_wrong and not other
    ]
    expected = np.mean(pairs) if pairs else np.nan
    assert ranking.compute_auc(judged, scores.astype(float)) == pytest.approx(expected, nan_ok=True)


def test_fitted_weights_find_the_reason_that_tells() -> None:
    random = np.random.default_rng(0)
    wrong = random.random(200) < 0.3
    shares = np.column_stack([random.random(200), np.where(wrong, 0.9, 0.1) + random.normal(0, 0.05, 200)]).clip(0, 1)
    judged = Judged(wrong, np.zeros(200, np.int64), pd.Series(np.arange(200) % 10))
    weights = ranking.fit_weights(judged, shares)
    assert weights[1] > weights[0]
    held = ranking.hold_groups_out(judged, shares, ranking.fit_weights)
    assert ranking.compute_auc(judged, held) > 0.95
    assert ranking.compute_precision(judged, held) == 1

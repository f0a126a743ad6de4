"""Which hand is the sample: the plan's examples, and random tables against a slow loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Box, detections, frame_table, looked_at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectime import pairing
from detectime.config import Pairing
from detectime.schema import DETECTIONS

FACE = (300, 200, 340, 240)  # with 1.5 its square is [260, 160, 380, 280]


def pair_one(faces: list[Box], hands: list[Box], class_name: str = "ok", config: Pairing | None = None) -> pd.Series:
    """Pair a single frame of 640 × 480."""
    table = frame_table([{"frame_path": "a.jpg", "class_name": class_name}])
    return pairing.pair(table, detections(looked_at("a.jpg", faces, hands)), config or Pairing()).iloc[0]


def box_of(sample: pd.Series, what: str) -> list[float]:
    """Take a box out of a row."""
    return [float(sample[f"{what}_{corner}"]) for corner in ("x1", "y1", "x2", "y2")]


@pytest.mark.parametrize(
    ("hand", "bbox"),
    [
        pytest.param((20, 200, 120, 320), [0, 80, 250, 440], id="left"),
        pytest.param((500, 380, 580, 470), [405, 290, 640, 480], id="right and bottom"),
        pytest.param((300, 10, 350, 40), [250, 0, 400, 100], id="top"),
        pytest.param((300.5, 200.25, 310.5, 210.25), [290, 190, 321, 221], id="fractions"),
    ],
)
def test_an_enlarged_class_is_cut_out_in_a_square_clipped_to_the_frame(hand: Box, bbox: list[int]) -> None:
    sample = pair_one([hand], [hand], "mute")
    assert box_of(sample, "bbox") == bbox
    assert box_of(sample, "hand") == list(hand)


def test_another_class_is_cut_out_as_its_hand() -> None:
    sample = pair_one([FACE], [(300.5, 200.25, 310.5, 210.25)])
    assert box_of(sample, "bbox") == [300, 200, 311, 211]


def test_the_largest_overlap_wins() -> None:
    faces = [(0, 0, 20, 20), FACE]
    hands = [(40, 0, 80, 20), (370, 200, 400, 230), (350, 200, 400, 230)]
    sample = pair_one(faces, hands)
    assert sample["outcome"] == "paired"
    assert box_of(sample, "face") == list(FACE)
    assert box_of(sample, "hand") == list(hands[2])
    assert sample["overlap"] == 30 * 30
    assert (sample["faces"], sample["hands"]) == (2, 3)


def test_of_equal_overlaps_the_first_face_then_the_first_hand_wins() -> None:
    left, right = (100, 100, 120, 120), (400, 100, 420, 120)
    assert box_of(pair_one([left, right], [right, left]), "face") == list(left)
    inside = [(305, 205, 315, 215), (320, 220, 330, 230)]
    assert box_of(pair_one([FACE], inside), "hand") == list(inside[0])
    assert box_of(pair_one([FACE], inside[::-1]), "hand") == list(inside[1])


@pytest.mark.parametrize(
    ("hand", "outcome"),
    [
        pytest.param((380, 200, 400, 220), "apart", id="touches the side"),
        pytest.param((380, 280, 400, 300), "apart", id="touches the corner"),
        pytest.param((379.75, 200, 400, 220), "paired", id="reaches in by a quarter pixel"),
    ],
)
def test_touching_is_apart(hand: Box, outcome: str) -> None:
    sample = pair_one([FACE], [hand])
    assert sample["outcome"] == outcome
    assert math.isnan(sample["bbox_x1"]) == (outcome == "apart")


@pytest.mark.parametrize(
    ("faces", "hands", "outcome"),
    [([], [], "no_face"), ([], [FACE], "no_face"), ([FACE], [], "no_hand"), ([FACE], [FACE], "paired")],
    ids=["neither", "a hand alone", "a face alone", "both"],
)
def test_what_is_not_there_is_the_outcome(faces: list[Box], hands: list[Box], outcome: str) -> None:
    sample = pair_one(faces, hands)
    assert (sample["outcome"], sample["faces"], sample["hands"]) == (outcome, len(faces), len(hands))
    assert math.isnan(sample["overlap"]) == (outcome != "paired")


@pytest.mark.parametrize("outcome", ["missing", "unreadable", "failed"])
def test_a_frame_that_could_not_be_looked_at_says_why(outcome: str) -> None:
    sample = pairing.pair(frame_table([{"frame_path": "a"}]), detections(looked_at("a", outcome=outcome)), Pairing())
    assert sample[["outcome", "error"]].to_numpy().tolist() == [[outcome, "a reason"]]


def test_the_square_of_a_face_is_not_clipped() -> None:
    """A face at the border reaches as far as one in the middle; its centre stays where it is."""
    sample = pair_one([(0, 0, 20, 60)], [(95, 0, 110, 20)])  # centre x 10, half side 90
    assert sample["overlap"] == 5 * 20


def test_other_coefficients_pair_the_same_detections_anew() -> None:
    hand = (390, 200, 400, 220)
    assert pair_one([FACE], [hand], "mute")["outcome"] == "apart"
    sample = pair_one([FACE], [hand], "mute", Pairing(crop_coefficient=2.5, crop_hand_coefficient=0.5))
    assert sample["outcome"] == "paired"
    assert box_of(sample, "bbox") == [385, 200, 405, 220]
    sample = pair_one([FACE], [hand], "ok", Pairing(crop_coefficient=2.5, enlarged_classes=("ok",)))
    assert box_of(sample, "bbox") == [365, 180, 425, 240]


def test_what_is_not_wanted_is_left_out_even_if_it_was_looked_at() -> None:
    table = frame_table([{"frame_path": "a.jpg", "wanted": False}, {"frame_path": "new.jpg", "wanted": False}])
    samples = pairing.pair(table, detections(looked_at("a.jpg", [FACE], [FACE])), Pairing())
    assert samples["outcome"].tolist() == ["left_out", "left_out"]
    assert samples["faces"].tolist() == [0, 0]
    assert samples[["error", "width", "overlap", "bbox_x1"]].isna().all(axis=None)


def test_nothing_wanted_and_nothing_looked_at() -> None:
    samples = pairing.pair(frame_table([{"frame_path": "a.jpg", "wanted": False}]), DETECTIONS.empty_table(), Pairing())
    assert samples["outcome"].tolist() == ["left_out"]


def test_a_wanted_frame_that_was_not_looked_at_is_refused() -> None:
    table = frame_table([{"frame_path": "a.jpg"}, {"frame_path": "new.jpg"}])
    with pytest.raises(KeyError, match=r"new\.jpg.*run detection first"):
        pairing.pair(table, detections(looked_at("a.jpg")), Pairing())


def test_the_table_keeps_its_columns_its_index_and_its_attrs() -> None:
    table = frame_table([{"frame_path": "a.jpg", "note": "😀"}]).set_index(pd.Index([7]))
    table.attrs = {"unlisted": 3}
    samples = pairing.pair(table, detections(looked_at("a.jpg")), Pairing())
    pd.testing.assert_frame_equal(samples[table.columns], table)
    assert samples.attrs == {"unlisted": 3}


# Random tables. Corners are whole numbers on a small grid and coefficients halves, so that ties are frequent and every
# number is exact.
WIDTH, HEIGHT = 40, 30
NAN_BOX = [math.nan] * 4


@st.composite
def a_box(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x1, y1, draw(st.integers(x1 + 1, WIDTH)), draw(st.integers(y1 + 1, HEIGHT))


found = st.lists(a_box(), max_size=3)
a_frame = st.fixed_dictionaries(
    {
        "class_name": st.sampled_from(["ok", "mute", "like"]),
        "wanted": st.booleans(),
        "in_table": st.booleans(),
        "outcome": st.sampled_from(["ok", "ok", "ok", "missing", "unreadable", "failed"]),
        "faces": found,
        "hands": found,
    }
)


def slow_pair(frame: dict[str, Any], config: Pairing) -> dict[str, Any]:
    """Do one frame as the plan says it."""
    nothing = {"overlap": math.nan, "face": NAN_BOX, "hand": NAN_BOX, "bbox": NAN_BOX}
    if not frame["wanted"]:
        return nothing | {"outcome": "left_out"}
    if frame["outcome"] != "ok":
        return nothing | {"outcome": frame["outcome"]}
    if not frame["faces"]:
        return nothing | {"outcome": "no_face"}
    if not frame["hands"]:
        return nothing | {"outcome": "no_hand"}
    largest, best = -1.0, None
    for face in frame["faces"]:
        square = square_around(face, config.crop_coefficient)
        for hand in frame["hands"]:
            width = min(square[2], hand[2]) - max(square[0], hand[0])
            height = min(square[3], hand[3]) - max(square[1], hand[1])
            overlap = max(width, 0) * max(height, 0)
            if overlap > largest:
                largest, best = overlap, (face, hand)
    if largest == 0 or best is None:
        return nothing | {"outcome": "apart", "overlap": 0.0}
    face, hand = best
    cut = square_around(hand, config.crop_hand_coefficient) if frame["class_name"] in config.enlarged_classes else hand
    bbox = [
        math.floor(max(cut[0], 0)),
        math.floor(max(cut[1], 0)),
        math.ceil(min(cut[2], WIDTH)),
        math.ceil(min(cut[3], HEIGHT)),
    ]
    return {"outcome": "paired", "overlap": largest, "face": list(face), "hand": list(hand), "bbox": bbox}


def square_around(box: Box, coefficient: float) -> Box:
    """Enlarge one box."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = coefficient * max(box[2] - box[0], box[3] - box[1])
    return x - half, y - half, x + half, y + half


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(a_frame, min_size=1, max_size=8), st.sampled_from([0.5, 1, 1.5]), st.sampled_from([0.5, 1.5]), st.randoms()
)
def test_random_tables_are_paired_as_by_the_plan(
    frames: list[dict[str, Any]], crop: float, crop_hand: float, random: Any
) -> None:
    config = Pairing(crop_coefficient=crop, crop_hand_coefficient=crop_hand)
    for number, frame in enumerate(frames):
        frame["frame_path"] = f"{number}.jpg"
    rows = [
        looked_at(f["frame_path"], f["faces"], f["hands"], (WIDTH, HEIGHT))
        if f["outcome"] == "ok"
        else looked_at(f["frame_path"], outcome=f["outcome"])
        for f in frames
    ]
    random.shuffle(rows)  # detections come in an order of their own, and some are of frames that the table lacks
    frames = [frame for frame in frames if frame["in_table"]] or frames[:1]
    table = frame_table({key: frame[key] for key in ("frame_path", "class_name", "wanted")} for frame in frames)
    middle = len(rows) // 2
    looked = pa.concat_tables([detections(*rows[:middle]), detections(*rows[middle:])])  # as from two shards

    samples = pairing.pair(table, looked, config)

    expected = [slow_pair(frame, config) for frame in frames]
    assert samples["frame_path"].tolist() == [frame["frame_path"] for frame in frames]
    assert samples["outcome"].tolist() == [row["outcome"] for row in expected]
    np.testing.assert_array_equal(samples["overlap"], [row["overlap"] for row in expected])
    for what in ("face", "hand", "bbox"):
        np.testing.assert_array_equal(pairing.boxes_of(samples, what), [row[what] for row in expected], err_msg=what)

    bbox = pairing.boxes_of(samples, "bbox")[samples["outcome"] == "paired"]
    assert (bbox == np.round(bbox)).all()
    assert ((bbox[:, :2] >= 0) & (bbox[:, :2] < bbox[:, 2:]) & (bbox[:, 2:] <= (WIDTH, HEIGHT))).all()
    counts = pairing.count_outcomes(samples)
    assert counts.loc["all", "frames"] == len(table) == counts.drop(columns="frames").loc["all"].sum()
    for class_name, count in table["class_name"].value_counts().items():
        assert counts.loc[str(class_name), "frames"] == count
    assert set(counts.columns) == {"frames", *samples["outcome"]} <= {"frames", *pairing.OUTCOMES}

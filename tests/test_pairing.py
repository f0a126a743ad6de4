"""Which hand becomes the sample: examples, and random tables against a slow reference implementation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Box, make_detection, make_detection_row, make_detections_table, make_frame_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectime import pairing
from detectime.candidates import find_candidates
from detectime.config import PairingConfig
from detectime.schema import DETECTIONS, SAMPLES, Outcome

FACE = (300, 200, 340, 240)  # with 1.5 its square is [260, 160, 380, 280]


def pair_one(
    faces: list[Box], hands: Sequence[Box | dict[str, Any]], class_name: str = "ok", config: PairingConfig | None = None
) -> pd.Series:
    """Pair a single frame of 640 × 480."""
    table = make_frame_table([{"frame_path": "a.jpg", "class_name": class_name}])
    return pairing.pair_frames(
        table, make_detections_table(make_detection_row("a.jpg", faces, hands)), config or PairingConfig()
    ).iloc[0]


def get_box(sample: pd.Series, what: str) -> list[float]:
    """Return a box of a row."""
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
def test_the_crop_of_an_enlarged_class_is_a_square_clipped_to_the_frame(hand: Box, bbox: list[int]) -> None:
    sample = pair_one([hand], [hand], "mute")
    assert get_box(sample, "bbox") == bbox
    assert get_box(sample, "hand") == list(hand)


def test_the_crop_of_another_class_is_its_hand() -> None:
    sample = pair_one([FACE], [(300.5, 200.25, 310.5, 210.25)])
    assert get_box(sample, "bbox") == [300, 200, 311, 211]


def test_the_largest_overlap_wins() -> None:
    faces = [(0, 0, 20, 20), FACE]
    hands = [(40, 0, 80, 20), (370, 200, 400, 230), (350, 200, 400, 230)]
    sample = pair_one(faces, hands)
    assert sample["outcome"] == "paired"
    assert get_box(sample, "face") == list(FACE)
    assert get_box(sample, "hand") == list(hands[2])
    assert sample["overlap"] == 30 * 30
    assert (sample["faces"], sample["hands"]) == (2, 3)


def test_ties_go_to_the_first_face_then_to_the_first_hand() -> None:
    left, right = (100, 100, 120, 120), (400, 100, 420, 120)
    assert get_box(pair_one([left, right], [right, left]), "face") == list(left)
    inside = [(305, 205, 315, 215), (320, 220, 330, 230)]
    assert get_box(pair_one([FACE], inside), "hand") == list(inside[0])
    assert get_box(pair_one([FACE], inside[::-1]), "hand") == list(inside[1])


@pytest.mark.parametrize(
    ("hand", "outcome"),
    [
        pytest.param((380, 200, 400, 220), "apart", id="touches the side"),
        pytest.param((380, 280, 400, 300), "apart", id="touches the corner"),
        pytest.param((379.75, 200, 400, 220), "paired", id="overlaps by a quarter pixel"),
    ],
)
def test_boxes_that_only_touch_are_apart(hand: Box, outcome: str) -> None:
    sample = pair_one([FACE], [hand])
    assert sample["outcome"] == outcome
    assert math.isnan(sample["bbox_x1"]) == (outcome == "apart")


@pytest.mark.parametrize(
    ("faces", "hands", "outcome"),
    [([], [], "no_face"), ([], [FACE], "no_face"), ([FACE], [], "no_hand"), ([FACE], [FACE], "paired")],
    ids=["neither", "a hand alone", "a face alone", "both"],
)
def test_the_outcome_names_what_is_absent(faces: list[Box], hands: list[Box], outcome: str) -> None:
    sample = pair_one(faces, hands)
    assert (sample["outcome"], sample["faces"], sample["hands"]) == (outcome, len(faces), len(hands))
    assert math.isnan(sample["overlap"]) == (outcome != "paired")


@pytest.mark.parametrize("outcome", ["missing", "unreadable", "failed"])
def test_the_outcome_of_a_failed_detection_is_kept_with_its_reason(outcome: str) -> None:
    sample = pairing.pair_frames(
        make_frame_table([{"frame_path": "a"}]),
        make_detections_table(make_detection_row("a", outcome=outcome)),
        PairingConfig(),
    )
    assert sample[["outcome", "error"]].to_numpy().tolist() == [[outcome, "a reason"]]


def test_the_square_of_a_face_is_not_clipped() -> None:
    """The square of a face at the border is as large as any other, and its centre is that of the face."""
    sample = pair_one([(0, 0, 20, 60)], [(95, 0, 110, 20)])  # centre x 10, half side 90
    assert sample["overlap"] == 5 * 20


def test_other_coefficients_apply_to_the_same_detections() -> None:
    hand = (390, 200, 400, 220)
    assert pair_one([FACE], [hand], "mute")["outcome"] == "apart"
    sample = pair_one([FACE], [hand], "mute", PairingConfig(crop_coefficient=2.5, crop_hand_coefficient=0.5))
    assert sample["outcome"] == "paired"
    assert get_box(sample, "bbox") == [385, 200, 405, 220]
    sample = pair_one([FACE], [hand], "ok", PairingConfig(crop_coefficient=2.5, enlarged_classes=("ok",)))
    assert get_box(sample, "bbox") == [365, 180, 425, 240]


NEAR, OTHER, FAR = (350, 200, 370, 220), (270, 200, 290, 220), (390, 200, 400, 220)
"""Two hands that overlap the square around `FACE`, and one that overlaps only a wider square."""


@pytest.mark.parametrize(
    ("hands", "hand", "found_by"),
    [
        pytest.param([("mediapipe", NEAR), ("hagrid", (375, 200, 385, 210))], (375, 200, 385, 210), "hagrid", id="two"),
        pytest.param([("mask_rcnn", NEAR), ("mediapipe", OTHER)], OTHER, "mediapipe", id="two others"),
        pytest.param([("zeta", NEAR), ("alpha", OTHER)], OTHER, "alpha", id="unlisted, by name"),
        pytest.param([("hagrid", FAR), ("mediapipe", NEAR)], NEAR, "mediapipe", id="the most trusted is far"),
        pytest.param(
            [("mediapipe", (350, 200, 370, 224)), ("hagrid", NEAR)],
            (350, 200, 370, 222),
            "hagrid+mediapipe",
            id="two agree",
        ),
        pytest.param(
            [
                ("hagrid", NEAR),
                ("mediapipe", OTHER),
                ("zeta", (350, 200, 370, 224)),
                ("mask_rcnn", (353, 200, 373, 220)),
            ],
            (351, 200, 371, 221 + 1 / 3),
            "hagrid+mask_rcnn+zeta",
            id="three of four agree",
        ),
        pytest.param(
            [("hagrid", NEAR), ("mediapipe", (350, 200, 370, 226)), ("mediapipe", (350, 200, 370, 224))],
            (350, 200, 370, 222),
            "hagrid+mediapipe",
            id="the best agreement",
        ),
        pytest.param(
            [("hagrid", NEAR), ("hagrid", (350, 200, 370, 222))], (350, 200, 370, 222), "hagrid", id="a single detector"
        ),
        pytest.param(
            [("hagrid", NEAR), ("mediapipe", (350, 200, 370, 240))],
            NEAR,
            "hagrid",
            id="an IoU of one half does not agree",
        ),
    ],
)
def test_the_most_trusted_detector_wins_and_those_that_agree_are_averaged(
    hands: list[tuple[str, Box]], hand: Box, found_by: str
) -> None:
    sample = pair_one([FACE], [make_detection(box, name) for name, box in hands], config=PairingConfig(rule="2021"))
    assert get_box(sample, "hand") == pytest.approx(hand)
    assert (sample["outcome"], sample["found_by"]) == ("paired", found_by)


@pytest.mark.parametrize(
    ("hands", "hand", "found_by"),
    [
        pytest.param([("hagrid", (375, 200, 385, 210), 1), ("zeta", NEAR, 1)], NEAR, "zeta", id="the larger overlap"),
        pytest.param(
            [("hagrid", NEAR, 0.25), ("zeta", (375, 200, 385, 215), 1)], (375, 200, 385, 215), "zeta", id="sure"
        ),
        pytest.param([("zeta", NEAR, 0.25), ("zeta", (375, 200, 385, 215), 1)], (375, 200, 385, 215), "zeta", id="one"),
        pytest.param([("zeta", NEAR, 0), ("hagrid", FAR, 1)], NEAR, "zeta", id="only overlapping hands compete"),
        pytest.param([("zeta", NEAR, 0.5), ("alpha", OTHER, 0.5)], NEAR, "zeta", id="the first of equals"),
        pytest.param(
            [("hagrid", (350, 200, 370, 225), 0.5), ("mediapipe", NEAR, 1)],
            (350, 200, 370, 221),
            "hagrid+mediapipe",
            id="the mean has weights",
        ),
    ],
)
def test_by_confidence_the_overlap_and_the_score_decide(
    hands: list[tuple[str, Box, float]], hand: Box, found_by: str
) -> None:
    found = [make_detection(box, name, score=score) for name, box, score in hands]
    sample = pair_one([FACE], found, config=PairingConfig(rule="confidence"))
    assert get_box(sample, "hand") == pytest.approx(hand)
    assert (sample["outcome"], sample["found_by"]) == ("paired", found_by)


@pytest.mark.parametrize(
    ("faces", "hands", "outcomes"),
    [
        pytest.param([FACE], [(NEAR, "near")], ["paired", "paired", "paired"], id="near"),
        pytest.param([FACE], [(FAR, "near")], ["apart", "wider", "wider"], id="farther"),
        pytest.param([FACE], [(FAR, "fallback")], ["no_hand", "no_hand", "frame"], id="in the whole frame"),
        pytest.param([FACE], [((500, 0, 510, 9), "fallback")], ["no_hand", "no_hand", "alone"], id="far away"),
        pytest.param(
            [FACE], [((500, 0, 510, 9), "near")], ["apart", "apart", "alone"], id="far away, in the first pass"
        ),
        pytest.param([], [(NEAR, "fallback")], ["no_face", "no_face", "alone"], id="no face"),
        pytest.param([], [], ["no_face", "no_face", "no_face"], id="nothing"),
        pytest.param([FACE], [], ["no_hand", "no_hand", "no_hand"], id="no hand"),
        pytest.param([FACE], [(FAR, "near"), (NEAR, "fallback")], ["apart", "wider", "wider"], id="wider goes first"),
    ],
)
def test_a_fallback_fills_frames_without_a_pair(
    faces: list[Box], hands: list[tuple[Box, str]], outcomes: list[str]
) -> None:
    found = [make_detection(box, stage=stage) for box, stage in hands]
    for fallback, outcome in zip(("none", "wider", "frame"), outcomes, strict=True):
        sample = pair_one(faces, found, "ok", PairingConfig(fallback=fallback))
        if outcome in pairing.FALLBACKS:
            assert (sample["outcome"], sample["fallback"], sample["found_by"]) == ("fallback", outcome, "test")
            assert get_box(sample, "bbox") == get_box(sample, "hand") == list(hands[0][0])
            assert math.isnan(sample["face_x1"]) == (outcome == "alone")
        else:
            assert sample["outcome"] == outcome
            assert pd.isna(sample["fallback"])


def test_without_a_face_the_best_score_of_the_most_trusted_detector_wins() -> None:
    scores = [("mediapipe", NEAR, 1.0), ("hagrid", OTHER, 0.5), ("hagrid", FAR, 0.75), ("hagrid", FACE, 0.75)]
    found = [make_detection(box, name, "fallback", score) for name, box, score in scores]
    sample = pair_one([], found, "mute", PairingConfig(fallback="frame", rule="confidence"))
    assert get_box(sample, "hand") == list(NEAR)
    assert (sample["hand_score"], sample["found_by"]) == (1.0, "mediapipe")
    sample = pair_one([], found, "mute", PairingConfig(fallback="frame", rule="2021"))
    assert get_box(sample, "hand") == list(FAR)
    assert get_box(sample, "bbox") == [365, 180, 425, 240]
    assert (sample["hand_score"], sample["found_by"]) == (0.75, "hagrid")
    assert sample[["overlap", "face_score"]].isna().all()
    sample = pair_one(
        [],
        [*found, make_detection((390, 200, 400, 224), "mediapipe", "fallback")],
        "ok",
        PairingConfig(fallback="frame", rule="2021"),
    )
    assert get_box(sample, "hand") == [390, 200, 400, 222]
    assert (sample["hand_score"], sample["found_by"]) == (0.75, "hagrid+mediapipe")


def test_an_unwanted_frame_is_left_out_even_if_it_has_detections() -> None:
    table = make_frame_table([{"frame_path": "a.jpg", "wanted": False}, {"frame_path": "new.jpg", "wanted": False}])
    samples = pairing.pair_frames(
        table, make_detections_table(make_detection_row("a.jpg", [FACE], [FACE])), PairingConfig()
    )
    assert samples["outcome"].tolist() == ["left_out", "left_out"]
    assert samples["faces"].tolist() == [0, 0]
    assert samples[["error", "width", "overlap", "bbox_x1"]].isna().all(axis=None)


def test_nothing_wanted_and_nothing_detected() -> None:
    samples = pairing.pair_frames(
        make_frame_table([{"frame_path": "a.jpg", "wanted": False}]), DETECTIONS.empty_table(), PairingConfig()
    )
    assert samples["outcome"].tolist() == ["left_out"]


def test_a_wanted_frame_without_detections_is_rejected() -> None:
    table = make_frame_table([{"frame_path": "a.jpg"}, {"frame_path": "new.jpg"}])
    with pytest.raises(KeyError, match=r"new\.jpg.*run detection first"):
        pairing.pair_frames(table, make_detections_table(make_detection_row("a.jpg")), PairingConfig())


def test_the_table_keeps_its_columns_its_index_and_its_attrs() -> None:
    table = make_frame_table([{"frame_path": "a.jpg", "note": "😀"}]).set_index(pd.Index([7]))
    table.attrs = {"unlisted": 3}
    samples = pairing.pair_frames(table, make_detections_table(make_detection_row("a.jpg")), PairingConfig())
    pd.testing.assert_frame_equal(samples[table.columns], table)
    assert samples.attrs == {"unlisted": 3}


# Random tables. Corners are integers on a small grid and coefficients are multiples of one half, so ties are frequent
# and every number is exact.
WIDTH, HEIGHT = 40, 30
NAN_BOX = [math.nan] * 4


@st.composite
def a_box(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x1, y1, draw(st.integers(x1 + 1, WIDTH)), draw(st.integers(y1 + 1, HEIGHT))


@st.composite
def some_hands(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw hands of several detectors, many of them nearly equal."""
    boxes, hands = draw(st.lists(a_box(), min_size=1, max_size=2)), []
    for _ in range(draw(st.integers(0, 5))):
        x1, y1, x2, y2 = draw(st.sampled_from(boxes))
        more = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        detector = draw(st.sampled_from(["mediapipe", "hagrid", "another", "mask_rcnn"]))
        stage = draw(st.sampled_from(["near", "frame", "fallback"]))
        hands.append(
            make_detection((x1, y1, x2 + more[0], y2 + more[1]), detector, stage, draw(st.sampled_from([0.5, 0.75])))
        )
    return hands


a_frame = st.fixed_dictionaries(
    {
        "class_name": st.sampled_from(["ok", "mute", "like"]),
        "wanted": st.sampled_from([True, True, False]),
        "in_table": st.sampled_from([True, True, False]),
        "outcome": st.sampled_from(["ok", "ok", "ok", "ok", "missing", "unreadable", "failed"]),
        "faces": st.lists(a_box(), max_size=2),
        "hands": some_hands(),
    }
)
some_frames = st.lists(a_frame, min_size=1, max_size=8)
a_config = st.builds(
    PairingConfig,
    rule=st.sampled_from(["confidence", "2021"]),
    crop_coefficient=st.sampled_from([0.5, 1, 1.5]),
    crop_hand_coefficient=st.sampled_from([0.5, 1.5]),
    fallback=st.sampled_from(["none", "wider", "frame"]),
    wider_coefficient=st.sampled_from([0.5, 1, 2.5]),
)


def slow_pair(frame: dict[str, Any], config: PairingConfig) -> dict[str, Any]:
    """Pair one frame by the rule, without arrays."""
    row = {"hands": 0, "overlap": math.nan, "face": NAN_BOX, "hand": NAN_BOX, "bbox": NAN_BOX}
    row |= {"fallback": None, "found_by": None, "hand_score": math.nan, "other_hand": False}
    if not frame["wanted"]:
        return row | {"outcome": "left_out"}
    if frame["outcome"] != "ok":
        return row | {"outcome": frame["outcome"]}
    every, near = frame["hands"], [hand for hand in frame["hands"] if hand["stage"] != "fallback"]
    row["hands"] = len(every if config.fallback == "frame" else near)
    steps = [
        (None, config.crop_coefficient, near, ("none", "wider", "frame")),
        ("wider", config.wider_coefficient, near, ("wider", "frame")),
        ("frame", config.wider_coefficient, every, ("frame",)),
    ]
    chosen = None
    for kind, coefficient, considered, when in steps:
        if config.fallback not in when:
            break
        if frame["faces"] and considered:
            row["overlap"] = 0.0
        face, hand, largest = slow_best_pair(frame["faces"], considered, coefficient, config.rule)
        if hand is not None:
            row |= {"face": list(face), "overlap": largest, "fallback": kind}
            chosen = hand
            break
    if chosen is None and config.fallback == "frame" and every:
        by_trust = config.rule == "2021"
        chosen = min(every, key=lambda hand: (get_trust(hand["detector"]) if by_trust else (), -hand["score"]))
        row["fallback"] = "alone"
    if chosen is None:
        return row | {"outcome": "no_face" if not frame["faces"] else "apart" if row["hands"] else "no_hand"}
    averaged = [chosen]
    for detector in {hand["detector"] for hand in every} - {chosen["detector"]}:
        others = [hand for hand in considered if hand["detector"] == detector]
        best = max(others, key=lambda hand: slow_iou(chosen, hand), default=None)
        if best is not None and slow_iou(chosen, best) > 0.5:
            averaged.append(best)
    row["found_by"] = "+".join(sorted((hand["detector"] for hand in averaged), key=get_trust))
    hand = tuple(slow_mean(chosen, averaged, key, config.rule) for key in ("x1", "y1", "x2", "y2"))
    cut = make_square(hand, config.crop_hand_coefficient) if frame["class_name"] in config.enlarged_classes else hand
    bbox = [
        math.floor(max(cut[0], 0)),
        math.floor(max(cut[1], 0)),
        math.ceil(min(cut[2], WIDTH)),
        math.ceil(min(cut[3], HEIGHT)),
    ]
    others = [other for other in near if other["score"] >= 0.5 and not slow_contains(chosen, other)]
    others = [hand for hand in others if slow_best_pair(frame["faces"], [hand], config.crop_coefficient, "2021")[1]]
    row |= {"hand": list(hand), "bbox": bbox, "hand_score": chosen["score"], "other_hand": bool(others)}
    return row | {"outcome": "fallback" if row["fallback"] else "paired"}


def slow_mean(chosen: dict[str, Any], averaged: list[dict[str, Any]], key: str, rule: str) -> float:
    """Average a corner, weighted by the square of the score relative to the chosen hand's."""
    if rule == "2021":
        return float(sum(hand[key] for hand in averaged) / len(averaged))
    others = sorted(averaged[1:], key=lambda hand: get_trust(hand["detector"]))
    weights = [hand["score"] ** 2 / chosen["score"] ** 2 for hand in others]
    shift = sum(weight * (hand[key] - chosen[key]) for weight, hand in zip(weights, others, strict=True))
    return float(chosen[key] + shift / sum(weights, start=1.0))


def slow_best_pair(
    faces: list[Box], hands: list[dict[str, Any]], coefficient: float, rule: str
) -> tuple[Any, Any, float]:
    """Find the best pair: by confidence, or of the most trusted detector that has one; and its overlap."""
    best, largest, by, value = (None, None), 0.0, (math.inf, ""), 0.0
    for face in faces:
        square = make_square(face, coefficient)
        for hand in hands:
            overlap, own = slow_overlap(square, hand), get_trust(hand["detector"]) if rule == "2021" else (0.0, "")
            worth = overlap * (1 if rule == "2021" else hand["score"] ** 2)
            if overlap > 0 and (own < by or (own == by and worth > value)):
                best, largest, by, value = (face, hand), overlap, own, worth
    return *best, largest


def slow_contains(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether more than half of the smaller hand lies in the other."""
    areas = [(hand["x2"] - hand["x1"]) * (hand["y2"] - hand["y1"]) for hand in (a, b)]
    return slow_overlap((a["x1"], a["y1"], a["x2"], a["y2"]), b) > 0.5 * min(areas)


def slow_overlap(square: Box, hand: dict[str, Any]) -> float:
    """Compute the area common to a square and a hand."""
    width = min(square[2], hand["x2"]) - max(square[0], hand["x1"])
    height = min(square[3], hand["y2"]) - max(square[1], hand["y1"])
    return max(width, 0) * max(height, 0)


def slow_iou(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Compute the intersection over union of two detections."""
    width = min(a["x2"], b["x2"]) - max(a["x1"], b["x1"])
    height = min(a["y2"], b["y2"]) - max(a["y1"], b["y1"])
    common = max(width, 0) * max(height, 0)
    areas = sum((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (a, b))
    return common / (areas - common)


def get_trust(detector: str) -> tuple[float, str]:
    """Return the sort key of a detector, the most trusted first."""
    return {"hagrid": 0, "mediapipe": 1, "mask_rcnn": 2}.get(detector, 3), detector


def make_rows(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make the rows of detections of drawn frames."""
    for number, frame in enumerate(frames):
        frame["frame_path"] = f"{number}.jpg"
    return [
        make_detection_row(f["frame_path"], f["faces"], f["hands"], (WIDTH, HEIGHT))
        if f["outcome"] == "ok"
        else make_detection_row(f["frame_path"], outcome=f["outcome"])
        for f in frames
    ]


def make_square(box: Box, coefficient: float) -> Box:
    """Return the context square of a box."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = coefficient * max(box[2] - box[0], box[3] - box[1])
    return x - half, y - half, x + half, y + half


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(some_frames, a_config, st.randoms())
def test_random_tables_are_paired_by_the_rule(frames: list[dict[str, Any]], config: PairingConfig, random: Any) -> None:
    rows = make_rows(frames)
    random.shuffle(rows)  # detections may be in any order, and include frames that the table lacks
    frames = [frame for frame in frames if frame["in_table"]] or frames[:1]
    table = make_frame_table({key: frame[key] for key in ("frame_path", "class_name", "wanted")} for frame in frames)
    middle = len(rows) // 2
    detections = pa.concat_tables(
        [make_detections_table(*rows[:middle]), make_detections_table(*rows[middle:])]
    )  # as from two shards

    samples = pairing.pair_frames(table, detections, config)

    expected = [slow_pair(frame, config) for frame in frames]
    assert samples["frame_path"].tolist() == [frame["frame_path"] for frame in frames]
    assert samples["outcome"].tolist() == [row["outcome"] for row in expected]
    np.testing.assert_array_equal(samples["overlap"], [row["overlap"] for row in expected])
    np.testing.assert_array_equal(samples["hand_score"], [row["hand_score"] for row in expected])
    for what in ("hands", "other_hand"):
        assert samples[what].tolist() == [row[what] for row in expected]
    for what in ("fallback", "found_by"):
        assert [None if pd.isna(name) else name for name in samples[what]] == [row[what] for row in expected]
    for what in ("face", "hand", "bbox"):
        np.testing.assert_array_equal(pairing.get_boxes(samples, what), [row[what] for row in expected], err_msg=what)

    bbox = pairing.get_boxes(samples, "bbox")[samples["outcome"].isin(SAMPLES)]
    assert (bbox == np.round(bbox)).all()
    assert ((bbox[:, :2] >= 0) & (bbox[:, :2] < bbox[:, 2:]) & (bbox[:, 2:] <= (WIDTH, HEIGHT))).all()
    counts = pairing.count_outcomes(samples)
    assert counts.loc["all", "frames"] == len(table) == counts.drop(columns="frames").loc["all"].sum()
    for class_name, count in table["class_name"].value_counts().items():
        assert counts.loc[str(class_name), "frames"] == count
    assert set(counts.columns) == {"frames", *samples["outcome"]} <= {"frames", *(outcome.value for outcome in Outcome)}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=30)
@given(some_frames, a_config.filter(lambda config: config.fallback != "frame"))
def test_hands_of_whole_frames_count_only_with_the_fallback_frame(
    frames: list[dict[str, Any]], config: PairingConfig
) -> None:
    detections = make_rows(frames)
    near = [row | {"hands": [hand for hand in row["hands"] if hand["stage"] != "fallback"]} for row in detections]
    table = make_frame_table({key: frame[key] for key in ("frame_path", "class_name", "wanted")} for frame in frames)
    pd.testing.assert_frame_equal(
        pairing.pair_frames(table, make_detections_table(*detections), config),
        pairing.pair_frames(table, make_detections_table(*near), config),
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(
    some_frames,
    a_config,
    st.sampled_from([None, 0.5, 0.75, 0.9]),
    st.sampled_from([None, 0.5, 0.75, 0.9]),
    st.randoms(),
)
def test_minimum_scores_equal_a_detection_that_kept_no_others(
    frames: list[dict[str, Any]], config: PairingConfig, face: float | None, hand: float | None, random: Any
) -> None:
    rows = make_rows(frames)
    for row in rows:
        for box in (*row["faces"], *row["hands"]):
            box["score"] = random.choice([0.5, 0.7, 0.75, 0.8, 0.9, 1.0])
    kept = [
        row
        | {"faces": [box for box in row["faces"] if box["score"] >= (face or 0)]}
        | {"hands": [box for box in row["hands"] if box["score"] >= (hand or 0)]}
        for row in rows
    ]
    table = make_frame_table({key: frame[key] for key in ("frame_path", "class_name", "wanted")} for frame in frames)
    least = dataclasses.replace(config, min_face_score=face, min_hand_score=hand)
    pd.testing.assert_frame_equal(
        pairing.pair_frames(table, make_detections_table(*rows), least),
        pairing.pair_frames(table, make_detections_table(*kept), config),
        check_dtype=False,  # of `found_by`, where no hand is left
    )


def test_the_steps_of_the_rule_work_alone() -> None:
    rows = [
        make_detection_row("a", [FACE], [NEAR, FAR]),
        make_detection_row("b"),
        make_detection_row("c", [FACE, FACE], [OTHER]),
    ]
    candidates = find_candidates(make_detections_table(*rows))
    assert candidates.face.tolist() == [0, 0, 1, 2]
    assert candidates.hand.tolist() == [0, 1, 2, 2]
    assert candidates.frame.tolist() == [0, 0, 2, 2]
    overlap = pairing.score_candidates(candidates, 1.5)
    assert (overlap > 0).tolist() == [True, False, True, True]
    # Of equals, that of the first face.
    assert pairing.choose_candidates(candidates, overlap, "2021").tolist() == [0, -1, 2]
    hand = np.array([0, -1, 2])
    corners, finders = pairing.reconcile_hands(candidates.hands, hand, np.ones(3, bool), "2021")
    assert corners[[0, 2]].tolist() == [list(NEAR), list(OTHER)]
    assert finders.tolist() == [1, 0, 1]
    found = pairing.pair_candidates(candidates, PairingConfig())
    assert found.hand.tolist() == hand.tolist()
    assert found.square[0].tolist() == list(make_square(FACE, 1.5))


@pytest.mark.parametrize(
    ("box", "score", "is_other"),
    [
        pytest.param((350, 200, 375, 240), 0.9, True, id="beside"),
        pytest.param((350, 200, 375, 240), 0.5, True, id="beside, just confident"),
        pytest.param((350, 200, 375, 240), 0.4, False, id="beside, not confident"),
        pytest.param((305, 205, 315, 220), 0.9, False, id="a part of the chosen hand"),
        pytest.param((320, 220, 340, 300), 0.9, True, id="a quarter of it in the chosen hand"),
        pytest.param((320, 220, 340, 250), 0.9, False, id="two thirds of it in the chosen hand"),
        pytest.param((560, 200, 600, 240), 0.9, False, id="far from the face"),
    ],
)
def test_another_hand_is_a_confident_one_of_its_own_near_a_face(box: Box, score: float, is_other: bool) -> None:
    chosen = make_detection((300, 200, 340, 240), score=0.95)
    sample = pair_one([FACE], [chosen, make_detection(box, score=score)])
    assert get_box(sample, "hand") == [300, 200, 340, 240]
    assert sample["other_hand"] == is_other


def test_the_square_of_the_chosen_face_is_in_the_row() -> None:
    by_rule = pair_one([FACE], [NEAR])
    wider = pair_one([FACE], [FAR], config=PairingConfig(fallback="wider"))
    assert get_box(by_rule, "square") == list(make_square(FACE, 1.5))
    assert get_box(wider, "square") == list(make_square(FACE, 2.5))
    assert np.isnan(pair_one([FACE], [FAR])["square_x1"])

"""Cards of frames: which frames are chosen, their pictures within a budget, and frames that cannot be shown."""

from __future__ import annotations

import base64
import io
import shutil
import time
from pathlib import Path

import faults
import numpy as np
import pandas as pd
import pytest
from finished_runs import make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectime.paths import SAMPLE
from detectime.report import thumbnails
from detectime.report.cards import CardBox, Gallery, GalleryRequest, list_kinds, make_galleries, make_strip
from detectime.report.thumbnails import Cut, ThumbnailTask, encode_thumbnail, make_thumbnails
from detectime.report.varied_frames import choose_varied, pool_frames
from detectime.runs import FinishedRun, open_run
from detectime.schema import SAMPLES

ROOM = 10_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(SAMPLE / "TRAIN_DATA", folder / "frames")
    return make_run(folder / "out", images=str(folder / "frames"))


@pytest.fixture(scope="module")
def samples(run: FinishedRun) -> pd.DataFrame:
    return run.outcomes


def select(samples: pd.DataFrame, name: str) -> pd.DataFrame:
    return samples[(samples["class_name"] == name) & samples["outcome"].isin(SAMPLES)]


def request(rows: pd.DataFrame, key: str = "ok", **values: object) -> GalleryRequest:
    return GalleryRequest(key, key, "Frames.", rows, **values)  # type: ignore[arg-type]


def list_pictures(galleries: list[Gallery]) -> list[str]:
    cards = [card for gallery in galleries for card in (*gallery.cards, *gallery.more)]
    return [uri for card in cards for uri in (card.picture, card.crop) if uri]


def read_picture(uri: str | None) -> np.ndarray:
    assert uri is not None
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_a_gallery_shows_frames_that_differ(run: FinishedRun, samples: pd.DataFrame) -> None:
    rows = select(samples, "ok")
    (gallery,) = make_galleries(run, [request(rows, shown=4, more=4)], budget=ROOM)
    assert (gallery.total, len(gallery.cards), len(gallery.more)) == (len(rows), 4, 4)
    assert gallery.left_out == len(rows) - 8
    paths = [card.frame_path for card in (*gallery.cards, *gallery.more)]
    assert len(set(paths)) == 8
    groups = [path.split("/")[0] for path in paths]
    assert groups[:2] != groups[:1] * 2
    assert {groups.count(group) for group in set(groups)} == {4}


def test_a_card_has_what_a_person_needs(run: FinishedRun, samples: pd.DataFrame) -> None:
    rows = select(samples, "mute").head(1)
    path = rows["frame_path"].iloc[0]
    own = CardBox("truth", (1.0, 2.0, 3.0, 4.0), "mute")
    asked = request(rows, lines={path: ["doubt .7"]}, boxes={path: [own]})
    ((card,),) = [gallery.cards for gallery in make_galleries(run, [asked], budget=ROOM)]
    assert card.title == "mute"
    assert card.lines[0].startswith("paired: hand ")
    assert card.lines[1] == "doubt .7"
    assert card.alt.startswith("mute, paired: mute_0")
    assert card.fault is None
    assert [box.kind for box in card.boxes] == ["square", "face", "bbox", "hand", "truth"]
    assert card.boxes[-1] == own
    hand = rows[["hand_x1", "hand_y1", "hand_x2", "hand_y2"]].to_numpy()[0]
    assert np.allclose(card.boxes[3].corners, hand, atol=0.06)
    frame, crop = read_picture(card.picture), read_picture(card.crop)
    height, width = frame.shape[:2]
    assert width / height == pytest.approx(card.width / card.height, rel=0.02)
    x1, y1, x2, y2 = rows[["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]].to_numpy()[0]
    assert crop.shape[1] / crop.shape[0] == pytest.approx((x2 - x1) / (y2 - y1), rel=0.05)
    scale = width / card.width
    part = frame[round(y1 * scale) : round(y2 * scale), round(x1 * scale) : round(x2 * scale)]
    assert np.abs(part.mean(axis=(0, 1)) - crop.mean(axis=(0, 1))).max() < 6
    assert list(list_kinds(make_galleries(run, [asked], budget=ROOM))) == ["face", "square", "hand", "bbox", "truth"]


def test_a_frame_without_a_sample_has_all_its_boxes(run: FinishedRun, samples: pd.DataFrame) -> None:
    rows = samples[samples["outcome"] == "no_hand"]
    ((first, *_),) = [gallery.cards for gallery in make_galleries(run, [request(rows)], budget=ROOM)]
    assert first.lines == ("no_hand: 1 face, 0 hands",)
    assert first.crop is None
    assert [box.kind for box in first.boxes] == ["square", "face"]


def test_frames_that_are_not_varied_keep_their_order(run: FinishedRun, samples: pd.DataFrame) -> None:
    rows = select(samples, "stop").iloc[::-1]
    (gallery,) = make_galleries(run, [request(rows, varied=False, shown=3, more=0)], budget=ROOM)
    assert [card.frame_path for card in gallery.cards] == rows["frame_path"].head(3).tolist()


@settings(max_examples=12, deadline=None)
@given(budget=st.integers(0, 400_000))
def test_pictures_stay_within_the_budget(run: FinishedRun, samples: pd.DataFrame, budget: int) -> None:
    asked = [request(select(samples, name), key=name) for name in ("ok", "stop", "like")]
    galleries = make_galleries(run, asked, budget=budget)
    assert sum(map(len, list_pictures(galleries))) <= budget
    for gallery in galleries:
        assert gallery.total == len(gallery.cards) + len(gallery.more) + gallery.left_out
    if any(gallery.more for gallery in galleries):  # no card is behind "show more" while one in view is missing
        assert all(len(gallery.cards) == 4 for gallery in galleries)


def test_the_same_frames_give_the_same_cards(run: FinishedRun, samples: pd.DataFrame) -> None:
    asked = [request(select(samples, "ok")), request(samples[samples["outcome"] == "no_hand"], key="no-hand")]
    first, second = (make_galleries(run, asked, budget=200_000) for _ in range(2))
    assert first == second


def test_faces_are_blurred_in_frames_and_crops(run: FinishedRun, samples: pd.DataFrame) -> None:
    rows = select(samples, "mute").head(1)  # its crop holds the face
    plain, blurred = (
        make_galleries(run, [request(rows)], budget=ROOM, blur_faces=blur)[0].cards[0] for blur in (False, True)
    )
    face = next(box.corners for box in plain.boxes if box.kind == "face")
    before, after = read_picture(plain.picture), read_picture(blurred.picture)
    x1, y1, x2, y2 = (round(corner * before.shape[1] / plain.width) for corner in face)
    inside = np.s_[y1:y2, x1:x2]
    assert measure_detail(after[inside]) < measure_detail(before[inside]) / 2
    assert measure_detail(after[:, :x1]) == pytest.approx(measure_detail(before[:, :x1]), rel=0.2)
    corners = rows[["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]].to_numpy()[0]
    assert_face_is_blurred(read_picture(plain.crop), read_picture(blurred.crop), face, corners)
    (sharp,), (strip,) = (make_strip(run, rows, budget=ROOM, blur_faces=blur) for blur in (False, True))
    assert_face_is_blurred(read_picture(sharp.crop), read_picture(strip.crop), face, corners)


def assert_face_is_blurred(sharp: np.ndarray, blurred: np.ndarray, face: tuple[float, ...], crop: np.ndarray) -> None:
    """Check the part of the face that a crop shows."""
    scale = sharp.shape[1] / (crop[2] - crop[0])
    x1, y1, x2, y2 = ((np.array(face) - np.tile(crop[:2], 2)) * scale).round().astype(int).clip(0)
    assert (y2 - y1) * (x2 - x1) > 100
    assert measure_detail(blurred[y1:y2, x1:x2]) < measure_detail(sharp[y1:y2, x1:x2]) * 0.7


def measure_detail(pixels: np.ndarray) -> float:
    """Return how much neighbouring pixels differ."""
    return float(np.abs(np.diff(pixels.astype(float), axis=1)).mean())


def test_frames_that_cannot_be_shown_say_why(run: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(str(run.store), tmp_path / "out")
    frames = tmp_path / "frames"
    shutil.copytree(SAMPLE / "TRAIN_DATA", frames)
    copied = open_run(tmp_path / "out")
    object.__setattr__(copied.config.data, "images", str(frames))
    rows = select(copied.outcomes, "ok").head(4)
    gone, cut, other, fine = (frames / path for path in rows["frame_path"])
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:3000])
    shutil.copy(frames / "stop_01" / "0001.jpg", other)
    (gallery,) = make_galleries(copied, [request(rows, varied=False)], budget=ROOM)
    faults_found = [card.fault for card in gallery.cards]
    assert faults_found[0] == "No such file or directory"
    assert faults_found[1] is not None
    assert faults_found[2] == "the file changed since detection"
    assert faults_found[3] is None
    assert [card.picture is None for card in gallery.cards] == [True, True, True, False]
    assert fine.is_file()
    shutil.rmtree(frames)
    (gallery,) = make_galleries(copied, [request(rows)], budget=ROOM)
    assert all(card.fault for card in gallery.cards)
    assert make_strip(copied, rows, budget=ROOM) == []


@pytest.mark.slow
def test_a_frame_that_kills_or_hangs_its_decoder_costs_itself(
    run: FinishedRun, tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = faults.name_frames(20, die=[3], sleep=[7])
    faults.make_frames(tmp_path / "frames", names)
    monkeypatch.setattr(thumbnails, "_FRAME_TIMEOUT", 2.0)
    monkeypatch.setitem(run.__dict__, "source", faults.FaultyFolder(str(tmp_path / "frames"), str(journal)))
    tasks = [ThumbnailTask(name, None, None, (), (Cut(64, 4000),)) for name in names]
    begun = time.monotonic()
    made = make_thumbnails(run, tasks)
    assert time.monotonic() - begun < 60
    failed = [name for name in names if made[name].fault]
    assert failed == [names[3], names[7]]
    assert all(len(made[name].pictures) == 1 for name in names if name not in failed)


def test_a_strip_has_crops_of_different_classes_and_groups(run: FinishedRun, samples: pd.DataFrame) -> None:
    strip = make_strip(run, samples, most=12, budget=ROOM)
    assert len(strip) == 12
    assert [card.title for card in strip[:6]] == ["stop", "victory", "mute", "ok", "like", "dislike"]
    assert len({card.frame_path.split("/")[0] for card in strip}) == 12
    assert all(card.picture is None and card.crop for card in strip)
    small = make_strip(run, samples, most=12, budget=20_000)
    assert sum(len(card.crop or "") for card in small) <= 20_000
    assert make_strip(run, samples.iloc[:0], budget=ROOM) == []
    assert make_strip(run, samples, budget=0) == []


def test_no_rows_give_an_empty_gallery(run: FinishedRun, samples: pd.DataFrame) -> None:
    (gallery,) = make_galleries(run, [request(samples.iloc[:0])], budget=ROOM)
    assert (gallery.total, gallery.cards, gallery.more, gallery.left_out) == (0, (), (), 0)
    assert make_galleries(run, [], budget=ROOM) == []


@settings(deadline=None)
@given(
    groups=st.lists(st.sampled_from("abcd"), min_size=1, max_size=30),
    count=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_varied_frames_take_groups_in_turn(groups: list[str], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, (len(groups), 4)).astype(np.uint64)
    has_hash = rng.random(len(groups)) < 0.8
    chosen = choose_varied(groups, hashes, has_hash, np.zeros(len(groups), bool), count)
    assert len(chosen) == len(set(chosen)) == min(count, len(groups))
    taken = [groups[position] for position in chosen]
    for group in set(groups):
        if taken.count(group) < groups.count(group):  # it has more to give: no other got two more
            assert max(taken.count(other) for other in set(groups)) <= taken.count(group) + 1


def test_pools_are_bounded_and_cover_the_groups() -> None:
    groups = np.repeat(np.arange(1000), 100)
    pool = pool_frames(groups, 128)
    assert len(pool) <= 256
    assert len(np.unique(groups[pool])) >= 100


@settings(max_examples=20, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), side=st.integers(1, 300))
def test_a_thumbnail_keeps_its_shape_and_is_not_enlarged(width: int, height: int, side: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    made = Image.open(io.BytesIO(encode_thumbnail(pixels, side, 100_000)))
    assert max(made.size) <= max(side, 1)
    assert max(made.size) <= max(width, height)

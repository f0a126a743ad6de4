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
from detectime.report import pages, thumbnails
from detectime.report.card_boxes import BOX_KINDS, DetectedBoxes
from detectime.report.card_sizes import share_budget
from detectime.report.cards import (
    NOT_BLURRED,
    Card,
    CardBox,
    Gallery,
    GalleryRequest,
    list_kinds,
    make_galleries,
    make_strip,
)
from detectime.report.thumbnail_worker import Cut, ThumbnailTask, encode_thumbnail
from detectime.report.thumbnails import make_thumbnails
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


@pytest.mark.parametrize("budget", [0, 28_000, 90_000, 300_000])
def test_pictures_stay_within_the_budget(run: FinishedRun, samples: pd.DataFrame, budget: int) -> None:
    asked = [request(select(samples, name), key=name) for name in ("ok", "stop", "like")]
    galleries = make_galleries(run, asked, budget=budget)
    assert budget / 2 <= sum(map(len, list_pictures(galleries))) <= budget
    for gallery in galleries:
        assert gallery.total == len(gallery.cards) + len(gallery.more) + gallery.left_out


@given(
    wanted=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.integers(0, 12)), max_size=8),
    budget=st.integers(0, 3_000_000),
)
def test_cards_in_view_come_before_those_behind(wanted: list[tuple[int, int, int]], budget: int) -> None:
    totals, shown, more = ([each[position] for each in wanted] for position in range(3))
    shares = share_budget(totals, shown, more, budget)
    in_view, behind = shares.shown.tolist(), shares.more.tolist()
    assert sum(in_view) * shares.in_view.cost + sum(behind) * shares.behind.cost <= budget
    for total, most, most_behind, count, count_behind in zip(totals, shown, more, in_view, behind, strict=True):
        assert count <= min(total, most)
        assert count_behind <= min(total - count, most_behind)
        if any(behind):
            assert count == min(total, most)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), side=st.integers(1, 200), most=st.integers(300, 6000))
def test_any_pixels_fit_the_bytes_of_a_thumbnail(seed: int, side: int, most: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert 0 < len(encode_thumbnail(noise, side, most)) <= most


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


def test_a_source_that_always_fails_is_given_up(
    run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "_MOST_LOSSES", 2)
    names = faults.name_frames(6, **{"raise": range(6)})
    faults.make_frames(tmp_path, names)
    monkeypatch.setitem(run.__dict__, "source", faults.FaultyFolder(str(tmp_path)))
    made = make_thumbnails(run, [ThumbnailTask(name, None, None, (), (Cut(64, 4000),)) for name in names])
    found = [made[name].fault for name in sorted(names)]
    assert found[:2] == ["reading it failed: RuntimeError: the source is broken"] * 2
    assert set(found[2:]) == {"not read, since 2 frames before it failed: RuntimeError: the source is broken"}


def test_a_source_that_no_worker_can_have_is_named_on_each_card(
    run: FinishedRun, samples: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.__dict__, "source", faults.make_unsendable("somewhere"))
    (gallery,) = make_galleries(run, [request(select(samples, "ok"))], budget=ROOM)
    assert len(gallery.cards) == 4
    for card in gallery.cards:
        assert card.fault is not None
        assert card.fault.startswith("UnsendableFolder cannot be sent to a worker")


def test_a_frame_in_two_galleries_is_read_once(
    run: FinishedRun, samples: pd.DataFrame, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = faults.FaultyFolder(run.config.data.images, journal=str(journal), struck=True)
    monkeypatch.setitem(run.__dict__, "source", source)
    rows = select(samples, "ok").head(2)
    asked = [request(rows, key="a"), request(rows, key="b", shown=1)]
    first, second = make_galleries(run, asked, budget=ROOM)
    opened = [path.name for path in journal.iterdir() if not path.name.isdigit()]
    assert sorted(opened) == sorted(path.replace("/", "-") for path in rows["frame_path"])
    in_view = {card.frame_path: card for card in first.cards}
    (same,) = second.cards
    assert same == in_view[same.frame_path]
    (smaller,) = second.more  # its pictures are smaller, and made from the same reading
    assert read_picture(smaller.picture).shape[1] < read_picture(in_view[smaller.frame_path].picture).shape[1]


def test_a_frame_without_detection_is_shown_in_its_own_shape(run: FinishedRun, samples: pd.DataFrame) -> None:
    rows = samples[samples["outcome"] == "left_out"]
    ((card, *_),) = [gallery.cards for gallery in make_galleries(run, [request(rows)], budget=ROOM)]
    assert (card.width, card.height, card.boxes, card.lines) == (640, 480, (), ("left_out",))
    assert read_picture(card.picture).shape == (360, 480, 3)


def test_thousands_of_galleries_get_one_card_each_while_the_budget_lasts(
    run: FinishedRun, samples: pd.DataFrame
) -> None:
    rows = select(samples, "ok").head(3)
    begun = time.monotonic()
    galleries = make_galleries(run, [request(rows, key=str(key)) for key in range(3000)], budget=200_000)
    assert time.monotonic() - begun < 15
    counts = [len(gallery.cards) for gallery in galleries]
    assert counts == sorted(counts, reverse=True)
    assert 10 < sum(counts) == counts.count(1)
    assert all(gallery.left_out == 3 - count for gallery, count in zip(galleries, counts, strict=True))


HOSTILE = "<script>alert(1)</script>\u202e\ud800\"'>&" + "a" * 4000 + "/x.jpg"


def render(template: str, **values: object) -> str:
    imported = '{% import "cards.html" as cards %}'
    return pages._make_environment().from_string(imported + template).render(**values)


def make_card(**values: object) -> Card:
    plain = {"frame_path": "a.jpg", "title": "ok", "lines": (), "alt": "", "width": 64, "height": 48}
    own = {"picture": None, "fault": None, "boxes": (), "crop": None}
    return Card(**(plain | own | values))  # type: ignore[arg-type]


@pytest.mark.parametrize("picture", [None, "data:image/webp;base64,AA=="])
def test_text_from_data_is_escaped(picture: str | None) -> None:
    box = CardBox("other", (1.0, 2.0, 3.5, 4.0), HOSTILE)
    text = {"frame_path": HOSTILE, "title": HOSTILE, "lines": (HOSTILE,), "alt": HOSTILE, "fault": HOSTILE}
    card = make_card(**text, picture=picture, crop=picture, boxes=(box,))
    shown = render("{{ cards.gallery(g) }}", g=Gallery("k", HOSTILE, HOSTILE, 7, (card,), (card,), 5))
    shown.encode()
    assert "<script" not in shown
    assert "\u202e" not in shown
    assert shown.count("<figure") == shown.count("</figure>") == 2
    assert ('x="1" y="2" width="2.5" height="2"' in shown) == (picture is not None)
    assert ("No picture" in shown) == (picture is None)


def test_a_card_works_without_a_script() -> None:
    card = make_card(picture="data:image/webp;base64,AA==", alt="ok, paired: a.jpg")
    shown = render("{{ cards.gallery(g) }}", g=Gallery("k", "ok", "", 6, (card,), (card, card), 3))
    assert shown.count('alt="ok, paired: a.jpg" width="64" height="48" loading="lazy" decoding="async"') == 3
    assert shown.count('aria-label="Enlarge: ok, paired: a.jpg"') == 3
    assert "<summary>Show 2 more</summary>" in shown
    assert "3\xa0frames are not on this page." in shown
    assert "on" not in {name.split("=")[0][:2] for name in shown.split() if "=" in name}  # no event handlers


def test_every_kind_of_box_has_a_look_and_a_name_in_the_legend() -> None:
    styles = (pages.TEMPLATES / "cards.css").read_text()
    shown = render("{{ cards.legend(kinds) }}", kinds=BOX_KINDS)
    for kind, name in BOX_KINDS.items():
        assert f".boxes .{kind} {{" in styles
        assert f'data-kind="{kind}"' in shown
        assert f"</svg>{name}</li>" in shown
    assert render("{{ cards.legend({}) }}").strip() == ""


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


def test_a_frame_without_a_face_is_not_shown_where_faces_are_blurred(
    run: FinishedRun, samples: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = select(samples, "ok").head(2)
    first = rows["frame_path"].iloc[0]
    found = DetectedBoxes.list_faces
    monkeypatch.setattr(
        DetectedBoxes, "list_faces", lambda own, row: () if row["frame_path"] == first else found(own, row)
    )
    (gallery,) = make_galleries(run, [request(rows, varied=False)], budget=ROOM, blur_faces=True)
    assert [card.fault for card in gallery.cards] == [NOT_BLURRED, None]
    assert (gallery.cards[0].picture, gallery.cards[0].crop) == (None, None)

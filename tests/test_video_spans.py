"""What spans of videos count from, and how frames are turned: as players and ffmpeg do it."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from faults import list_notes, make_config
from skips import need_extra
from test_video_damage import need_ffmpeg
from test_videos import HEIGHT, WIDTH, make

from detectime import sources
from detectime.detection import run
from detectime.images import MAX_PIXELS, RGB, DecodedImage, UnreadableImageError
from detectime.labels import frame_table, spans
from detectime.labels.tables import TableError
from detectime.sources.reading import read_images
from detectime.sources.videos import VideoSource
from detectime.storage import run_tables, store

pytestmark = pytest.mark.extra


def make_late(path: Path, pictures: float, sound: float | None) -> Path:
    """A video of 75 frames, 25 a second, whose pictures and sound begin at so many seconds."""
    bare = path.parent / "bare.mp4"
    if not bare.exists():
        need_ffmpeg("-f", "lavfi", "-i", "testsrc=duration=3:rate=25:size=160x120", "-c:v", "libx264", "-bf", 2, bare)
    given: list[Any] = ["-itsoffset", pictures, "-i", bare]
    if sound is not None:
        given += ["-itsoffset", sound, "-f", "lavfi", "-i", "sine=440:duration=6", "-map", "1:a", "-c:a", "aac"]
    need_ffmpeg(*given, "-map", "0:v", "-c:v", "copy", path)
    return path


def read_spans(path: Path, rows: str, span_zero: str | None = None, every: int | str | None = None) -> pd.DataFrame:
    labels = path.parent / "spans.csv"
    labels.write_text(f"file,start,end,class_name\n{rows}")
    zero = {} if span_zero is None else {"span_zero": span_zero}
    config = make_config(images=str(path), labels=str(labels), source="videos", every=every, **zero)
    return frame_table.read_labels(config, sources.open_source(config.data.images, config.data.source_type))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "flv"])
def test_spans_count_from_where_players_begin(suffix: str, tmp_path: Path) -> None:
    path = make_late(tmp_path / f"a.{suffix}", 2, 0)
    table = read_spans(path, f"a.{suffix},3,4,ok\n")
    begin = VideoSource(str(path)).index_file(path.name).offset
    assert begin == pytest.approx(2, abs=0.03)  # some containers add what the sound's coder needs to begin
    times = np.arange(75) / 25 + begin
    assert table["frame_id"].tolist() == np.flatnonzero((times > 2.999) & (times < 3.999)).tolist()
    (note,) = table.attrs["notes"]
    assert (note.kind, note.count, note.example) == ("late_pictures", 1, f"a.{suffix} ({begin:.3f} s)")
    assert note.text.endswith("to count from the first picture, set data.span_zero to `first_picture`")
    assert table.attrs["made_with"] == {"every": None, "span_zero": "player"}
    other = read_spans(path, f"a.{suffix},1,2,ok\n", "first_picture")
    assert other["frame_id"].tolist() == [*range(25, 50)]
    (note,) = other.attrs["notes"]
    assert note.text.endswith("to count from the sound, as players do, set data.span_zero to `player`")


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("Start,End", "1,1.2"),
        ("start_time,end_time", "1.0,1.2"),
        ("From,To", "1,1.2"),
        ("start_ms,end_ms", "1000,1200"),
        ("start_frame,end_frame", "30,36"),
        ("StartFrame,EndFrame", "30.0,36.0"),
    ],
)
def test_columns_of_spans_may_have_other_names(columns: str, values: str, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 60)
    labels = tmp_path / "spans.csv"
    labels.write_text(f"File,{columns},Class,person\na.mp4,{values},ok,ann\n")
    config = make_config(images=str(tmp_path), labels=str(labels), source="videos")
    table = frame_table.read_labels(config, sources.open_source(config.data.images, "videos"))
    assert table["frame_id"].tolist() == [*range(30, 36)]
    assert list(table.columns[:5]) == ["frame_path", "video_name", "frame_id", "class_name", "person"]
    kinds = [note.kind for note in table.attrs["notes"]]
    assert kinds.count("other_spelling") == 2
    assert ("span_unit" in kinds) == ("ms" in columns or "rame" in columns)


def test_spans_in_frames(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 60)
    labels = tmp_path / "spans.csv"
    labels.write_text("file,start_frame,end_frame,class_name\na.mp4,,10,ok\na.mp4,50,,mute\na.mp4,20,99,stop\n")

    def read(every: int | str | None) -> pd.DataFrame:
        config = make_config(images=str(tmp_path), labels=str(labels), source="videos", every=every)
        return frame_table.read_labels(config, VideoSource(str(tmp_path)))

    with pytest.raises(TableError, match="row 2: the span overlaps row 3, which has another class"):
        read(None)
    labels.write_text("file,start_frame,end_frame,class_name\na.mp4,,10,ok\na.mp4,50,,mute\n")
    assert read(None)["frame_id"].tolist() == [*range(10), *range(50, 60)]
    assert read(4)["frame_id"].tolist() == [0, 4, 8, 50, 54, 58]
    assert read("0.2 s")["frame_id"].tolist() == [0, 6, 50, 56]
    labels.write_text("file,start_frame,end_frame,class_name\na.mp4,50,65,ok\na.mp4,70,80,mute\n")
    table = read(None)
    assert table["frame_id"].tolist() == [*range(50, 60)]
    assert {"past_the_end", "no_frame", "span_unit"} <= {note.kind for note in table.attrs["notes"]}
    labels.write_text("file,start_frame,end_frame,class_name\na.mp4,70,80,mute\n")
    with pytest.raises(
        TableError, match=r"no span contains a frame of its video; the first is row 1, a.mp4 70–80, in fr"
    ):
        read(None)
    labels.write_text("file,start_frame,end_frame,class_name\na.mp4,0.5,9,ok\n")
    with pytest.raises(TableError, match="start and end must be whole numbers of frames, or empty"):
        read(None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,strat,end,class_name\na.mp4,0,1,ok\n", "did you mean 'start' by 'strat'"),
        ("file,t0,t1,class_name\na.mp4,0,1,ok\n", "'t0' and 't1' may say when something is"),
        ("file,frame,class_name\na.mp4,3,ok\n", "'frame' may say when something is"),
        (
            "file,x1,x2,class_name\na.mp4,0:01,0:02.5,ok\n",
            "'x1' holds what may be times, such as '0:01'; accepted: start",
        ),
        ("file,where,class_name\na.mp4,[0.5; 1],ok\n", "'where' holds what may be times, such as '[0.5; 1]'"),
        ("file,von,bis,class_name\na.mp4,0,1,ok\n", "'von' and 'bis' may say when something is"),
        ("file,when,class_name\na.mp4,0.5–1.0 s,ok\n", "'when' holds what may be times, such as '0.5–1.0 s'"),
        ("file,when,class_name\na.mp4,PT0.5S,ok\n", "'when' holds what may be times"),
        ('file;meta;class_name\na.mp4;"{""start"": 0.5, ""end"": 1}";ok\n', "'meta' holds what may be times"),
        ("file,alku,loppu,class_name\na.mp4,0.5,1,ok\n", "'alku' and 'loppu' may say where spans start and end"),
        ("video,start,end,class_name\na.mp4,0,1,ok\n", "column file is missing; did you mean 'video'"),
        ("file,start,end,gesture\na.mp4,0,1,ok\n", "column class_name is missing; did you mean 'gesture'"),
        ("file,class_name\na.JPG,ok\n", "the file is an image; list images in a csv with frame_path"),
        (
            "file,start,end,class_name\na.mp4,0:01,0:02,ok\n",
            "start and end must be seconds, such as 12.5 (not 12,5 or 0:12.5), or empty",
        ),
    ],
)
def test_a_csv_of_videos_is_refused_with_the_remedy(text: str, reason: str, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 3)
    labels = tmp_path / "spans.csv"
    labels.write_text(text)
    config = make_config(images=str(tmp_path), labels=str(labels), source="videos")
    with pytest.raises(TableError, match=re.escape(reason)):
        frame_table.read_labels(config, VideoSource(str(tmp_path)))


def test_spans_of_one_video_in_two_spellings_are_compared(tmp_path: Path) -> None:
    make(tmp_path / "clips" / "Zoe\u0308.mp4", 60)
    labels = tmp_path / "spans.csv"
    config = make_config(images=str(tmp_path / "clips"), labels=str(labels), source="videos")

    def read(second: str) -> pd.DataFrame:
        labels.write_text(f"file,start,end,class_name\nZo\u00eb.mp4,0.5,1,stop\nZoe\u0308.mp4,0.7,1.5,{second}\n")
        return frame_table.read_labels(config, VideoSource(config.data.images))

    with pytest.raises(TableError, match="row 2: the span overlaps row 1, which has another class"):
        read("ok")
    table = read("stop")
    assert table["frame_id"].tolist() == [*range(15, 45)]
    assert table["video_name"].nunique() == 1
    assert "same_file" in {note.kind for note in table.attrs["notes"]}


def test_a_single_video_is_found_in_another_spelling(tmp_path: Path) -> None:
    path = make(tmp_path / "clips" / "Zoe\u0308.mp4", 3)
    labels = tmp_path / "spans.csv"
    labels.write_text("file,class_name\n./Zo\u00eb.mp4,ok\n")
    config = make_config(images=str(path), labels=str(labels))
    table = frame_table.read_labels(config, sources.open_source(config.data.images))
    assert table["on_disk"].tolist() == [True] * 3


def test_spans_may_be_durations(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 60)
    times = {"start": pd.to_timedelta([1.0], unit="s"), "end": pd.to_timedelta([1.2], unit="s")}
    rows = pd.DataFrame({"file": ["a.mp4"], **times, "class_name": ["ok"]})
    config = make_config(images=str(tmp_path), labels=str(tmp_path / "spans.parquet"), source="videos")
    assert frame_table.read_labels(config, VideoSource(str(tmp_path)), rows)["frame_id"].tolist() == [*range(30, 36)]
    rows.to_parquet(config.data.labels)
    assert frame_table.read_labels(config, VideoSource(str(tmp_path)))["frame_id"].tolist() == [*range(30, 36)]


def test_empty_times_beside_others_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 3)
    labels = tmp_path / "spans.csv"
    labels.write_text("file,start,end,start_time,end_time,class_name\na.mp4,,,0.5,1,ok\n")
    config = make_config(images=str(tmp_path), labels=str(labels), source="videos")
    with pytest.raises(TableError, match="start and end are empty, but 'start_time', 'end_time' may say when"):
        frame_table.read_labels(config, VideoSource(str(tmp_path)))


def test_rows_of_whole_videos_are_noted_with_the_other_columns(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 3)
    labels = tmp_path / "spans.csv"
    labels.write_text("file,class_name,person,fps\na.mp4,ok,ann,30\n")
    config = make_config(images=str(tmp_path), labels=str(labels), source="videos")
    (note,) = frame_table.read_labels(config, VideoSource(str(tmp_path))).attrs["notes"]
    assert str(note) == "1 row covers a whole video: the csv has no columns start and end, but 'person', 'fps'"


def test_a_csv_of_files_that_are_images_is_told_to_be_one_of_frames(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    labels = tmp_path / "labels.csv"
    labels.write_text("file,class_name\na.jpg,ok\n")
    config = make_config(images=str(tmp_path), labels=str(labels))
    with pytest.raises(TableError, match=r"for images call it frame_path, .*`labels_type: folders`"):
        frame_table.read_labels(config, sources.open_source(config.data.images))
    labels.write_text("file,class_name\na.mp4,ok\n")
    with pytest.raises(TableError, match=r"spans of videos, such as 'a\.mp4'; set data\.source_type to `videos`"):
        frame_table.read_labels(config, sources.open_source(config.data.images))


def test_an_image_that_is_called_a_video_is_none(tmp_path: Path) -> None:
    need_extra("av")
    for suffix in ("jpg", "png", "bmp"):
        path = tmp_path / f"{suffix}.mp4"
        assert cv2.imwrite(str(path.with_suffix(f".{suffix}")), np.zeros((48, 64, 3), np.uint8))
        path.with_suffix(f".{suffix}").rename(path)
        with pytest.raises(UnreadableImageError, match="an image, not a video"):
            VideoSource(str(tmp_path)).index_file(path.name)


def test_videos_are_found_in_another_spelling(tmp_path: Path) -> None:
    make(tmp_path / "clips" / "Zoe\u0308.mp4", 3)
    labels = tmp_path / "spans.csv"
    labels.write_text("file,class_name\nZo\u00eb.mp4,ok\n")
    config = make_config(images=str(tmp_path / "clips"), labels=str(labels), source="videos")
    source = VideoSource(str(tmp_path / "clips"))
    table = frame_table.read_labels(config, source)
    assert table["frame_path"].tolist()[0] == "Zo\u00eb.mp4/000000"
    assert table["on_disk"].all()
    assert "respelled" in {note.kind for note in table.attrs["notes"]}
    assert not any(isinstance(frame, Exception) for _, frame in source.read_frames(table["frame_path"]))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(("pictures", "sound"), [(0, None), (2, None), (0, 1), (1, 1)])
def test_pictures_that_come_first_begin_at_zero(suffix: str, pictures: int, sound: int | None, tmp_path: Path) -> None:
    path = make_late(tmp_path / f"a.{suffix}", pictures, sound)
    assert VideoSource(str(path)).index_file(path.name).offset < 0.03
    for rule in ("player", "first_picture"):
        table = read_spans(path, f"a.{suffix},1,2,ok\n", rule)
        assert table["frame_id"].tolist() == [*range(25, 50)]
        assert table.attrs["notes"] == []


def test_the_end_of_a_late_video_is_that_of_players(tmp_path: Path) -> None:
    path = make_late(tmp_path / "a.mp4", 2, 0)
    kinds = {}
    for rule, end in (("player", 5), ("player", 5.1), ("first_picture", 3), ("first_picture", 3.1)):
        notes = read_spans(path, f"a.mp4,2,{end},ok\n", rule).attrs["notes"]
        kinds[rule, end] = [note.kind for note in notes]
    assert kinds == {
        ("player", 5): ["late_pictures"],
        ("player", 5.1): ["past_the_end", "late_pictures"],
        ("first_picture", 3): ["late_pictures"],
        ("first_picture", 3.1): ["past_the_end", "late_pictures"],
    }
    notes = read_spans(path, "a.mp4,0,1,ok\na.mp4,3,4,ok\n").attrs["notes"]
    assert [note.kind for note in notes] == ["no_frame", "late_pictures"]
    with pytest.raises(
        TableError, match=r"no span contains a frame .*; 1 video begins with its sound, .* set data\.span_zero"
    ):
        read_spans(path, "a.mp4,0,1,ok\n")


@pytest.mark.parametrize(("every", "numbers"), [("0.5 s", [0, 13, 25, 38, 50, 63]), (30, [0, 30, 60])])
def test_a_whole_video_has_the_same_frames_whatever_is_zero(
    every: int | str, numbers: list[int], tmp_path: Path
) -> None:
    path = make_late(tmp_path / "a.ts", 1.3, 0)
    for rule in ("player", "first_picture"):
        table = read_spans(path, "a.ts,,,ok\n", rule, every)
        assert (table["frame_id"].tolist(), table.attrs["notes"]) == (numbers, [])


def test_the_table_of_a_run_before_there_was_a_choice_is_known_again(tmp_path: Path) -> None:
    path = make_late(tmp_path / "a.mp4", 0, None)
    known = frame_table.select_frames(read_spans(path, "a.mp4,1,2,ok\n", "first_picture"), ["ok"])
    known.attrs["made_with"] = {"every": None}
    run_tables.write_frames(store.open_store(str(tmp_path / "run")), known)
    given = {"images": str(tmp_path / "gone"), "labels": str(tmp_path / "spans.csv"), "output": str(tmp_path / "run")}
    for rule in ("first_picture", "player"):
        config = make_config(**given, source="videos", span_zero=rule)
        source = sources.open_source(config.data.images, config.data.source_type)
        if rule == "player":
            with pytest.raises(sources.SourceError, match="gone"):
                frame_table.read_labels(config, source)
        else:
            assert len(frame_table.read_labels(config, source)) == 25


def test_the_default_of_the_function_is_that_of_the_setting() -> None:
    assert spans.read_spans.__defaults__ == (None, make_config().data.span_zero)


# Orientation.

UNIT = 1 << 16
MATRICES = {  # by EXIF orientation: a, b, c, d of x' = a x + c y, y' = b x + d y
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def read_upright(path: Path) -> RGB:
    ((_, image),) = read_images(VideoSource(str(path)), [f"{path.name}/000000"], exif="apply", max_pixels=MAX_PIXELS)
    assert isinstance(image, DecodedImage)
    return image.read_pixels()


def assert_upright_as_ffmpeg(path: Path, is_sideways: bool) -> None:
    """The frame is turned as ffmpeg turns it."""
    shown = need_ffmpeg("-i", path, "-frames:v", 1, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    shape = (WIDTH, HEIGHT, 3) if is_sideways else (HEIGHT, WIDTH, 3)
    expected = np.frombuffer(shown, np.uint8).reshape(shape)
    found = read_upright(path)
    assert found.shape == shape
    assert np.abs(found.astype(int) - expected).mean() < 1, path.name


def test_frames_are_turned_as_ffmpeg_turns_them(tmp_path: Path) -> None:
    av = need_extra("av")
    plain = make(tmp_path / "plain.mp4", 3)
    content = plain.read_bytes()
    matrix = content.index(b"tkhd") + 44
    for orientation, (a, b, c, d) in MATRICES.items():
        values = (a * UNIT, b * UNIT, 0, c * UNIT, d * UNIT, 0, 0, 0, 1 << 30)
        turned = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
        path = tmp_path / f"{orientation}.mp4"
        path.write_bytes(content[:matrix] + turned + content[matrix + len(turned) :])
        assert VideoSource(str(path)).index_file(path.name).orientation == orientation
        with av.open(str(path)) as given, av.open(str(path.with_suffix(".mkv")), "w") as output:
            stream = output.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                packet.stream = stream
                output.mux([packet] if packet.size else [])
        for copy in (path, path.with_suffix(".mkv")):
            assert_upright_as_ffmpeg(copy, orientation > 4)


def test_frames_are_turned_as_a_message_in_the_stream_says(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mp4", 3)
    for angle, flip in product((0, 90, 180, 270), ("", ":flip=horizontal", ":flip=vertical")):
        path = tmp_path / f"{angle}{flip[6:]}.ts"
        message = f"h264_metadata=display_orientation=insert:rotate={angle}{flip}"
        try:
            need_ffmpeg("-i", plain, "-c", "copy", "-bsf:v", message, path)
        except subprocess.CalledProcessError:
            pytest.skip("this ffmpeg does not write the orientation into H.264")
        assert_upright_as_ffmpeg(path, angle in (90, 270))


def test_the_frame_summary_names_videos_that_are_stored_rotated(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 3, turned=90)
    make(tmp_path / "b.mp4", 3)
    labels = tmp_path / "spans.csv"
    labels.write_text("file,class_name\na.mp4,ok\nb.mp4,ok\n")
    config = make_config(images=str(tmp_path), labels=str(labels), source="videos", output=str(tmp_path / "run"))
    source = VideoSource(str(tmp_path))
    table = frame_table.select_frames(frame_table.read_labels(config, source), config.classes)
    text = "1 video is stored rotated or mirrored: see detection.exif (the first: 'a.mp4')"
    assert text in frame_table.summarize_frames(table).splitlines()
    run.detect_frames(table, source, config, config.data.output)
    (note,) = list_notes(tmp_path / "run", "turned")  # about frames, in place of that about videos
    assert (note.count, note.example) == (3, "a.mp4/000000")

"""Videos as a source: each frame carries its number, so that exactness is seen frame by frame."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import LABELS, list_names, measure_memory
from faults import make_config
from skips import need_extra
from test_notebook import execute

from detectime import sources
from detectime.config import Config
from detectime.detection import run
from detectime.images import MAX_PIXELS, RGB, DecodedImage, UnreadableImageError, describe_content
from detectime.labels import frame_table
from detectime.labels.tables import TableError
from detectime.paths import SAMPLE
from detectime.schema import RESERVED_COLUMNS
from detectime.sources.contract import MissingFrameError, Source, SourceError
from detectime.sources.reading import read_contents, read_images
from detectime.sources.videos import VideoFrame, VideoSource
from detectime.storage import run_tables, store

WIDTH, HEIGHT = 320, 240
BITS = 16
OPEN = {"bf": "3", "g": "30", "x264-params": "open-gop=1:b-pyramid=normal:threads=1"}
HEVC = {"x265-params": "open-gop=1:keyint=30:bframes=4:log-level=none"}

# How each is made: the codec, its options, and whether its frames last unequally long.
KINDS: dict[str, tuple[str, dict[str, str], bool]] = {
    "open.mp4": ("libx264", OPEN, False),
    "unequal.mp4": ("libx264", OPEN, True),
    "unequal.mkv": ("libx264", OPEN, True),
    "stream.ts": ("libx264", OPEN, False),
    "refreshed.mp4": ("libx264", {"g": "40", "x264-params": "intra-refresh=1:threads=1"}, False),
    "hevc.mp4": ("libx265", HEVC, False),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, False),
    "mpeg2.mpg": ("mpeg2video", {"bf": "2", "g": "12"}, False),
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "12"}, False),
    "h264.avi": ("libx264", OPEN, False),  # an AVI has no times of showing
    "bare.h264": ("libx264", OPEN, False),  # nor has this any at all
}


def picture(number: int) -> RGB:
    """A moving pattern with the number in black and white blocks."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 32, 3), dtype=np.uint8)
    scene = cv2.resize(noise, (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    shown = scene[:, (3 * number) % WIDTH :][:, :WIDTH].copy()
    for bit in range(BITS):
        shown[100:140, bit * 20 : bit * 20 + 20] = 255 * (number >> bit & 1)
    return shown


def number_of(image: RGB) -> int:
    """Read the number."""
    return sum(1 << bit for bit in range(BITS) if image[110:130, bit * 20 + 5 : bit * 20 + 15].mean() > 128)


def make(
    path: Path, count: int = 110, codec: str = "libx264", options: dict[str, str] | None = None, unequal: bool = False,
    turned: int = 0, **container: str,
) -> Path:  # fmt: skip
    """Encode a video of so many frames, 30 a second if they last equally long."""
    av = need_extra("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container) as output:
        stream = output.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        if unequal:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turned:
            stream.set_display_rotation(turned)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if unequal:
                frame.time_base = Fraction(1, 1000)
                frame.pts = number * 33 + number % 7 * 4 + number // 50 * 500
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video of each kind."""
    folder = tmp_path_factory.mktemp("clips")
    for name, (codec, options, unequal) in KINDS.items():
        make(folder / name, codec=codec, options=options, unequal=unequal)
    return folder


def read(source: VideoSource, frame_paths: list[str], max_pixels: int = MAX_PIXELS) -> dict[str, bytes | str]:
    """The pixels of frames, or why there are none."""
    return {
        path: f"{type(image).__name__}: {image}" if isinstance(image, Exception) else image.read_pixels().tobytes()
        for path, image in read_images(source, frame_paths, exif="ignore", max_pixels=max_pixels)
    }


def paths(file: str, numbers: Any) -> list[str]:
    return [f"{file}/{number:06d}" for number in numbers]


pytestmark = pytest.mark.extra


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_the_same_however_it_is_reached(kind: str, clips: Path) -> None:
    names = paths(kind, range(110))
    source = VideoSource(str(clips))
    assert len(source.index_file(kind)) == 110
    opened = list(read_images(source, names, exif="ignore", max_pixels=MAX_PIXELS))
    assert [path for path, _ in opened] == names
    assert [number_of(image.read_pixels()) for _, image in opened if not isinstance(image, Exception)] == [*range(110)]
    in_order = {path: image.read_pixels().tobytes() for path, image in opened if not isinstance(image, Exception)}
    mixed = [names[k] for k in np.random.default_rng(1).permutation(110)]
    assert read(VideoSource(str(clips)), mixed) == in_order  # what is known of a file is found out anew
    for alone in names[1::9]:
        assert read(source, [alone]) == {alone: in_order[alone]}
    sent = pickle.loads(pickle.dumps(source))
    for shard in (names[::10], names[55:70]):
        assert read(sent, shard) == {path: in_order[path] for path in shard}


def test_what_opencv_writes(tmp_path: Path) -> None:
    need_extra("av")
    for name, code in (("a.avi", "MJPG"), ("b.mp4", "mp4v")):
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*code), 25, (WIDTH, HEIGHT))
        for number in range(40):
            writer.write(picture(number)[..., ::-1])
        writer.release()
    found = VideoSource(str(tmp_path)).read_frames(paths("a.avi", range(0, 40, 3)) + paths("b.mp4", range(39, -1, -1)))
    numbers = [number_of(frame.decode()) for _, frame in found if isinstance(frame, VideoFrame)]
    assert numbers == [*range(0, 40, 3), *range(39, -1, -1)]


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["open.mkv", "stream.ts", "mpeg4.avi", "early.mp4"])
def test_a_broken_tail_costs_its_frames_alone(kind: str, share: float, tmp_path: Path) -> None:
    codec, options = ("mpeg4", {"g": "12"}) if kind == "mpeg4.avi" else ("libx264", OPEN)
    header_first = {"movflags": "faststart"} if kind == "early.mp4" else {}
    whole = make(tmp_path / "whole" / kind, codec=codec, options=options, **header_first)
    content = whole.read_bytes()
    (tmp_path / kind).write_bytes(content[: int(len(content) * share)])
    source, names = VideoSource(str(tmp_path)), paths(kind, range(110))
    found, expected = read(source, names), read(VideoSource(str(whole.parent)), names)
    good = [path for path, frame in found.items() if isinstance(frame, bytes)]
    if not good:  # not even the first frame is whole
        assert share == 0.1
        assert {str(frame).split(":")[0] for frame in found.values()} == {"UnreadableImageError"}
        return
    if kind in ("early.mp4", "mpeg4.avi"):  # the header knows how many there were
        assert len(source.index_file(kind)) == 110
    # Where pictures are stored out of order, those at the very cut may be counted as one that is not there any more.
    sure = good[:-4]
    assert [found[path] for path in sure] == [expected[path] for path in sure]
    assert set(names[: max(0, len(good) - 4)]) <= set(good)
    assert len(good) >= 30 * share - 12
    lost = [str(frame) for path, frame in found.items() if path not in good]
    assert all(reason.startswith(("UnreadableImageError: ", "MissingFrameError: no such frame")) for reason in lost)
    assert read(VideoSource(str(tmp_path)), names[::-1]) == found
    for alone in names[::13]:
        assert read(source, [alone]) == {alone: found[alone]}


@pytest.mark.parametrize("kind", ["open.mp4", "mpeg4.avi", "mpeg2.mpg"])
def test_damage_costs_what_depends_on_it_however_it_is_reached(kind: str, clips: Path, tmp_path: Path) -> None:
    content = bytearray((clips / kind).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = np.random.default_rng(3).bytes(400)
    (tmp_path / kind).write_bytes(content)
    source, names = VideoSource(str(tmp_path)), paths(kind, range(110))
    found, expected = read(source, names), read(VideoSource(str(clips)), names)
    hurt = [path for path in names if isinstance(found.get(path), str)]
    assert 0 < len(hurt) < 80
    assert all(
        str(found[path]).startswith(("UnreadableImageError: ", "MissingFrameError: no such frame")) for path in hurt
    )
    assert read(VideoSource(str(tmp_path)), names[::-1]) == found
    for alone in names[::7]:
        assert read(source, [alone]) == {alone: found[alone]}
    before = names[: names.index(hurt[0])]
    assert {path: found[path] for path in before} == {path: expected[path] for path in before}


def with_sound(path: Path, seconds: float) -> Path:
    """A video of 110 frames, with silence that goes on for longer."""
    av = need_extra("av")
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = output.add_stream("aac", rate=44100)
        packets = [
            packet
            for number in range(110)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24"))
        ]
        packets += stream.encode(None)
        for begin in range(0, int(seconds * 44100), 1024):
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            silence.rate, silence.pts, silence.time_base = 44100, begin, Fraction(1, 44100)
            packets += sound.encode(silence)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            output.mux(packet)
    return path


@pytest.mark.parametrize("kind", ["a.mkv", "unequal.mkv", "a.webm", "a.flv", "sound.mkv", "sound.flv"])
def test_a_header_without_a_count_tells_what_is_cut_off(kind: str, tmp_path: Path) -> None:
    if kind.startswith("sound"):
        whole = with_sound(tmp_path / kind, 6)
    else:
        codec = "libvpx-vp9" if kind == "a.webm" else "libx264"
        options = {"deadline": "realtime", "cpu-used": "8"} if kind == "a.webm" else {}
        whole = make(tmp_path / kind, codec=codec, options=options, unequal=kind == "unequal.mkv")
    assert (len(VideoSource(str(whole)).index_file(kind)), VideoSource(str(whole)).index_file(kind).lost) == (110, 0)
    content = whole.read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / kind).write_bytes(content[: len(content) // 2])
    index = VideoSource(str(tmp_path / "cut")).index_file(kind)
    assert index.lost > 30
    if kind != "sound.flv":  # how long its pictures go on is not known: its header knows of the sound's end alone
        assert 75 < len(index) < 145 if kind == "unequal.mkv" else 108 <= len(index) <= 112
    table = table_of(tmp_path / "cut", tmp_path, f"{kind},,,ok\n")
    assert len(table) == len(index)
    (note,) = table.attrs["notes"]
    assert str(note).startswith("1 video has fewer frames than the header promises, and the last are unreadable; ")
    assert (note.kind, str(note.example).split(" (")[0]) == ("cut_video", kind)
    cut = VideoSource(str(tmp_path / "cut"))
    ((_, reason),) = read_images(cut, [table["frame_path"].iloc[-1]], exif="ignore", max_pixels=MAX_PIXELS)
    assert isinstance(reason, UnreadableImageError)


def test_what_keeps_a_file_from_being_read_on_is_told(
    spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = need_extra("av")

    def broken(container: Any, stream: Any) -> Iterator[Any]:
        for number, packet in enumerate(container.demux(stream)):
            if number == 40:
                raise av.error.InvalidDataError(1, "Invalid data found when processing input")
            yield packet

    monkeypatch.setattr("detectime.sources.video_packets._demux", broken)
    table = table_of(spoken, tmp_path, "a.mp4,,,ok\n")
    assert len(table) == 90
    lost, damaged = table.attrs["notes"]
    assert lost.example == "a.mp4 (50 of 90 frames)"
    assert (damaged.kind, damaged.count) == ("damaged_video", 1)
    assert damaged.example.startswith("a.mp4 (it cannot be read on after 40 fr")
    assert "misnumbered" in damaged.text


@pytest.mark.parametrize("kind", ["a.flv", "mpeg2.mpg"])
def test_frames_that_are_gone_in_the_middle_are_told(kind: str, tmp_path: Path) -> None:
    codec, options, _ = KINDS.get(kind, ("libx264", {}, False))
    content = bytearray(make(tmp_path / "clips" / kind, codec=codec, options=options).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    (tmp_path / "clips" / kind).write_bytes(content)
    (note,) = table_of(tmp_path / "clips", tmp_path, f"{kind},,,ok\n").attrs["notes"]
    assert str(note).startswith("1 video is damaged; ")
    assert note.example.startswith(f"{kind} (frames are gone after frame 4")


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_alone_is_no_damage(kind: str, clips: Path) -> None:
    index = VideoSource(str(clips)).index_file(kind)
    assert (index.lost, index.damage) == (0, "")


def test_what_is_no_video_says_so(clips: Path, tmp_path: Path) -> None:
    for name in ("text.mp4", "empty.mp4", "cut.mp4"):
        (tmp_path / name).write_bytes({"text": b"hello " * 99, "cut": (clips / "open.mp4").read_bytes()[:2000]}.get(
            name[:-4], b""
        ))  # fmt: skip
    os.mkfifo(tmp_path / "pipe.mp4")
    source = VideoSource(str(tmp_path))
    assert list_names(source) == []
    for name in ("text", "empty", "cut", "pipe"):
        ((_, reason),) = source.read_frames([f"{name}.mp4/000000"])
        assert isinstance(reason, UnreadableImageError)
        assert "not a" in str(reason)
    for absent in ("nowhere.mp4/000000", "text.mp4", "nowhere.mp4", "text.mp4/000000/000000"):
        ((path, reason),) = source.read_frames([absent])
        assert path == absent
        assert isinstance(reason, MissingFrameError | UnreadableImageError)


def test_names_and_a_single_file(clips: Path) -> None:
    one = VideoSource(str(clips / "open.mp4"))
    assert list_names(one) == paths("open.mp4", range(110))
    assert set(dict(VideoSource(str(clips)).list_files())) == set(KINDS) - {"bare.h264"}
    for wrong in ("open.mp4/000110", "open.mp4/5", "open.mp4/0000005"):
        ((_, reason),) = one.read_frames([wrong])
        assert isinstance(reason, MissingFrameError), wrong
    ((_, reason),) = one.read_frames(["open.mp4/5"])
    assert str(reason) == "no such frame: the form is <file>/<six digits>, as anna.mp4/000003"


@pytest.mark.parametrize(("turned", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_frames_are_turned_as_the_display_matrix_says(turned: int, turns: int, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 3, turned=turned)
    stored, shown = ({}, {})
    for rule, found in (("ignore", stored), ("apply", shown)):
        source = VideoSource(str(tmp_path))
        ((_, image),) = read_images(source, ["a.mp4/000002"], exif=rule, max_pixels=MAX_PIXELS)
        assert isinstance(image, DecodedImage)
        found["pixels"], found["orientation"] = image.read_pixels(), image.orientation
        assert (image.height, image.width) == image.read_pixels().shape[:2]
    assert number_of(stored["pixels"]) == 2
    assert (shown["pixels"] == np.rot90(stored["pixels"], turns)).all()
    assert stored["orientation"] == shown["orientation"] == {1: 8, 2: 3, 3: 6}[turns]


def test_a_large_frame_is_unreadable(clips: Path) -> None:
    found = read(VideoSource(str(clips)), ["open.mp4/000000"], max_pixels=1000)
    assert found["open.mp4/000000"] == "UnreadableImageError: too large: 320 x 240 pixels, more than max_pixels (1000)"


def test_every_frame_has_the_stamp_and_the_content_of_its_file(clips: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "deep/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clips / "open.mp4", tmp_path / name)
    (tmp_path / "text.mp4").write_text("hello")
    os.utime(tmp_path / "a.mp4", ns=(5, 1_700_000_000_123_456_789))
    source, bytes_of = VideoSource(str(tmp_path)), (tmp_path / "a.mp4").read_bytes()
    stamps = dict(source.list_frames())
    assert {stamps[path] for path in paths("a.mp4", range(110))} == {f"{len(bytes_of)}-1700000000123456789"}
    assert len(set(stamps.values())) == 2
    content = describe_content(bytes_of)
    asked = ["a.mp4/000003", "deep/b.mp4/000100", "text.mp4/000000", "nowhere.mp4/000000"]
    assert [found for _, found in read_contents(source, asked, max_pixels=MAX_PIXELS)] == [content, content, None, None]
    assert [frame.content for _, frame in source.read_frames(asked)] == [content, content, None, None]
    assert dict(VideoSource(str(tmp_path / "a.mp4")).list_frames())["a.mp4/000000"] == stamps["a.mp4/000000"]
    ((_, large),) = read_images(source, ["a.mp4/000000"], exif="ignore", max_pixels=1000)
    assert isinstance(large, UnreadableImageError)
    assert large.content == content


def test_memory_is_flat(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 60)
    setup = """
import tracemalloc
from detectime.sources.reading import read_images
from detectime.sources.videos import VideoSource
names = [f"a.mp4/{number:06d}" for number in range(60)]
images = read_images(VideoSource(sys.argv[1]), names, exif="ignore", max_pixels=10**6)
next(images)
tracemalloc.start()
"""
    work = "print(sum(1 for _ in images), tracemalloc.get_traced_memory()[1])"
    _, (line,) = measure_memory(setup, work, tmp_path)
    count, peak = map(int, line.split())  # bytes that Python and numpy have allocated: a few frames
    assert count == 59
    assert 0 < peak < 10 * WIDTH * HEIGHT * 3


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for images, source_type in ((tmp_path / "a.MP4", None), (tmp_path, "videos")):
        with pytest.raises(SourceError, match=r"videos need PyAV.* pip install .*\[video\]"):
            sources.open_source(str(images), source_type)
    with pytest.raises(SourceError, match="from a folder of this machine"):
        sources.open_source("s3://somewhere/a.mp4")


# Spans: labels of videos.

HEADER = "file,start,end,class_name\n"


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two videos of three seconds, and one that is none."""
    folder = tmp_path_factory.mktemp("spoken")
    for name in ("a.mp4", "deep/b.mp4"):
        make(folder / name, 90)
    (folder / "text.mp4").write_text("hello")
    return folder


def open_videos(config: Config) -> Source:
    """Open the source of a configuration."""
    return sources.open_source(config.data.images, config.data.source_type)


def table_of(spoken: Path, folder: Path, rows: str, every: int | str | None = None) -> pd.DataFrame:
    labels = folder / "spans.csv"
    labels.write_text(rows if rows.startswith("file") else HEADER + rows)
    config = make_config(images=str(spoken), labels=str(labels), source="videos", every=every)
    return frame_table.select_frames(frame_table.read_labels(config, open_videos(config)), config.classes)


@pytest.mark.parametrize(
    ("start", "end", "every", "numbers"),
    [
        ("", "", None, range(90)),
        ("", "", 40, [0, 40, 80]),
        ("1", "2", None, range(30, 60)),
        ("1", "2", 10, [30, 40, 50]),
        ("2.9", "", None, [87, 88, 89]),
        ("", "0.1", None, [0, 1, 2]),
        ("0.01", "1", "0.3 s", [1, 10, 19, 28]),
        ("0", "1", "0.1 s", range(0, 30, 3)),
        ("", "", "1s", [0, 30, 60]),
        ("", "0.2", "0.001 s", range(6)),
        ("", "0.2", "0.0000000000001 s", range(6)),
        ("0.05", "0.2", "99 s", [2]),
    ],
)
def test_a_span_is_its_frames(
    start: str, end: str, every: int | str | None, numbers: Any, spoken: Path, tmp_path: Path
) -> None:
    table = table_of(spoken, tmp_path, f"deep/b.mp4,{start},{end},ok\n", every)
    assert table["frame_path"].tolist() == paths("deep/b.mp4", numbers)
    assert table["frame_id"].tolist() == list(numbers)
    assert set(table["video_name"]) == {"deep/b.mp4"}
    assert set(table["label"]) == {LABELS["ok"]}
    assert table["on_disk"].all()
    assert table.attrs.pop("labels_sha256") == hashlib.sha256((tmp_path / "spans.csv").read_bytes()).hexdigest()
    assert "ok" in table.attrs.pop("classes")
    assert table.attrs == {
        "duplicates": 0,
        "first_duplicate": None,
        "unlisted": 2,
        "unlisted_names": ["a.mp4", "text.mp4"],
        "made_with": {"every": make_config(every=every).data.every, "span_zero": "player"},
        "unreachable": None,
        "notes": [],
    }


def test_spans_of_unequal_frames_are_by_their_times(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    shutil.copy(clips / "unequal.mkv", tmp_path / "clips" / "a.mkv")
    table = table_of(tmp_path / "clips", tmp_path, "a.mkv,1,2.5,ok\n")
    times = [number * 33 + number % 7 * 4 + number // 50 * 500 for number in range(110)]
    assert table["frame_id"].tolist() == [number for number, time in enumerate(times) if 1000 <= time < 2500]


def test_further_columns_and_people_are_kept(spoken: Path, tmp_path: Path) -> None:
    table = table_of(spoken, tmp_path, "file,start,end,class_name,camera,video_name\na.mp4,0,1,ok,front,Ann\n", 15)
    assert table[["video_name", "camera"]].to_numpy().tolist() == [["Ann", "front"]] * 2


def test_the_column_of_the_class_may_be_called_class(spoken: Path, tmp_path: Path) -> None:
    table = table_of(spoken, tmp_path, "file,start,end,class\na.mp4,0,1,ok\n", 15)
    assert table["class_name"].tolist() == ["ok", "ok"]


def test_a_class_for_each_file_will_do(spoken: Path, tmp_path: Path) -> None:
    table = table_of(spoken, tmp_path, "file,class\na.mp4,ok\ndeep/b.mp4,stop\n", 45)
    assert table["frame_path"].tolist() == paths("a.mp4", [0, 45]) + paths("deep/b.mp4", [0, 45])
    assert table["class_name"].tolist() == ["ok", "ok", "stop", "stop"]
    assert list(map(str, table.attrs["notes"])) == ["2 rows cover whole videos: the csv has no columns start and end"]
    with pytest.raises(TableError, match="'start' is there, but no column for the end"):
        table_of(spoken, tmp_path, "file,start,class\na.mp4,1,ok\n")


def test_columns_that_are_made_here_have_another_name_in_the_csv(spoken: Path, tmp_path: Path) -> None:
    made = [*sorted(RESERVED_COLUMNS), "frame_id"]
    values = [str(number) for number in range(len(made))]
    rows = f"file,start,end,class_name,{','.join(made)}\na.mp4,,,ok,{','.join(values)}\n"
    table = table_of(spoken, tmp_path, rows, 90)
    assert table[[f"{name}_in_csv" for name in made]].to_numpy().tolist() == [values]
    assert set(table) - {f"{name}_in_csv" for name in made} == {
        *("frame_path", "video_name", "frame_id", "class_name", "label", "on_disk", "stamp", "wanted")
    }


def test_spans_need_videos(spoken: Path, tmp_path: Path) -> None:
    (tmp_path / "spans.csv").write_text(f"{HEADER}a.mp4,0,1,ok\n")
    config = make_config(images=str(spoken), labels=str(tmp_path / "spans.csv"))
    with pytest.raises(TableError, match=r"spans of videos, such as 'a\.mp4'; set data\.source_type to `videos`"):
        frame_table.read_labels(config, open_videos(config))


def test_many_overlapping_spans_are_compared_without_all_pairs(spoken: Path, tmp_path: Path) -> None:
    rows = "".join(f"a.mp4,{k / 1000},99,{('ok', 'stop')[k % 2]}\n" for k in range(20_000))
    with pytest.raises(TableError, match="19999 rows are wrong; the first is row 2: the span overlaps"):
        table_of(spoken, tmp_path, rows)


def test_the_span_that_ends_last_is_compared_with_all_that_follow(spoken: Path, tmp_path: Path) -> None:
    rows = (
        "a.mp4,0,9,ok\na.mp4,0.1,0.2,ok\na.mp4,0.3,0.4,ok\na.mp4,0.5,0.6,stop\na.mp4,0.55,0.58,ok\ndeep/b.mp4,,,stop\n"
    )
    with pytest.raises(TableError) as refusal:
        table_of(spoken, tmp_path, rows)
    found = [line.split(" (")[0].strip() for line in str(refusal.value).splitlines()[1:-1]]
    assert found == [
        "row 4: the span overlaps row 1, which has another class",
        "row 5: the span overlaps row 4, which has another class",
    ]


def test_what_is_not_as_labelled_is_told_by_name(spoken: Path, tmp_path: Path) -> None:
    rows = "gone.mp4,0,1,ok\ngone.mp4,1,2,stop\ntext.mp4,,,ok\na.mp4,2.5,9,ok\na.mp4,9,,mute\na.mp4,2.5,2.6,ok\n"
    table = table_of(spoken, tmp_path, rows)
    alone = table[table["video_name"] != "a.mp4"]
    assert alone["frame_path"].tolist() == ["gone.mp4/000000", "gone.mp4/000001", "text.mp4/000000"]
    assert alone["on_disk"].tolist() == [False, False, True]
    assert table.attrs["duplicates"] == 3
    told = frame_table.summarize_frames(table).splitlines()
    assert told[0] == f"{len(table)} frames, {len(table)} wanted, {len(table) - 2} found in the source"
    assert [line.split(" (the first")[0] for line in told[1:]] == [
        "3 rows repeated another and were dropped",
        "1 file of the source is not named by the labels",
        "2 frames of the labels are missing from the source",
        "2 spans name missing videos",
        "1 span names a file that is not a video",
        "1 span contains no frame",
        "1 span ends after the end of its video",
    ]
    assert told[-2].endswith("(the first: 'row 5, a.mp4 9–')")
    assert alone["stamp"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_of_a_place_that_is_gone_the_table_of_an_earlier_run_is_taken(place: str, spoken: Path, tmp_path: Path) -> None:
    known = table_of(spoken, tmp_path, "a.mp4,0,1,ok\ngone.mp4,,,stop\n", every=7)
    (tmp_path / "empty").mkdir()
    given = {"labels": str(tmp_path / "spans.csv"), "output": str(tmp_path / "run"), "source": "videos", "every": 7}
    config = make_config(images=str(tmp_path / place), **given)
    run_tables.write_frames(store.open_store(config.data.output), known)
    table = frame_table.read_labels(config, open_videos(config))
    lost = ["stamp", "wanted"]
    pd.testing.assert_frame_equal(table.drop(columns="stamp"), known.drop(columns=lost))
    assert table["stamp"].isna().all()
    assert place in table.attrs["unreachable"]
    assert [note.kind for note in frame_table.list_notes(table)] == ["unlisted", "missing_video"]  # as they were
    (tmp_path / "spans.csv").write_text(f"{HEADER}a.mp4,0,1,stop\n")
    with pytest.raises(SourceError, match=place):
        frame_table.read_labels(config, open_videos(config))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,0,1,okay", "the class_name is not a label; accepted: no_gesture"),
        ("a.mp4,x,1,ok", "start and end must be seconds"),
        ("a.mp4,-1,1,ok", "start and end must be seconds"),
        ("a.mp4,2,1,ok", "the end is not after the start"),
        ("a.mp4,1,1,ok", "the end is not after the start"),
        ("../a.mp4,0,1,ok", "the file has a part `..` or `.`"),
        (",0,1,ok", "the file is empty"),
        ("deep/b.mp4,0.9,3,ok", "the span overlaps row 1, which has another class"),
        ("deep/b.mp4,,,mute", "the span overlaps row 1, which has another class"),
    ],
)
def test_a_wrong_span_is_named(row: str, reason: str, spoken: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError) as refusal:
        table_of(spoken, tmp_path, f"deep/b.mp4,0,1,like\ndeep/b.mp4,4,5,like\n{row}\n")
    last = str(refusal.value).splitlines()[-1]
    assert reason in str(refusal.value)
    assert str(tmp_path / "spans.csv") in last


def test_spans_may_touch(spoken: Path, tmp_path: Path) -> None:
    table = table_of(spoken, tmp_path, "a.mp4,0,1,ok\na.mp4,1,2,stop\n")
    assert table.groupby("class_name")["frame_id"].agg(["min", "max"]).to_numpy().tolist() == [[0, 29], [30, 59]]


def test_a_csv_of_frames_does_for_videos_too(spoken: Path, tmp_path: Path) -> None:
    labels = tmp_path / "train.csv"
    labels.write_text("frame_path,video_name,frame_id,class_name\na.mp4/000007,v,7,ok\na.mp4/000090,v,90,ok\n")
    config = make_config(images=str(spoken), labels=str(labels), source="videos")
    table = frame_table.read_labels(config, open_videos(config))
    assert table["on_disk"].tolist() == [True, False]


@pytest.mark.slow
def test_workers_and_shards_make_no_difference(spoken: Path, tmp_path: Path) -> None:
    rows = "a.mp4,,,ok\ndeep/b.mp4,0,2,stop\ntext.mp4,,,ok\ngone.mp4,,,ok\n"
    table = table_of(spoken, tmp_path, rows, every=4)
    found = []
    for workers, size in ((1, 100), (2, 7)):
        config = make_config(images=str(spoken), source="videos", workers=workers, save_per_num_images=size)
        found.append(run.detect_frames(table, open_videos(config), config, str(tmp_path / f"run{workers}")))
    assert found[0].equals(found[1])
    outcomes = {"ok": len(table) - 2, "missing": 1, "unreadable": 1, "failed": 0}
    assert run.count_detection_outcomes(found[0]) == outcomes


@pytest.mark.slow
def test_the_notebook_runs_on_videos(tmp_path: Path) -> None:
    av = need_extra("av")
    faces = sorted((SAMPLE / "TRAIN_DATA" / "stop_01").glob("*.jpg"))
    clip = tmp_path / "clips" / "a.mp4"
    clip.parent.mkdir()
    with av.open(str(clip), "w") as output:
        images = [cv2.imread(str(path)) for path in faces]
        stream = output.add_stream("libx264", rate=10)
        stream.height, stream.width = (side // 2 * 2 for side in images[0].shape[:2])
        for image in images:
            whole = np.ascontiguousarray(image[: stream.height, : stream.width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(whole, format="bgr24")))
        output.mux(stream.encode(None))
    (tmp_path / "spans.csv").write_text(f"{HEADER}a.mp4,,,stop\n")
    given = {"images": "clips", "labels": "spans.csv", "output": "run", "source": "videos", "every": 2}
    done = execute(tmp_path / "out.ipynb", tmp_path, **given)
    assert done.returncode == 0, done.stderr
    hands = json.loads((tmp_path / "run" / "hands.json").read_text())
    assert [hand["frame_id"] for hand in hands] == list(range(0, len(faces), 2))

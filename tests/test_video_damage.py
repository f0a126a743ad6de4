"""Damaged videos, and parts laid end to end: what ffmpeg decodes is had, and no frame passes for another."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from h264_writer import Stream
from skips import need_extra
from test_videos import HEIGHT, OPEN, WIDTH, make, number_of, paths, table_of, with_sound

from detectime.images import RGB, UnreadableImageError
from detectime.sources.video_index import VideoIndex
from detectime.sources.video_times import find_holes
from detectime.sources.videos import VideoFrame, VideoSource

pytestmark = pytest.mark.extra

P, B = 2, 3  # types of pictures, for FFmpeg
MAX_DIFFERENCE = 2.0  # mean absolute difference of pixels, up to which a picture is the one of the undamaged file
B_FRAMES = {"bf": "3", "g": "30", "x264-params": "b-pyramid=none:threads=1"}
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "b": ("libx264", B_FRAMES),
    "pyramid": ("libx264", OPEN),
    "p": ("libx264", {"bf": "0", "g": "30", "x264-params": "threads=1"}),
    "refreshed": ("libx264", {"g": "40", "x264-params": "intra-refresh=1:threads=1"}),
    "hevc": ("libx265", {"x265-params": "keyint=30:bframes=4:log-level=none"}),
    "mpeg2": ("mpeg2video", {"bf": "2", "g": "12"}),
}


def need_ffmpeg(*arguments: Any) -> bytes:
    """Run ffmpeg and return what it writes; skip the test if it, or what reads videos here, is not installed."""
    need_extra("av")
    if not shutil.which("ffmpeg"):
        pytest.skip("the program ffmpeg is not installed")
    command = ["ffmpeg", "-y", "-loglevel", "quiet", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def decode_with_ffmpeg(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray[Any, Any]:
    """The frames that ffmpeg decodes, as stored (yuv420p), in its order."""
    every = need_ffmpeg(
        "-i", path, "-map", "0:v:0", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"
    )
    return np.frombuffer(every, np.uint8).reshape(-1, size[1] * 3 // 2, size[0])


def decode(path: Path, numbers: Iterable[int] | None = None) -> tuple[VideoIndex, dict[int, Any]]:
    """The index of a video, and its frames by number: PyAV's frames, or why there is none."""
    source = VideoSource(str(path))
    index = source.index_file(path.name)
    found: dict[int, Any] = {}
    names = paths(path.name, range(len(index)) if numbers is None else numbers)
    for name, frame in source.read_frames(names):
        assert isinstance(frame, VideoFrame)
        try:
            found[int(name[-6:])] = frame.decoder.read_frame(frame.number)
        except UnreadableImageError as error:
            found[int(name[-6:])] = str(error)
    return index, found


def to_rgb(frames: dict[int, Any]) -> dict[int, RGB]:
    return {number: frame.to_ndarray(format="rgb24") for number, frame in frames.items() if not isinstance(frame, str)}


def assert_as_ffmpeg(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> VideoIndex:
    """All frames that ffmpeg decodes are had, with its numbers and its pixels, however they are reached."""
    expected = decode_with_ffmpeg(path, size)
    index, frames = decode(path)
    assert [frame for frame in frames.values() if isinstance(frame, str)] == []
    assert len(frames) == len(expected)
    wrong = [n for n, frame in frames.items() if (frame.to_ndarray(format="yuv420p") != expected[n]).any()]
    assert wrong == []
    some = np.random.default_rng(0).permutation(len(frames))[:12].tolist()
    for number in some[:4]:
        _, alone = decode(path, [number])
        assert (alone[number].to_ndarray(format="yuv420p") == expected[number]).all()
    _, mixed = decode(path, some)
    assert [n for n in some if (mixed[n].to_ndarray(format="yuv420p") != expected[n]).any()] == []
    return index


def find_false(frames: dict[int, Any], whole: dict[int, RGB]) -> list[tuple[int, int]]:
    """Frames that are not the picture of the undamaged video whose number they carry."""
    false = []
    for number, pixels in to_rgb(frames).items():
        shown = number_of(pixels)
        expected = whole.get(shown)
        if expected is None or np.abs(pixels.astype(int) - expected).mean() > MAX_DIFFERENCE:
            false.append((number, shown))
    return false


def copy_without(source: Path, target: Path, lost: set[int]) -> None:
    """Copy a video without some of its packets."""
    av = need_extra("av")
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for position, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            if position not in lost:
                packet.stream = stream
                output.mux(packet)


# Parts laid end to end.

PARTS = {
    "h264.ts": ("libx264", B_FRAMES, (40, 55, 7)),
    "open.m2ts": ("libx264", OPEN, (40, 33)),
    "plain.mts": ("libx264", {"bf": "0", "g": "30"}, (31, 20)),
    "hevc.ts": (*ENCODERS["hevc"], (40, 33)),
    "mpeg2.ts": (*ENCODERS["mpeg2"], (30, 25)),
    "mpeg2.mpg": (*ENCODERS["mpeg2"], (30, 25)),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_laid_end_to_end_lose_nothing(kind: str, tmp_path: Path) -> None:
    codec, options, counts = PARTS[kind]
    parts = [make(tmp_path / f"{count}" / kind, count, codec=codec, options=options) for count in counts]
    (tmp_path / kind).write_bytes(b"".join(part.read_bytes() for part in parts))
    index = assert_as_ffmpeg(tmp_path / kind)
    _, frames = decode(tmp_path / kind)
    assert [number_of(pixels) for pixels in to_rgb(frames).values()] == [n for count in counts for n in range(count)]
    assert np.allclose(np.diff(index.seconds), 1 / 30, atol=1e-4)  # the times run on
    assert (index.damage, index.holes, index.lost) == ("", (), 0)


def test_parts_with_sound_lose_nothing(tmp_path: Path) -> None:
    part = with_sound(tmp_path / "part.ts", 3.6).read_bytes()
    (tmp_path / "a.ts").write_bytes(part * 2)
    index = assert_as_ffmpeg(tmp_path / "a.ts")
    assert np.allclose(np.diff(index.seconds), 1 / 30, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 100, 30_000])
def test_the_times_of_parts_run_on_as_in_ffmpeg(offset: int, tmp_path: Path) -> None:
    first = make(tmp_path / "1" / "a.ts", 40, options=B_FRAMES)
    second = tmp_path / "b.ts"
    need_ffmpeg("-i", first, "-c", "copy", "-output_ts_offset", offset, second)
    for name, parts in (("ahead.ts", (first, second)), ("back.ts", (second, first))):
        (tmp_path / name).write_bytes(b"".join(part.read_bytes() for part in parts))
        index = assert_as_ffmpeg(tmp_path / name)
        lines = need_ffmpeg(
            "-i", tmp_path / name, "-vsync", "passthrough", "-enc_time_base", "1:1000", "-f", "framecrc", "-"
        )
        times = [int(line.split(b",")[2]) / 1000 for line in lines.splitlines() if not line.startswith(b"#")]
        assert np.allclose(index.seconds, np.array(times) - times[0], atol=0.002)


def test_the_segments_of_a_stream_lose_nothing(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", 100, options=B_FRAMES)
    need_ffmpeg("-i", whole, "-c", "copy", "-f", "segment", "-segment_time", 1, tmp_path / "part%d.ts")
    parts = sorted(tmp_path.glob("part?.ts"))
    assert len(parts) > 2
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    index = assert_as_ffmpeg(tmp_path / "a.ts")
    assert index.seekable  # their times run on by themselves
    assert len(index) == 100


def test_a_part_of_another_size_is_decoded(tmp_path: Path) -> None:
    first = make(tmp_path / "1" / "a.ts", 30, options=B_FRAMES)
    need_ffmpeg("-i", first, "-vf", "scale=160:120", "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "small.ts")
    (tmp_path / "a.ts").write_bytes(first.read_bytes() + (tmp_path / "small.ts").read_bytes())
    _, frames = decode(tmp_path / "a.ts")
    assert [(frame.width, frame.height) for frame in frames.values()] == [(WIDTH, HEIGHT)] * 30 + [(160, 120)] * 30


def test_a_part_that_is_cut_off_costs_its_end_alone(tmp_path: Path) -> None:
    first, second = (make(tmp_path / name / "a.ts", 60, options=B_FRAMES) for name in "12")
    _, whole = decode(first)
    content = first.read_bytes()
    (tmp_path / "a.ts").write_bytes(content[: len(content) * 2 // 3 // 188 * 188] + second.read_bytes())
    _, frames = decode(tmp_path / "a.ts")
    assert find_false(frames, to_rgb(whole)) == []
    assert [number_of(pixels) for pixels in to_rgb(frames).values()][-60:] == [*range(60)]
    assert len(to_rgb(frames)) > 80


# Packets that are gone.


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wholes")


def make_whole(folder: Path, kind: str) -> tuple[Path, dict[int, RGB], dict[int, int]]:
    """A video, its frames, and the type of the picture in each packet."""
    path = folder / kind
    codec, options = ENCODERS[path.stem]
    if not path.exists():
        make(path, 75, codec=codec, options=options)
    index, frames = decode(path)
    types = {int(packet): frames[number].pict_type for number, packet in enumerate(index.shown)}
    assert index.damage == ""
    return path, to_rgb(frames), types


@pytest.mark.parametrize("kind", ["b.mp4", "pyramid.mkv", "p.ts", "refreshed.mp4", "hevc.mp4", "mpeg2.mkv"])
def test_a_lost_packet_costs_what_depends_on_it(kind: str, wholes: Path, tmp_path: Path) -> None:
    path, whole, types = make_whole(wholes, kind)
    for lost in ({32}, {37}, {43}, {46}, {33, 34}, {59, 60}):
        copy_without(path, tmp_path / kind, lost)
        index, frames = decode(tmp_path / kind)
        assert find_false(frames, whole) == [], lost
        assert len(frames) == 75 - len(lost)
        hurt = [number for number, frame in frames.items() if isinstance(frame, str)]
        if path.stem in ("b", "mpeg2") and all(types[k] == B for k in lost):
            assert hurt == []  # no frame depends on them
        elif path.stem != "refreshed":
            assert len(hurt) < 31  # they end with the next key
        assert index.damage or index.holes or min(lost) > 58
    mixed = random.Random(0).sample([*frames], 15)
    _, again = decode(tmp_path / kind, mixed)
    assert [n for n in mixed if isinstance(again[n], str)] == [n for n in mixed if isinstance(frames[n], str)]


def test_a_packet_lost_from_an_avi_costs_frames_up_to_the_next_key(tmp_path: Path) -> None:
    path = make(tmp_path / "whole.avi", 75, options=B_FRAMES)
    index, whole = decode(path)
    lost = next(int(index.shown[number]) for number in range(33, 45) if whole[number].pict_type == P)
    copy_without(path, tmp_path / "a.avi", {lost})
    index, frames = decode(tmp_path / "a.avi")
    hurt = [number for number, frame in frames.items() if isinstance(frame, str)]
    assert find_false(frames, to_rgb(whole)) == []
    assert hurt == [*range(hurt[0], 60 if hurt[-1] == 59 else 59)]
    assert (len(hurt) > 10, len(index), index.lost) == (True, 74, 0)  # the header counts an empty chunk in its place
    assert index.damage.startswith("frames are gone after frame")


@pytest.mark.parametrize("kind", ["b.ts", "hevc.ts", "mpeg2.ts"])
def test_a_transport_stream_with_lost_packets_shows_no_false_frame(kind: str, wholes: Path, tmp_path: Path) -> None:
    path, whole, _ = make_whole(wholes, kind)
    content, chance = path.read_bytes(), random.Random(1)
    for _ in range(6):
        damaged = bytearray(content)
        first, count = chance.randrange(10, len(content) // 188 - 30), chance.choice([1, 2, 20])
        del damaged[first * 188 : (first + count) * 188]
        (tmp_path / kind).write_bytes(damaged)
        index, frames = decode(tmp_path / kind)
        assert find_false(frames, whole) == [], (first, count)
        is_told = index.damage or index.holes or len(to_rgb(frames)) < len(frames)
        assert is_told or len(to_rgb(frames)) >= 74


def test_overwritten_bytes_are_told(wholes: Path, tmp_path: Path) -> None:
    path, whole, _ = make_whole(wholes, "b.ts")
    content, chance = path.read_bytes(), random.Random(2)
    for _ in range(4):
        begin = chance.randrange(len(content) // 5, len(content) * 4 // 5)
        (tmp_path / "b.ts").write_bytes(content[:begin] + bytes(4000) + content[begin + 4000 :])
        _, frames = decode(tmp_path / "b.ts")
        assert find_false(frames, whole) == [], begin
        notes = table_of(tmp_path, tmp_path, "b.ts,,,ok\n").attrs["notes"]
        assert {note.kind for note in notes} & {"damaged_video", "hole", "cut_video"}, begin


def test_an_error_that_is_told_late_counts_for_frames_before(tmp_path: Path) -> None:
    # The decoder hides errors in a P frame and tells so when it returns it: after the B frames that depend on it.
    path = make(tmp_path / "whole.mp4", 75, options=B_FRAMES)
    _, whole = decode(path)
    content, chance, hurt = path.read_bytes(), random.Random(0), 0
    sizes = len(content)
    for _ in range(8):
        begin = chance.randrange(sizes // 5, sizes * 4 // 5)
        (tmp_path / "a.mp4").write_bytes(content[:begin] + chance.randbytes(600) + content[begin + 600 :])
        index, frames = decode(tmp_path / "a.mp4")
        told = {n for n, frame in frames.items() if isinstance(frame, str)}
        hurt += bool(told)
        # Not every damage is noticed at its first frame; but a frame after one that is told is not shown.
        order = [n for n in np.argsort(index.shown).tolist() if n in told]
        assert not [n for n, _ in find_false(frames, to_rgb(whole)) if order and index.shown[n] > index.shown[order[0]]]
    assert hurt == 8


# What is not damaged.

SOUND = {
    "mbaff.ts": ("libx264", {"x264-params": "tff=1:bframes=3:threads=1"}),
    "slices.mp4": ("libx264", {"x264-params": "slices=4:bframes=3:weightp=2:threads=1"}),
    "deep.mkv": ("libx264", {"x264-params": "bframes=8:ref=8:b-pyramid=normal:keyint=infinite:threads=1"}),
    "refreshed.ts": ("libx264", {"x264-params": "intra-refresh=1:bframes=2:keyint=30:threads=1"}),
    "baseline.flv": ("libx264", {"profile": "baseline", "tune": "zerolatency"}),
    "layers.mp4": ("libx265", {"x265-params": "temporal-layers=1:bframes=4:keyint=40:log-level=none"}),
    "open.mkv": ("libx265", {"x265-params": "open-gop=1:bframes=4:keyint=25:log-level=none"}),
    "interlaced.ts": ("mpeg2video", {"bf": "2", "g": "15", "flags": "+ilme+ildct"}),
    "closed.mpg": ("mpeg2video", {"bf": "2", "g": "15", "flags": "+cgop", "sc_threshold": "1000000000"}),
    "mpeg1.mpg": ("mpeg1video", {"bf": "2", "g": "12"}),
}


@pytest.mark.parametrize("kind", SOUND)
def test_an_undamaged_video_is_whole(kind: str, tmp_path: Path) -> None:
    codec, options = SOUND[kind]
    index = assert_as_ffmpeg(make(tmp_path / kind, 70, codec=codec, options=options))
    assert len(index) == 70
    assert (index.damage, index.gaps.tolist(), index.holes) == ("", [], ())


def write_frames(path: Path, frames: list[tuple[Any, ...]], **stream: bool) -> Path:
    """Write frames of one colour into a container."""
    written = Stream(**stream)
    bare = path.with_suffix(".h264")
    bare.write_bytes(written.write_parameters() + b"".join(written.write_frame(*frame) for frame in frames))
    need_ffmpeg("-r", 25, "-f", "h264", "-i", bare, "-c", "copy", path)
    return path


def read_colours(path: Path) -> list[int]:
    return [
        int(frame.to_ndarray(format="yuv420p")[8, 8])
        for frame in decode(path)[1].values()
        if frame and not isinstance(frame, str)
    ]


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_a_frame_of_two_fields_is_one_frame(suffix: str, tmp_path: Path) -> None:
    frames = [(number % 10, 2 * (number % 10), 20 + number, number % 10 == 0) for number in range(40)]
    path = write_frames(tmp_path / f"a.{suffix}", frames, are_fields=True)
    assert assert_as_ffmpeg(path, (32, 32)).damage == ""
    assert read_colours(path) == [*range(20, 60)]
    del frames[15]
    path = write_frames(tmp_path / f"b.{suffix}", frames, are_fields=True)
    assert decode(path)[0].damage == "frames are gone after frame 14"
    assert read_colours(path) == [*range(20, 35), *range(40, 60)]


def test_numbers_may_be_left_out_where_the_stream_says_so(tmp_path: Path) -> None:
    frames = [(number % 10, 2 * (number % 10), 20 + number, number % 10 == 0) for number in range(40) if number != 15]
    allowed = write_frames(tmp_path / "allowed.mp4", frames, allows_gaps=True)
    assert assert_as_ffmpeg(allowed, (32, 32)).damage == ""
    assert len(read_colours(write_frames(tmp_path / "not.mp4", frames))) == 35


def test_numbers_may_begin_anew(tmp_path: Path) -> None:
    frames, number = [], 0
    for shown in range(40):
        resets = shown in (12, 27)
        frames.append((number, 2 * number, 20 + shown, shown == 0, resets))
        number = 1 if resets else number + 1
    index = assert_as_ffmpeg(write_frames(tmp_path / "a.mp4", frames), (32, 32))
    assert (index.damage, len(index.gaps)) == ("", 0)


# Holes in the times of frames.

FRAME = 1 / 30
NO_HOLE = {
    "constant": np.arange(300) * FRAME,
    "in milliseconds": np.round(np.arange(300) * FRAME, 3),
    "23.976 in milliseconds": np.round(np.arange(300) * 1001 / 24000, 3),
    "telecined": np.cumsum(np.tile([2, 3], 150)) / 60,
    "half the rate in the dark": np.cumsum(np.repeat([1, 2, 1], [400, 15, 400])) * FRAME,
    "jittering": np.cumsum(np.random.default_rng(0).uniform(0.8, 1.2, 300)) * FRAME,
    "jittering, with frames left out": np.delete(
        np.arange(300) * FRAME + np.random.default_rng(0).uniform(0, 0.01, 300), [80, 81, 200]
    ),
    "still for long": np.delete(np.arange(300) * FRAME, [*range(50, 90), *range(120, 190)]),
    "often still": np.delete(np.arange(300) * FRAME, np.random.default_rng(0).permutation(290)[:80] + 5),
    "two frames": np.array([0, 1]),
    "one frame": np.array([0.0]),
}


@pytest.mark.parametrize("kind", NO_HOLE)
def test_a_variable_rate_has_no_holes(kind: str) -> None:
    assert find_holes(NO_HOLE[kind], tick=1 / 90_000) == []


def test_a_constant_rate_has_holes_where_frames_are_missing() -> None:
    for digits in (3, 9):
        seconds = np.round(np.delete(np.arange(300) * FRAME, [80, 81, 200]), digits)
        assert find_holes(seconds, tick=0.001) == [(79, 2), (197, 1)]


def test_holes_are_noted(tmp_path: Path) -> None:
    options = {"deadline": "realtime", "cpu-used": "8", "g": "40"}
    whole = make(tmp_path / "whole.webm", 80, codec="libvpx", options=options)
    copy_without(whole, tmp_path / "a.webm", {38, 39})
    copy_without(whole, tmp_path / "b.webm", {79 - 40})
    table = table_of(tmp_path, tmp_path, "a.webm,,,ok\nb.webm,,,ok\nwhole.webm,,,ok\n")
    (note,) = table.attrs["notes"]
    assert (note.kind, note.count, note.example) == ("hole", 2, "a.webm (2 after frame 37)")
    assert str(note).startswith("2 videos lack frames in a constant rate: ")


def test_h264_tells_a_variable_rate_from_a_loss(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", 90, options=B_FRAMES)
    still = tmp_path / "still.mp4"
    need_ffmpeg("-i", whole, "-vf", "select='not(between(n,40,49))'", "-vsync", "passthrough", "-c:v", "libx264", still)
    index, frames = decode(still)
    assert max(np.diff(index.seconds)) > 0.3
    assert (len(to_rgb(frames)), index.damage, index.holes) == (80, "", ())
    index, frames = decode(whole)
    number = next(n for n in range(40, 60) if frames[n].pict_type == B)
    copy_without(whole, tmp_path / "b.mp4", {int(index.shown[number])})
    index, frames = decode(tmp_path / "b.mp4")
    assert (len(to_rgb(frames)), index.damage) == (89, "")
    assert index.holes == ((number - 1, 1),)

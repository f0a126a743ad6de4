"""Videos whose files say what is not so: times that are not those of the pictures, false keys, counts, other codecs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skips import need_extra
from test_video_damage import assert_as_ffmpeg, decode, decode_with_ffmpeg, need_ffmpeg, to_rgb
from test_videos import make, number_of, with_sound

from detectime.sources import mpeg, video_keys

pytestmark = pytest.mark.extra

COUNT = 45
MAX_BETWEEN = 3


def convert(target: Path, *options: str, count: int = COUNT) -> Path:
    """Encode numbered frames with ffmpeg."""
    whole = make(target.parent / "whole" / "whole.mkv", count, options={"qp": "10"})
    need_ffmpeg("-i", whole, "-pix_fmt", "yuv420p", *options, target)
    return target


def read_numbers(path: Path) -> list[int]:
    _, frames = decode(path)
    return [number_of(pixels) for pixels in to_rgb(frames).values()]


def test_a_packed_bitstream_is_in_order(tmp_path: Path) -> None:
    path = convert(tmp_path / "packed.avi", "-c:v", "libxvid", "-bf", "2", "-q:v", "2")
    index = assert_as_ffmpeg(path)
    assert index.lost == 0
    assert read_numbers(path) == list(range(len(index)))
    assert len(index) >= COUNT - 2  # the encoder keeps the last


def test_pictures_that_were_left_out_are_no_frames(tmp_path: Path) -> None:
    """MPEG-4 may say that a picture was not coded."""
    av = need_extra("av")
    given = make(tmp_path / "whole.mkv", COUNT, codec="mpeg4", options={"g": "12"})
    target, stored = tmp_path / "left_out.mkv", 0
    with av.open(str(given)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        coded = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(coded):
            empty = av.Packet(bytes.fromhex("000001b6 5047"))
            empty.time_base = packet.time_base
            for each in (packet, *([empty] if number % 10 == 5 else [])):
                each.pts = each.dts = stored * 33
                each.stream, stored = stream, stored + 1
                output.mux(each)
    assert stored > COUNT
    assert len(decode(target)[0]) == len(decode_with_ffmpeg(target)) == COUNT
    assert read_numbers(target) == list(range(COUNT))


WITHOUT_KEYS = {
    "h263.avi": ("-c:v", "h263p"),
    "msmpeg4.avi": ("-c:v", "msmpeg4"),
    "wmv2.avi": ("-c:v", "wmv2"),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-bf", "2", "-g", "12"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "keyint=15:bframes=4:log-level=none", "-tag:v", "hvc1"),
}


@pytest.mark.parametrize("name", WITHOUT_KEYS)
def test_every_packet_passes_for_a_key(name: str, tmp_path: Path) -> None:
    """A file without the list of its keys: what is read alone has the same pixels nevertheless."""
    av = need_extra("av")
    path = convert(tmp_path / name, *WITHOUT_KEYS[name], "-q:v", "2")
    path.write_bytes(path.read_bytes().replace(b"stss", b"free").replace(b"idx1", b"JUNK"))
    with av.open(str(path)) as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    index = assert_as_ffmpeg(path)
    assert len(index.keys) < COUNT / 4
    assert read_numbers(path) == list(range(COUNT))


def test_every_picture_is_a_key(tmp_path: Path) -> None:
    """Where it is so, it stays so."""
    for name, options in {"a.avi": ("mjpeg",), "b.mp4": ("mpeg4", "-g", "1"), "c.mov": ("prores_ks",)}.items():
        path = convert(tmp_path / name, "-c:v", *options, count=9)
        assert len(decode(path)[0].keys) == 9


def test_pictures_that_may_begin() -> None:
    assert mpeg.read_picture(bytes.fromhex("000001b6 1060")).is_intra  # type: ignore[union-attr]
    for kind, is_start in ((1, False), (9, False), (16, True), (19, True), (21, True), (23, True)):
        unit = bytes([kind << 1, 1, 0xAC])
        assert video_keys._starts_hevc(b"\0\0\0\2\x46\1\0\0\0\3" + unit, 4) is is_start
        assert video_keys._starts_hevc(b"\0\0\0\1\x46\1\0\0\1" + unit, 0) is is_start
    for damaged in (b"", b"\0\0\1", b"\0\0\0\0", b"\xff\xff\xff\xff\x46", b"no picture"):
        assert video_keys._starts_hevc(damaged, 0)
        assert video_keys._starts_hevc(damaged, 4) in (True, False)  # it ends


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4", "libx264"])
def test_frames_that_were_dropped_in_recording_are_not_lost(codec: str, tmp_path: Path) -> None:
    """In an AVI file they are empty chunks, which its header counts."""
    select = "select='not(eq(n,20)+eq(n,21)+eq(n,37))'"
    path = convert(tmp_path / "dropped.avi", "-vf", select, "-vsync", "passthrough", "-c:v", codec)
    index, _ = decode(path)
    assert (index.lost, index.damage, len(index)) == (0, "", COUNT - 3)
    assert read_numbers(path) == [number for number in range(COUNT) if number not in (20, 21, 37)]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    cut, _ = decode(path)
    assert 5 < cut.lost < COUNT - 5


@pytest.mark.parametrize("has_sound", [True, False])
def test_a_file_of_fragments_is_cut_off(has_sound: bool, tmp_path: Path) -> None:
    """Sound that is gone does not end the reading, and the fragment says how many frames it had."""
    sound = ("-f", "lavfi", "-i", "sine=d=3", "-c:a", "aac") if has_sound else ()
    flags = "frag_keyframe+empty_moov+default_base_moof"
    given = make(tmp_path / "whole.mkv", 90, options={"bf": "2", "g": "60"})
    path = tmp_path / "fragments.mp4"
    need_ffmpeg("-i", given, *sound, "-c:v", "copy", "-movflags", flags, path)
    assert assert_as_ffmpeg(path).lost == 0
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    index, frames = decode(path)
    assert len(index) == 60  # that of the first fragment
    assert index.lost > 5
    had = to_rgb(frames)
    assert len(had) >= len(decode_with_ffmpeg(path)) > 10
    # Of the last, those stored after the cut are missing between the others.
    assert all(number_of(pixels) == number for number, pixels in had.items() if number < len(had) - MAX_BETWEEN)


@pytest.mark.parametrize("order", ["h264 hevc", "hevc h264"])
def test_a_part_of_another_codec_follows(order: str, tmp_path: Path) -> None:
    """The pictures before it are had, all but those that the demuxer mixes up with it."""
    codecs = {"h264": ("libx264", {"bf": "3"}), "hevc": ("libx265", {"x265-params": "log-level=none"})}
    parts = [make(tmp_path / f"{name}.ts", COUNT, codec=codecs[name][0], options=codecs[name][1]) for name in codecs]
    parts = parts if order == "h264 hevc" else parts[::-1]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    index, frames = decode(path)
    assert COUNT - 3 <= len(index) <= COUNT
    assert "encoded in another way" in index.damage
    _, whole = decode(parts[0])
    expected = {number_of(pixels): pixels for pixels in to_rgb(whole).values()}
    shown = to_rgb(frames)
    assert len(shown) == len(index)
    assert all((pixels == expected[number_of(pixels)]).all() for pixels in shown.values())


def test_a_stream_that_is_announced_late(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "part.ts", 2)
    whole, _ = decode(path)
    late = tmp_path / "late.ts"
    late.write_bytes((b"\x47\x1f\xff\x10" + 184 * b"\xff") * 1500 + path.read_bytes())
    index, _ = decode(late)
    assert np.array_equal(index.shown, whole.shown)
    assert index.incomplete.tolist() == []

"""Videos of several parts that differ, and holes: what counts as one, and when frames after it are not had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_video_damage import B_FRAMES, assert_as_ffmpeg, copy_without, decode, find_false, need_ffmpeg, to_rgb
from test_videos import make, number_of, table_of

from detectime.sources.video_index import VideoIndex
from detectime.sources.video_times import Hole, find_holes, find_parts, join_parts

pytestmark = pytest.mark.extra

FRAME = 1 / 30
NO_B_FRAMES = {"bf": "0", "g": "30", "x264-params": "threads=1"}


# Parts that differ.

PAIRS: dict[str, tuple[dict[str, str], dict[str, str], float]] = {
    "faster": (B_FRAMES, NO_B_FRAMES, 2.0),
    "slower": (B_FRAMES, NO_B_FRAMES, 1 / 3),
    "without B pictures": (B_FRAMES, NO_B_FRAMES, 1.0),
    "with B pictures": (NO_B_FRAMES, B_FRAMES, 1.0),
    "with B pictures, faster": (NO_B_FRAMES, B_FRAMES, 5 / 3),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_parts_may_differ_in_rate_and_in_order(kind: str, tmp_path: Path) -> None:
    options, other, speed = PAIRS[kind]
    first = make(tmp_path / "1" / "a.ts", 40, options=options)
    second = make(tmp_path / "2" / "a.ts", 50, options=other)
    need_ffmpeg(
        *("-r", 30 * speed, "-i", second, "-c:v", "libx264", "-preset", "fast", "-bf", other["bf"]),
        *("-pix_fmt", "yuv420p", tmp_path / "3.ts"),
    )
    need_ffmpeg("-i", first, "-c", "copy", tmp_path / "0.ts")  # both begin at the same time
    path = tmp_path / "a.ts"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "3.ts").read_bytes())
    index = assert_as_ffmpeg(path)
    _, frames = decode(path)
    assert [number_of(pixels) for pixels in to_rgb(frames).values()] == [*range(40), *range(50)]
    steps = np.diff(index.seconds)
    assert np.allclose(steps[:39], FRAME, atol=1e-4)
    assert np.allclose(steps[40:], FRAME / speed, atol=1e-4)
    assert FRAME - 1e-4 <= steps[39] <= 3.01 * FRAME  # at the joint
    assert (index.damage, index.holes) == ("", ())


def test_a_clock_that_is_set_in_the_middle_of_a_group_changes_no_order() -> None:
    shown = np.array([100, 130, 20, 10, 50, 40])  # 130 is shown after the two that follow it: here, the clock was set
    decoded = np.array([90, 100, 0, 10, 20, 30])
    parts = find_parts(decoded, tick=1 / 1000)
    assert parts.tolist() == [0, 2]
    is_key = np.array([True, False, False, False, False, False])
    assert join_parts(shown, decoded, is_key, parts).tolist() == [100, 130, 130, 120, 160, 150]
    is_key[2] = True
    assert join_parts(shown, decoded, is_key, parts).tolist() == [100, 130, 150, 140, 180, 170]


# Holes.


def test_one_long_hole_counts_and_several_do_not() -> None:
    times = np.arange(120) * FRAME
    for missing in (30, 85):
        assert find_holes(np.delete(times, np.arange(missing) + 20), tick=0.001) == [(19, missing)]
    still = [*range(30, 40), *range(50, 70), *range(80, 90), *range(95, 110)]
    assert find_holes(np.delete(np.arange(400) * FRAME, np.array(still) * 3), tick=0.001) == []


def test_a_segment_that_is_gone_is_noted(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", 120, options=B_FRAMES)
    need_ffmpeg("-i", whole, "-c", "copy", "-f", "segment", "-segment_time", 1, tmp_path / "part%d.ts")
    parts = [part.read_bytes() for part in sorted(tmp_path.glob("part?.ts"))]
    (tmp_path / "a.ts").write_bytes(parts[0] + b"".join(parts[2:]))
    (note,) = table_of(tmp_path, tmp_path, "a.ts,,,ok\n").attrs["notes"]
    assert (note.kind, note.example) == ("hole", "a.ts (30 after frame 29)")


def test_the_note_says_how_many_holes_and_what_they_may_mean(tmp_path: Path) -> None:
    options = {"deadline": "realtime", "cpu-used": "8", "g": "20"}
    whole = make(tmp_path / "whole.webm", 120, codec="libvpx", options=options)
    copy_without(whole, tmp_path / "a.webm", {30, 31, 90})
    (note,) = table_of(tmp_path, tmp_path, "a.webm,,,ok\n").attrs["notes"]
    assert (note.kind, note.example) == ("hole", "a.webm (2 after frame 29, the first of 2 holes)")
    assert "frames after them may be wrong" in str(note)
    whole = make(tmp_path / "whole.mp4", 90, options=B_FRAMES)
    index, frames = decode(whole)
    number = next(n for n in range(40, 60) if frames[n].pict_type == 3)
    copy_without(whole, tmp_path / "b.mp4", {int(index.shown[number])})
    (note,) = table_of(tmp_path, tmp_path, "b.mp4,,,ok\n").attrs["notes"]
    assert note.kind == "hole"
    assert "wrong" not in str(note)


def test_the_beginning_of_a_file_has_no_hole(tmp_path: Path) -> None:
    index, _ = decode(make(tmp_path / "a.avi", 60, codec="mpeg1video", options={"bf": "2", "g": "12"}))
    assert (index.damage, index.holes) == ("", ())
    whole = make(tmp_path / "whole.ts", 60, codec="mpeg2video", options={"bf": "2", "g": "12"})
    # The picture that the first two depend on is stored before them.
    copy_without(whole, tmp_path / "a.ts", {*range(11)})
    assert decode(tmp_path / "a.ts")[0].holes == ()


LOSSES: dict[str, tuple[str, dict[str, str], range]] = {
    "delay.ts": ("mpeg2video", {"bf": "0", "g": "12"}, range(38, 50)),
    "b.ts": ("mpeg2video", {"bf": "2", "g": "12"}, range(34, 46)),
    "b.mp4": ("mpeg4", {"bf": "2", "g": "30"}, range(40, 47)),
}


def lose(kind: str, folder: Path) -> tuple[VideoIndex, dict[int, Any]]:
    codec, options, lost = LOSSES[kind]
    whole = make(folder / f"whole.{kind}", 90, codec=codec, options=options)
    _, expected = decode(whole)
    copy_without(whole, folder / kind, set(lost))
    index, frames = decode(folder / kind)
    assert find_false(frames, to_rgb(expected)) == []
    return index, frames


@pytest.mark.parametrize("kind", LOSSES)
def test_a_long_hole_in_mpeg_costs_frames_up_to_the_next_key(kind: str, tmp_path: Path) -> None:
    index, frames = lose(kind, tmp_path)
    assert index.damage.startswith("frames are gone after frame ")
    unreadable = [number for number, frame in frames.items() if isinstance(frame, str)]
    assert 0 < len(unreadable) <= 25
    assert unreadable[-1] < 70


def test_mpeg4_without_b_pictures_may_come_from_a_camera_that_left_frames_out(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", 90, options=B_FRAMES)
    left_out = tmp_path / "a.mp4"
    select = "select='not(between(n,40,46))'"
    need_ffmpeg("-i", whole, "-vf", select, "-vsync", "passthrough", "-c:v", "mpeg4", "-q:v", 2, left_out)
    index, frames = decode(left_out)
    assert (index.damage, len(to_rgb(frames)), index.holes) == ("", 83, (Hole(39, 7),))
    (note,) = table_of(tmp_path, tmp_path, "a.mp4,,,ok\n").attrs["notes"]
    assert (note.kind, "frames after them may be wrong" in note.text) == ("hole", True)


def test_in_a_program_stream_a_loss_is_before_packets_without_a_time(tmp_path: Path) -> None:
    # Several small pictures are in one packet of the container, which states the time of the first alone.
    whole = make(tmp_path / "whole.mpg", 90, codec="mpeg2video", options={"bf": "0", "g": "12"})
    _, expected = decode(whole)
    for first in (49, 50, 51):
        copy_without(whole, tmp_path / "a.mpg", {*range(first, first + 12)})
        index, frames = decode(tmp_path / "a.mpg")
        assert find_false(frames, to_rgb(expected)) == [], first
        assert index.damage.startswith("frames are gone after frame "), first
        assert len(to_rgb(frames)) >= 60, first


def test_frames_that_a_program_left_out_of_an_avi_are_no_loss(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", 90, options=B_FRAMES)
    select = "select='not(eq(n,40)+eq(n,41)+eq(n,77))'"
    need_ffmpeg("-i", whole, "-vf", select, "-vsync", "passthrough", "-c:v", "mpeg4", "-q:v", 2, tmp_path / "a.avi")
    index, frames = decode(tmp_path / "a.avi")
    assert (index.damage, len(to_rgb(frames)), index.holes) == ("", 87, (Hole(39, 2), Hole(74, 1)))

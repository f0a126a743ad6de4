"""`hands.json`, byte by byte."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from conftest import Box, make_detection, make_detection_row, make_detections_table, make_frame_table

from detectime import pairing
from detectime.config import PairingConfig
from detectime.exports import hands_json
from detectime.storage.store import StoreError

HAND = (10.5, 20, 30, 40)
FAR: Box = (70, 20, 90, 40)  # overlaps the square of coefficient 2.5 around a face at `HAND`, not that of 1.5
NAMES = ['a "quoted"\\name.jpg', "a\nnewline\tand\r\0 controls.jpg", "😀/ünï.jpg", "</script><b>.jpg", "x" * 10_000]


def make_samples(frames: list[dict[str, Any]], fallback: Literal["none", "wider", "frame"] = "none") -> pd.DataFrame:
    """Pair frames that each have a face and a hand at `HAND`, unless they have `faces` or `hands`."""
    detections = make_detections_table(
        *(make_detection_row(f["frame_path"], f.pop("faces", [HAND]), f.pop("hands", [HAND])) for f in frames)
    )
    return pairing.pair_frames(make_frame_table(frames), detections, PairingConfig(fallback=fallback))


def test_the_bytes_are_those_of_json_dumps(tmp_path: Path) -> None:
    samples = make_samples(
        [
            {"frame_path": "v2/7.jpg", "video_name": "v2", "frame_id": 7, "class_name": "like"},
            {"frame_path": "v1/1.jpg", "hands": []},
            {"frame_path": "v1/3.jpg", "wanted": False},
            *({"frame_path": name, "video_name": name, "class_name": "mute"} for name in NAMES),
        ]
    )
    keys = ("frame_path", "video_name", "frame_id", "label", "bbox")
    expected = [
        dict(zip(keys, ("v2/7.jpg", "v2", 7, 5, [10, 20, 30, 40]), strict=True)),
        *(dict(zip(keys, (name, name, 0, 3, [0, 0, 51, 60]), strict=True)) for name in NAMES),
    ]
    path = tmp_path / "new folder" / "hands.json"
    assert hands_json.write_hands_json(samples, path) == len(expected)
    assert path.read_bytes() == json.dumps(expected, indent=4).encode()


def test_chunks_join_to_the_bytes_of_json_dumps() -> None:
    samples = make_samples([{"frame_path": f"{k}.jpg", "frame_id": k} for k in range(7)])
    whole = b"".join(hands_json.encode_samples(samples))
    assert json.dumps(json.loads(whole), indent=4).encode() == whole
    for rows in (1, 3, 7):
        assert b"".join(hands_json.encode_samples(samples, rows)) == whole


@pytest.mark.parametrize(
    ("fallback", "names"),
    [("none", ["near.jpg"]), ("wider", ["wider.jpg", "near.jpg"]), ("frame", ["alone.jpg", "wider.jpg", "near.jpg"])],
)
def test_hands_of_a_fallback_are_samples(
    fallback: Literal["none", "wider", "frame"], names: list[str], tmp_path: Path
) -> None:
    frames = [
        {"frame_path": "alone.jpg", "faces": [], "hands": [make_detection(FAR, stage="fallback")]},
        {"frame_path": "wider.jpg", "hands": [FAR]},
        {"frame_path": "nothing.jpg", "hands": []},
        {"frame_path": "near.jpg"},
    ]
    path = tmp_path / "hands.json"
    assert hands_json.write_hands_json(make_samples(frames, fallback), path) == len(names)
    boxes = {"alone.jpg": list(FAR), "wider.jpg": list(FAR), "near.jpg": [10, 20, 30, 40]}
    written = [(sample["frame_path"], sample["bbox"]) for sample in json.loads(path.read_bytes())]
    assert written == [(name, boxes[name]) for name in names]


def test_writing_again_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hands.json"
    for _ in range(2):
        hands_json.write_hands_json(make_samples([{"frame_path": "a.jpg"}]), path)
    assert len(json.loads(path.read_bytes())) == 1


def test_without_samples_the_list_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "hands.json"
    assert hands_json.write_hands_json(make_samples([{"frame_path": "a.jpg", "hands": []}]), path) == 0
    assert path.read_bytes() == json.dumps([], indent=4).encode()


@contextmanager
def limit_file_size(limit: int) -> Iterator[None]:
    """Make the system refuse to write longer files, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "hands.json"
    hands_json.write_hands_json(make_samples([{"frame_path": "a.jpg"}]), path)
    before = path.read_bytes()
    with limit_file_size(50_000), pytest.raises(StoreError, match=r"hands\.json: cannot be written"):
        hands_json.write_hands_json(make_samples([{"frame_path": f"{i}.jpg"} for i in range(1000)]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

"""The import paths of the 2021 notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import draw_pattern, encode_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import definitions
from detectime.augmentations import result_crop
from detectime.utils import convert_dict_to_tuple, read_image

FRAME = np.zeros((480, 640, 3), np.uint8)


@pytest.mark.parametrize(
    ("box", "coefficient", "expected"),
    [
        pytest.param([300, 200, 40, 60], 1.5, (230, 140, 410, 320), id="inside"),
        pytest.param([20, 200, 100, 120], 1.5, (0, 80, 250, 440), id="over the left"),
        pytest.param([600, 440, 40, 40], 1.5, (560, 400, 640, 480), id="over the right and the bottom"),
        pytest.param([0, 0, 640, 480], 1.5, (0, 0, 640, 480), id="everything"),
        pytest.param([10, 10, 3, 2], 0.5, (10, 9, 13, 13), id="halves outwards"),
        pytest.param(np.array([300, 200, 40, 60], np.int32), 0.5, (290, 200, 350, 260), id="numpy"),
    ],
)
def test_the_square_is_clipped(box: Any, coefficient: float, expected: tuple[int, ...]) -> None:
    found = result_crop(FRAME, box, crop_coefficient=coefficient)
    assert found == expected
    assert all(type(value) is int for value in found)


def test_the_default_coefficient() -> None:
    assert result_crop(FRAME, [300, 200, 40, 60]) == (230, 140, 410, 320)


@given(st.lists(st.integers(0, 400), min_size=4, max_size=4), st.floats(0.1, 20))
def test_any_square_is_inside_the_frame(box: list[int], coefficient: float) -> None:
    x1, y1, x2, y2 = result_crop(FRAME, box, crop_coefficient=coefficient)
    assert 0 <= x1 <= x2 <= 640
    assert 0 <= y1 <= y2 <= 480


def test_an_image_is_read_as_stored_in_rgb(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "turned.png").write_bytes(encode_image(draw_pattern(), exif=turned))
    for path in (tmp_path / "turned.png", str(tmp_path / "turned.png")):
        found = read_image(path)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, draw_pattern())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "the file is empty"),
        (b"hello", "not an image"),
        (encode_image(draw_pattern(), "JPEG")[:-200], "truncated"),
    ],
    ids=["missing", "empty", "text", "cut"],
)
def test_an_unreadable_file_is_named(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=f"{tmp_path / 'a.jpg'}: .*{reason}"):
        read_image(str(tmp_path / "a.jpg"))


def test_a_configuration_becomes_named_tuples() -> None:
    assert convert_dict_to_tuple(dictionary={"a": {"b": 1}}).a.b == 1
    config = convert_dict_to_tuple(dictionary=yaml.safe_load(definitions.CONFIG.read_text()))
    assert config.detection.quality == "balanced"
    assert config.pairing.enlarged_classes == ["mute"]
    assert isinstance(config.labels, tuple)


@pytest.mark.parametrize("key", ["class", "two words", "_hidden", ""])
def test_an_invalid_field_name_is_rejected(key: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)field names"):
        convert_dict_to_tuple({key: 1})

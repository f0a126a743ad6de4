"""Situations that people reported elsewhere, as ../shared/cases makes them: understood, or told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from faults import make_config
from skips import need_extra

from detectime import sources
from detectime.errors import DocumentedError
from detectime.labels import frame_table


def make_case(name: str, shared: Path, folder: Path) -> Path:
    """Run a script of the shared cases in a new folder; returns the folder."""
    script = shared / "cases" / f"{name}.py"
    if not script.is_file():
        pytest.skip("the shared folder lacks cases")
    subprocess.run([sys.executable, script.name, str(folder)], cwd=script.parent, check=True, capture_output=True)
    return folder


def read(folder: Path, labels: str, images: str = "images", **settings: str) -> pd.DataFrame:
    config = make_config(images=str(folder / images), labels=str(folder / labels), **settings)
    source = sources.open_source(config.data.images, config.data.source_type)
    return frame_table.read_labels(config, source)


def refuse(folder: Path, labels: str, images: str = "images", **settings: str) -> str:
    with pytest.raises(DocumentedError) as error:
        read(folder, labels, images, **settings)
    return str(error.value)


def list_kinds(table: pd.DataFrame) -> list[str]:
    return [note.kind for note in table.attrs["notes"]]


@pytest.mark.extra
def test_06_span_columns(shared: Path, tmp_path: Path) -> None:
    need_extra("av")
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    folder = make_case("06_span_columns", shared, tmp_path)
    table = read(folder, "t.csv", "clips", source="videos")
    assert len(table) == 5
    assert list_kinds(table) == ["other_spelling"]


def test_07_a_person_in_three_spellings(shared: Path, tmp_path: Path) -> None:
    table = read(make_case("07_person_in_three_spellings", shared, tmp_path), "t.csv")
    assert table["video_name"].nunique() == 1
    assert list_kinds(table) == ["respelled_group"]


def test_09_images_beside_their_archive(shared: Path, tmp_path: Path) -> None:
    folder = make_case("09_flat_folder_beside_its_zip", shared, tmp_path)
    reason = refuse(folder, "t.csv")
    assert "source_type: folder" in reason
    assert "source_type: archives" in reason
    for source_type in ("folder", "archives"):
        assert read(folder, "t.csv", source=source_type)["on_disk"].all()


def test_13_images_in_a_column_called_file(shared: Path, tmp_path: Path) -> None:
    folder = make_case("13_file_column_of_images", shared, tmp_path)
    assert "frame_path" in refuse(folder, "t.csv")


@pytest.mark.extra
def test_13_images_are_no_videos(shared: Path, tmp_path: Path) -> None:
    need_extra("av")
    folder = make_case("13_file_column_of_images", shared, tmp_path)
    assert "the file is an image; list images in a csv with frame_path" in refuse(folder, "t.csv", source="videos")


def test_16_decomposed_names(shared: Path, tmp_path: Path) -> None:
    folder = make_case("16_decomposed_names", shared, tmp_path)
    table = read(folder, "t.csv")
    assert table["on_disk"].all()
    assert list_kinds(table) == ["respelled"]
    frames = sources.open_source(str(folder / "images")).read_frames(table["frame_path"])
    assert all(isinstance(content, bytes) for _, content in frames)


def test_17_records_of_hagrid(shared: Path, tmp_path: Path) -> None:
    folder = make_case("17_hagrid_records", shared, tmp_path)
    assert read(folder, "number")["video_name"].tolist() == ["17"]
    assert read(folder, "key")["on_disk"].tolist() == [True]
    assert "pixels" in refuse(folder, "pixels")
    assert "ok.json" in refuse(folder, "empty")
    table = read(folder, "editions")
    assert len(table) == 1
    assert "editions" in list_kinds(table)


def test_18_messages_of_csv(shared: Path, tmp_path: Path) -> None:
    folder = make_case("18_messages_of_csv", shared, tmp_path)
    assert "row 1 (row 1 follows the header) has 6 values, the header 5" in refuse(folder, "comma.csv")
    assert list_kinds(read(folder, "commas.csv")) == ["empty_columns"]
    assert "Excel workbook (.xlsx)" in refuse(folder, "book.csv")
    assert "for videos rename 'video' to file" in refuse(folder, "video.csv")


@pytest.mark.extra
def test_18_videos_without_a_column_file(shared: Path, tmp_path: Path) -> None:
    need_extra("av")
    folder = make_case("18_messages_of_csv", shared, tmp_path)
    assert "column file is missing; did you mean 'video'?" in refuse(folder, "video.csv", source="videos")

"""List the frames that a variant lost, and draw them, so that each can be looked at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks.worlds import World
from detectime import evaluation
from detectime.images import RGB
from detectime.schema import CORNERS

_TILE, _CAPTION = 320, 36  # pixels
_COLUMNS, _ROWS = 5, 4  # tiles of a sheet
_CONTEXT = 0.4  # shown around the boxes, as a share of their longer side
_TRUE, _SAMPLE, _FACE = (40, 200, 40), (40, 40, 230), (230, 140, 30)  # blue, green, red


def select_wrong(frames: pd.DataFrame) -> pd.DataFrame:
    """Return the frames without a correct sample, of what `worlds.score_variant` returned."""
    return frames[~(frames["iou"] >= evaluation.CORRECT)]


def write_table(wrong: pd.DataFrame, output: Path) -> Path:
    """Write the wrong frames of all variants as a csv, and return its path."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "wrong_frames.csv"
    first = ["world", "variant", "frame_path", "person", "outcome", "iou"]
    ordered = wrong[[*first, *(name for name in wrong.columns if name not in first)]]
    ordered.to_csv(path, index=False, float_format="%.3f", lineterminator="\n")
    return path


def write_sheets(world: World, variant: str, wrong: pd.DataFrame, output: Path) -> list[Path]:
    """Draw the wrong frames of a variant on contact sheets, and return their paths.

    A tile shows the truth in green, the sample in red and the largest face in blue.

    Parameters
    ----------
    world
        Of the frames.
    variant
        Its name, for the names of the files.
    wrong
        What `select_wrong` returned.
    output
        The folder. Sheets of the same variant and world that an earlier call left there are removed.
    """
    output.mkdir(parents=True, exist_ok=True)
    stem = "-".join(re.sub(r"\W+", "_", name).strip("_") for name in (world.frames.title, variant))
    for old in output.glob(f"{stem}-[0-9].jpg"):
        old.unlink()
    truth = world.truth
    sheets: list[Path] = []
    for start in range(0, len(wrong), _COLUMNS * _ROWS):
        tiles = [
            _draw_tile(world, row, truth.loc[truth["frame_path"] == row["frame_path"], list(CORNERS)].to_numpy())
            for _, row in wrong.iloc[start : start + _COLUMNS * _ROWS].iterrows()
        ]
        sheets.append(output / f"{stem}-{len(sheets) + 1}.jpg")
        cv2.imwrite(str(sheets[-1]), _lay_out(tiles), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return sheets


def _draw_tile(world: World, row: pd.Series, truth: np.ndarray) -> RGB:
    """Return the part of a frame around all boxes, with the boxes and a caption, in BGR."""
    path = world.frames.images / row["frame_path"]
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None, path
    faces = world.faces.loc[world.faces.index == row["frame_path"], list(CORNERS)].to_numpy()
    hand = row[[f"hand_{corner}" for corner in CORNERS]].to_numpy(np.float64)[None]
    kinds = [(_FACE, faces), (_TRUE, truth), (_SAMPLE, hand)]
    boxes = [(colour, box) for colour, found in kinds for box in found if not np.isnan(box).any()]
    every = np.array([box for _, box in boxes] or [(0, 0, *image.shape[1::-1])])
    low, high = every[:, :2].min(axis=0), every[:, 2:].max(axis=0)
    context = _CONTEXT * (high - low).max()
    x1, y1 = np.maximum(low - context, 0).astype(int)
    x2, y2 = np.minimum(high + context, image.shape[1::-1]).astype(int)
    scale = _TILE / max(x2 - x1, y2 - y1)
    part = cv2.resize(image[y1:y2, x1:x2], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.full((_TILE + _CAPTION, _TILE, 3), 255, np.uint8)
    for colour, box in boxes:
        corners = ((box - (x1, y1, x1, y1)) * scale).round().astype(int).tolist()
        cv2.rectangle(part, corners[:2], corners[2:], colour, 2)
    tile[: part.shape[0], : part.shape[1]] = part[:_TILE, :_TILE]
    name = Path(row["frame_path"])
    told = [row["outcome"], *(row[column] for column in ("fallback", "found_by") if pd.notna(row[column]))]
    told += [f"IoU {row['iou']:.2f}"] if pd.notna(row["iou"]) else []
    lines = (f"{name.parent}/{name.stem[:8]} face {row['face_size']:.0f}", " ".join(told))
    for k, line in enumerate(lines):
        cv2.putText(tile, line, (4, _TILE + 14 + 16 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return tile


def _lay_out(tiles: Sequence[RGB]) -> RGB:
    """Return the tiles in rows."""
    height, width = _TILE + _CAPTION, _TILE
    rows = -(-len(tiles) // _COLUMNS)
    sheet = np.full((rows * height, min(len(tiles), _COLUMNS) * width, 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        row, column = divmod(k, _COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return sheet

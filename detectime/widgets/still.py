"""The static picture of a widget: what is left of it without a kernel, as in a saved notebook or on GitHub."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd

from detectime.images import RGB
from detectime.report.thumbnails import Thumbnails, make_thumbnails
from detectime.report.varied_frames import choose_frames
from detectime.runs import FinishedRun
from detectime.widgets.pictures import SMALL, Wish, encode_jpeg
from detectime.widgets.run_frames import RunFrames, get_size, list_pair

_MOST = 12  # frames
_COLUMNS = 6
_CELL = 150, 113  # pixels: width and height
_GAP = 6
_GROUND = 128, 134, 142  # a grey that suits light and dark pages
_COLORS = {"face": (63, 184, 230), "bbox": (255, 131, 80), "hand": (255, 194, 51)}
_FIGURE = """
<figure data-detectime-still="{key}" style="margin: 0;">
<img src="{picture}" alt="{text}" style="max-width: 100%; height: auto;">
<figcaption>{text}</figcaption></figure>
"""


@dataclass(frozen=True)
class Still:
    """A picture of some frames, and a sentence.

    Attributes
    ----------
    jpeg
        The picture; empty if no frame can be shown.
    text
        What the widget is about, and what to do to use it.
    """

    jpeg: bytes
    text: str

    @property
    def uri(self) -> str:
        """The picture as a data URI; empty if there is none."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}" if self.jpeg else ""

    def make_bundle(self, key: str) -> dict[str, Any]:
        """Return what a notebook shows, by MIME type.

        Parameters
        ----------
        key
            By which the live widget finds and hides the figure.
        """
        if not self.jpeg:
            page = f'<p data-detectime-still="{html.escape(key)}">{html.escape(self.text)}</p>'
            return {"text/html": page, "text/plain": self.text}
        values = {"key": html.escape(key), "picture": self.uri, "text": html.escape(self.text)}
        return {"text/html": _FIGURE.format(**values), "text/plain": self.text}


def make_still(run: FinishedRun, frames: RunFrames, rows: pd.DataFrame, text: str, *, varied: bool = True) -> Still:
    """Draw some frames with the boxes of their samples, side by side.

    Parameters
    ----------
    run, frames
        The run, and what the widget shows of it.
    rows
        Rows of `frames.samples`, of which up to twelve are drawn.
    text
        The sentence.
    varied
        Whether to choose frames that differ; otherwise the first ones are drawn.

    Returns
    -------
    Still
        Frames that cannot be read are left out.
    """
    (chosen,) = choose_frames(run, [rows], [_MOST], [varied])
    wishes = [Wish(int(row), SMALL) for row in chosen.index]
    tasks = {wish: task for wish in wishes if not isinstance(task := frames.make_task(wish), str)}
    made = make_thumbnails(run, list(tasks.values()))
    cells = [
        _draw_cell(frames.get_row(wish.row), made[task.frame_path])
        for wish, task in tasks.items()
        if made[task.frame_path].fault is None
    ]
    sheet = _join_cells(cells)
    return Still(encode_jpeg(sheet, max(sheet.shape[:2]), 0) if cells else b"", text)


def _draw_cell(row: Mapping[str, Any], made: Thumbnails) -> RGB:
    """Return a thumbnail with its boxes, in the middle of a cell."""
    (uri,) = made.pictures.values()
    encoded = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)  # made here, by a worker
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    pixels = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    width, height = _CELL
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    picture = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    frame_size = get_size(row) or made.size
    for box in list_pair(row):
        x1, y1, x2, y2 = (np.array(box["corners"]) * size[0] / frame_size[0]).round().astype(int).tolist()  # type: ignore[index]
        cv2.rectangle(picture, (x1, y1), (x2, y2), _COLORS[box["kind"]], 2)
    cell = np.full((height, width, 3), _GROUND, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = picture
    return cell


def _join_cells(cells: Sequence[RGB]) -> RGB:
    """Return cells in rows, with gaps."""
    columns, lines = min(_COLUMNS, max(1, len(cells))), max(1, math.ceil(len(cells) / _COLUMNS))
    width, height = _CELL
    sheet = np.full((lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for k, cell in enumerate(cells):
        top, left = k // _COLUMNS * (height + _GAP), k % _COLUMNS * (width + _GAP)
        sheet[top : top + height, left : left + width] = cell
    return sheet

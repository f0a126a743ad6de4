"""The contact sheet: a picture of some crops of each class, for the dataset card."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from detectime.images import RGB
from detectime.storage.store import Store

FILE_NAME = "contact_sheet.jpg"

_MOST_BYTES = 300_000  # of the contact sheet
_MOST_CLASSES, _MOST_CROPS = 60, 8  # rows and columns of the contact sheet
_SIDES, _QUALITIES = (112, 80, 56, 40, 28), (85, 70, 50)  # pixels of its cells, and JPEG's quality: tried in turn
_MARGIN, _TEXT_WIDTH = 4, 160  # pixels


def write_contact_sheet(store: Store, crops: Mapping[str, Sequence[RGB]]) -> None:
    """Write ``contact_sheet.jpg``, at most 300 kB: one row of crops for each class. It shows people.

    Parameters
    ----------
    store
        The folder of the export.
    crops
        For each class, in the order of the rows, some crops: uint8, shape (height, width, 3), red first. Only the first
        eight are shown; after 60 classes, the last row says how many are left out.

    Raises
    ------
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from detectime.storage.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_contact_sheet(store, {"ok": [np.zeros((60, 40, 3), np.uint8)]})
    ...     store.get("contact_sheet.jpg")[:3]
    b'\\xff\\xd8\\xff'
    """
    for side in _SIDES:
        sheet = _draw_sheet(crops, side)
        for quality in _QUALITIES:
            encoded = io.BytesIO()
            sheet.save(encoded, "JPEG", quality=quality)
            if encoded.tell() <= _MOST_BYTES:
                store.put(FILE_NAME, encoded.getvalue())
                return
    raise AssertionError("the smallest sheet is always small enough")


def _draw_sheet(crops: Mapping[str, Sequence[RGB]], side: int) -> Image.Image:
    """Draw one row for each class, with its name at the left and cells of `side` pixels."""
    shown = [(name, row[:_MOST_CROPS]) for name, row in list(crops.items())[:_MOST_CLASSES]]
    columns = max((len(row) for _, row in shown), default=0)
    step = side + _MARGIN
    left_out = len(crops) - len(shown)
    rows = len(shown) + bool(left_out)
    sheet = Image.new("RGB", (_TEXT_WIDTH + max(1, columns) * step, max(1, rows) * step + _MARGIN), "white")
    for number, (name, row) in enumerate(shown):
        _write_name(sheet, name, number * step + _MARGIN, side)
        for column, crop in enumerate(row):
            _paste_crop(sheet, crop, (_TEXT_WIDTH + column * step, number * step + _MARGIN), side)
    if left_out:
        _write_name(sheet, f"and {left_out:,} more", len(shown) * step + _MARGIN, side)
    return sheet


def _write_name(sheet: Image.Image, name: str, top: int, side: int) -> None:
    """Write the name of a class at the left of its row, shortened to fit."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # beside Latin it has Greek, Cyrillic …
    font = ImageFont.truetype(path, min(16, side // 2))
    plain = "".join(character for character in name if unicodedata.category(character)[0] != "C")
    while plain and font.getlength(f"{plain}…") > _TEXT_WIDTH - 2 * _MARGIN:
        plain = plain[:-1]
    text = plain if len(plain) == len(name) else f"{plain}…"
    ImageDraw.Draw(sheet).text((_MARGIN, top + side // 2), text, fill="black", font=font, anchor="lm")


def _paste_crop(sheet: Image.Image, crop: RGB, place: tuple[int, int], side: int) -> None:
    """Paste a crop into the middle of a cell, in its own proportions."""
    picture = Image.fromarray(crop)
    picture.thumbnail((side, side))
    x, y = place
    sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))

"""What XML 1.0 cannot hold, for the formats that are written in it."""

from __future__ import annotations

import re

from detectime.exports.contract import ExportData
from detectime.notes import shorten_text

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def find_character_fault(text: str) -> str | None:
    r"""Say which character of a text XML 1.0 cannot hold; None if it holds all.

    Examples
    --------
    >>> find_character_fault("<ok>"), find_character_fault("bell\a")
    (None, 'XML 1.0 cannot hold the character U+0007')
    """
    found = _NOT_IN_XML.search(text)
    return f"XML 1.0 cannot hold the character U+{ord(found[0]):04X}" if found else None


def find_path_fault(data: ExportData) -> str | None:
    r"""Say which path of a frame XML 1.0 cannot hold; None if it holds all, as those of exported pictures.

    Examples
    --------
    >>> import pandas as pd
    >>> images = pd.DataFrame({"file": ["a.jpg", "bell\a.jpg"]})
    >>> print(find_path_fault(ExportData(images, images, (), {})))
    'bell\x07.jpg': XML 1.0 cannot hold the character U+0007; rename the file, or export with images = frames
    """
    if data.pictures != "none":
        return None
    for file in data.images["file"].tolist():
        fault = find_character_fault(file)
        if fault:
            return f"{shorten_text(file)}: {fault}; rename the file, or export with images = frames"
    return None

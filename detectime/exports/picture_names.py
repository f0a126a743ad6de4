"""Names of the pictures of an export."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from detectime.exports.contract import ExportError

_NAME_LENGTH = 80  # characters of a name, without its hash
_HASH_LENGTH = 10  # hexadecimal digits


def name_pictures(frame_paths: Iterable[str]) -> list[str]:
    """Return the name of the picture of each frame: readable, and different for every `frame_path`.

    Parameters
    ----------
    frame_paths
        Paths of frames.

    Returns
    -------
    list of str
        Of each path without its ending, what consists of ASCII letters, digits, ``-`` and ``_``, followed by ten digits
        of its sha256.

    Raises
    ------
    ExportError
        If two frames get the same name; the message names both.

    Examples
    --------
    >>> name_pictures(["anna/0001.jpg", "anna_0001.jpg"])
    ['anna-0001-e1557f0677', 'anna_0001-5bae87a8c7']
    """
    names: list[str] = []
    seen: dict[str, str] = {}
    for frame_path in frame_paths:
        name = _name_picture(frame_path)
        first = seen.setdefault(name.lower(), frame_path)
        if first != frame_path:
            raise ExportError(f"{first!r} and {frame_path!r} would both be exported as {name}; rename one of them")
        names.append(name)
    return names


def _name_picture(frame_path: str) -> str:
    stem = re.sub(r"\.[^./]*$", "", frame_path)
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-")[-_NAME_LENGTH:].lstrip("-")
    digest = hashlib.sha256(frame_path.encode(errors="surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{readable}-{digest}" if readable else digest

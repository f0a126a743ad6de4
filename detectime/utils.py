"""Keeps two import paths of the notebook of 2021; the real homes are `detectime.images` and `detectime.config`."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectime import images
from detectime.images import RGB


def read_image(path: str | os.PathLike[str]) -> RGB:
    """Read an image file: RGB, uint8, shape (H, W, 3), EXIF orientation ignored.

    Raises
    ------
    ValueError
        If it cannot be read; the message names the path.
    """
    try:
        return images.decode_image(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except images.UnreadableImageError as error:
        raise ValueError(f"{path}: {error}") from error


def convert_dict_to_tuple(dictionary: Mapping[str, Any]) -> Any:
    """Return a mapping as a named tuple, mappings in it too: ``convert_dict_to_tuple({"a": {"b": 1}}).a.b == 1``.

    Raises
    ------
    ValueError
        If a key cannot be the name of a field.
    """
    values = (convert_dict_to_tuple(v) if isinstance(v, Mapping) else v for v in dictionary.values())
    return namedtuple("Config", dictionary)(*values)

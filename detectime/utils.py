"""Import paths of the 2021 notebook; the code is in `detectime.images` and `detectime.config`.

Importing this module installs the patch of `detectime.detectors.face_detection_patch`.
"""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectime import images
from detectime.detectors import face_detection_patch
from detectime.images import RGB

face_detection_patch.install_patch()


def read_image(path: str | os.PathLike[str]) -> RGB:
    """Read an image file as RGB, uint8, shape (H, W, 3), ignoring its EXIF orientation.

    Raises
    ------
    ValueError
        If the file cannot be read or decoded; the message names the path.

    Examples
    --------
    >>> from detectime.paths import SAMPLE
    >>> read_image(SAMPLE / "TRAIN_DATA" / "stop_01" / "0001.jpg").dtype
    dtype('uint8')
    """
    try:
        return images.decode_image(Path(path).read_bytes(), exif="ignore")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except images.UnreadableImageError as error:
        raise ValueError(f"{path}: {error}") from error


def convert_dict_to_tuple(dictionary: Mapping[str, Any]) -> Any:
    """Convert a mapping, including nested mappings, to named tuples.

    Raises
    ------
    ValueError
        If a key is not a valid field name.

    Examples
    --------
    >>> convert_dict_to_tuple({"labels": {"stop": 1}}).labels.stop
    1
    """
    values = (convert_dict_to_tuple(v) if isinstance(v, Mapping) else v for v in dictionary.values())
    return namedtuple("Config", dictionary)(*values)

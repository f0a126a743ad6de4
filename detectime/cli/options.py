"""Options of the command line, made from the fields of settings classes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

from detectime import config as configuration
from detectime import paths


def add_section(group: Any, section: type, texts: Mapping[str, str], skipped: Collection[str] = ()) -> None:
    """Add an option for each key of a settings class.

    Parameters
    ----------
    group
        The parser, or a group of its options.
    section
        A dataclass of settings.
    texts
        The description of each key.
    skipped
        Keys without an option.
    """
    hints = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        if field.name not in skipped:
            _add_option(group, field, hints[field.name], texts.get(field.name, ""))


def add_truth_options(command: Any) -> None:
    """Add the options that give annotated boxes: see `truth.read_truth`."""
    command.add_argument(
        "--truth",
        metavar="PATH",
        help="annotated boxes to compare with: COCO, Pascal VOC, YOLO, CVAT, HaGRID or a truth.json (default: "
        "data.truth of the run, boxes of the labels, or a truth.json beside them); for a report also `reviewed`",
    )
    command.add_argument("--truth-format", metavar="FORMAT", help="its format, if it is not recognised")
    command.add_argument(
        "--truth-pixels",
        choices=("upright", "stored"),
        help="the pixels of its boxes: as viewers show the frames, or as the files hold them before EXIF rotates them",
    )


def _add_option(group: Any, field: dataclasses.Field[Any], hint: Any, text: str) -> None:
    default = _describe_default(field)
    options: dict[str, Any] = {"nargs": "?", "const": "true"} if hint is bool else {}
    group.add_argument(
        f"--{field.name.replace('_', '-')}",
        dest=field.name,
        metavar=_choose_metavar(field.name, hint),
        type=lambda value: _convert_value(value, hint),
        help=f"{text} (default: {default})".replace("%", "%%"),
        **options,
    )


def _choose_metavar(name: str, hint: Any) -> str:
    known = {"images": "DIR", "labels": "CSV", "output": "DIR", "face_cache": "FILE", "truth": "PATH"}
    kinds = _list_kinds(hint)
    if name in known and not _list_words(hint):
        return known[name]
    return next((label for kind, label in ((bool, "BOOL"), (int, "N"), (float, "X")) if kind in kinds), "VALUE")


def _describe_default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        default = field.default
    else:
        return f"as in {paths.CONFIG.name}"
    return ", ".join(default) if isinstance(default, tuple) else json.dumps(default)


def _list_kinds(hint: Any) -> set[type]:
    """Return the plain types that a key accepts."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return {kind for part in typing.get_args(hint) for kind in _list_kinds(part)}
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(hint)}
    return {origin or hint}


def _list_words(hint: Any) -> tuple[Any, ...]:
    """Return the words that a key accepts, if it accepts words."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return tuple(word for part in typing.get_args(hint) for word in _list_words(part))
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _convert_value(text: str, hint: Any) -> Any:
    """Convert an option's text for a key whose type it fits; the configuration checks the value itself."""
    if text.lower() in ("null", "none") and text not in _list_words(hint):
        return configuration.NO_VALUE
    if _list_kinds(hint) & {bool, int, float, dict}:
        with contextlib.suppress(ValueError):
            return json.loads(text.lower() if text.lower() in ("true", "false") else text)
    return text

"""What all sections of the configuration share: checked types, defaults, descriptions, hints for misspelt names."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

CHECKED = ConfigDict(extra="forbid", strict=True, str_min_length=1)
"""The pydantic configuration of every section: unknown keys and values of the wrong type are errors."""


def _split_names(value: Any) -> Any:
    """Split text with commas into names, with or without brackets and quotes: ``mute, ok``, ``['mute', 'ok']``."""
    if isinstance(value, str):
        names = (name.strip().strip("'\"") for name in value.strip().removeprefix("[").removesuffix("]").split(","))
        return tuple(name for name in names if name)
    return tuple(value) if isinstance(value, list) else value


def _check_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)}: named more than once; accepted: each once")
    return names


def _parse_interval(value: Any) -> Any:
    """Accept a whole number of frames, quoted or not, or seconds as text: ``0.5 s``."""
    text = "" if isinstance(value, bool) else str(value).strip()
    seconds = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+) ?s", text)
    if seconds and float(seconds[1]) > 0:
        return f"{float(seconds[1]):g} s"
    if re.fullmatch("[0-9]{1,18}", text) and int(text) > 0:
        return int(text)
    raise ValueError("accepted: a whole number of frames, as 10, or seconds, as '0.5 s'")


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names), AfterValidator(_check_unique)]
"""A list of names, or text with commas, without repetition."""
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Coefficient = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Interval = Annotated[int | str, BeforeValidator(_parse_interval)]
"""A number of frames, or seconds as ``0.5 s``."""


def list_field_names(section: type) -> list[str]:
    """Return the keys of a section.

    Examples
    --------
    >>> from detectime.config import SelectionConfig
    >>> list_field_names(SelectionConfig)
    ['classes', 'limit']
    """
    return [field.name for field in dataclasses.fields(section)]


def list_defaults(section: type) -> dict[str, Any]:
    """Return the default of each key that has one.

    Examples
    --------
    >>> from detectime.config import SelectionConfig
    >>> list_defaults(SelectionConfig)
    {'classes': None, 'limit': None}
    """
    defaults = {}
    for field in dataclasses.fields(section):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def read_descriptions(section: type) -> dict[str, str]:
    """Return the description of each key: the string below its field, in one line.

    The source code is parsed at each call, since Python does not keep these strings.

    Examples
    --------
    >>> from detectime.config import SelectionConfig
    >>> read_descriptions(SelectionConfig)["limit"]
    'Only the first N frames of these classes; null: all.'
    """
    bases = [base for base in reversed(section.__mro__) if dataclasses.is_dataclass(base)]
    texts = {name: text for base in bases for name, text in _read_strings_below_fields(base).items()}
    return {name: texts[name] for name in list_field_names(section) if name in texts}


def _read_strings_below_fields(section: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in itertools.pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def suggest_name(name: str, accepted: Iterable[str]) -> str:
    """Return a hint that lists the accepted names, and first the one that was probably meant.

    Examples
    --------
    >>> suggest_name("medapipe", ["hagrid", "mediapipe"])
    "did you mean 'mediapipe'? accepted: hagrid, mediapipe"
    """
    accepted = list(accepted)
    close = difflib.get_close_matches(str(name), accepted, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}accepted: {', '.join(accepted)}"

"""Write the tables of docs/configuration.md from the checked types of the keys and the docstrings below them.

python -m tools.document_keys
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import definitions
from detectime import config as configuration
from detectime import paths
from detectime.cli.key_help import read_key_help
from detectime.config import Redetect
from detectime.detectors.quality import BUNDLES
from detectime.detectors.registry import FACES, HANDS, DetectionConfig
from detectime.settings import Interval

PAGE = definitions.ROOT_DIR / "docs" / "configuration.md"
_TABLE = re.compile(r"(?P<head><!-- table of `(?P<name>\w+)`[^\n]*-->\n)(?:\|[^\n]*\n)*")
_OWN = "or your own as `package.module:function`"
_SPECIAL: dict[Any, str] = {
    "detector_type": f"{', '.join(f'`{name}`' for name in FACES)}, {_OWN}",
    "hand_detector": f"one or more of {', '.join(f'`{name}`' for name in HANDS)}, {_OWN}",
    Interval: '1 or more; seconds, such as `"0.5 s"`',
    Redetect: "`false`, `true`, `changed`",
}
_KINDS = {str: "text", dict: "keys with values", tuple: "names", float: "a number", int: "a whole number"}


def main() -> None:
    """Write the page again."""
    PAGE.write_text(update_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def update_page(page: str) -> str:
    """Return the page with its tables written again.

    Parameters
    ----------
    page
        Markdown. A comment ``<!-- table of `SECTION` … -->``, or of `quality`, stands before each table.

    Examples
    --------
    >>> print(update_page("<!-- table of `display` -->\\n"), end="")  # doctest: +ELLIPSIS
    <!-- table of `display` -->
    | key | default | accepted | meaning |
    | --- | --- | --- | --- |
    | `samples_per_class` | `4` | 0 to 100 | Frames that ... |
    """

    def write_table(match: re.Match[str]) -> str:
        table = make_quality_table() if match["name"] == "quality" else make_table(match["name"])
        return f"{match['head']}{table}\n"

    return _TABLE.sub(write_table, page)


def make_quality_table() -> str:
    """Return the table of the words of `quality`: each key that one of them sets, with its value under each.

    Examples
    --------
    >>> make_quality_table().splitlines()[0]
    '| key | `fast` | `balanced` | `best` |'
    """
    rows = [f"| key | {' | '.join(f'`{word}`' for word in BUNDLES)} |", "| --- " * (1 + len(BUNDLES)) + "|"]
    default = DetectionConfig()
    for key in dict.fromkeys(key for bundle in BUNDLES.values() for key in bundle):
        values = [_format_value(bundle.get(key, getattr(default, key))) for bundle in BUNDLES.values()]
        rows.append(f"| `{key}` | {' | '.join(values)} |")
    return "\n".join(rows)


def make_table(section: str) -> str:
    """Return the table of a section: each key with its default, what is accepted, and its meaning.

    Examples
    --------
    >>> make_table("selection").splitlines()[3]
    '| `limit` | `null` | 1 or more; `null` | Only the first N frames of these classes; null: all. |'
    """
    kind = configuration.SECTIONS[section]
    hints = typing.get_type_hints(kind, include_extras=True)
    texts = read_key_help()
    rows = ["| key | default | accepted | meaning |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(kind):
        meaning = texts[f"{section}.{field.name}"].replace("|", "\\|")
        accepted = _SPECIAL.get(field.name) or "; ".join(_describe_accepted(hints[field.name]))
        rows.append(f"| `{field.name}` | {_describe_default(section, field)} | {accepted} | {meaning} |")
    return "\n".join(rows)


def _describe_default(section: str, field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        default = field.default
    else:  # a place, which only the delivered file gives
        default = getattr(getattr(configuration.load_config(paths.CONFIG), section), field.name)
        default = default.removeprefix(f"{paths.CONFIG.parent}/")
    return _format_value(default)


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{', '.join(value)}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _describe_accepted(hint: Any) -> Iterator[str]:
    """Yield what a type accepts, in words."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        for part in typing.get_args(hint):
            yield from _describe_accepted(part)
    elif hint in _SPECIAL:
        yield _SPECIAL[hint]
    elif hint is type(None):
        yield "`null`"
    elif hint is bool:
        yield "`true`, `false`"
    elif typing.get_origin(hint) is Literal:
        yield ", ".join(f"`{value}`" for value in typing.get_args(hint))
    elif typing.get_origin(hint) is typing.Annotated:
        inner, *about = typing.get_args(hint)
        bounds = _read_bounds(about)
        yield _describe_bounds(bounds) if bounds else next(_describe_accepted(inner))
    else:
        yield _KINDS[typing.get_origin(hint) or hint]


def _read_bounds(about: list[Any]) -> dict[str, float]:
    """Return the limits among the annotations of a type: ``gt``, ``ge``, ``lt``, ``le``."""
    constraints = [part for field in about for part in getattr(field, "metadata", [])]
    return {
        name: getattr(part, name) for part in constraints for name in ("gt", "ge", "lt", "le") if hasattr(part, name)
    }


def _describe_bounds(bounds: dict[str, float]) -> str:
    """Return limits as text: ``over 0, up to 1``, ``1 or more``, ``0 to 100``."""
    if "ge" in bounds:
        return f"{bounds['ge']:,} to {bounds['le']:,}" if "le" in bounds else f"{bounds['ge']:,} or more"
    return f"over {bounds['gt']:,}, up to {bounds['le']:,}" if "le" in bounds else f"over {bounds['gt']:,}"


if __name__ == "__main__":
    main()

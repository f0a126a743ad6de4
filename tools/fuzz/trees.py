"""Changes of trees: JSON, YAML and XML whose values are odd, absent, repeated, or of another type.

Each function takes real inputs and returns a strategy of hypothesis for changed ones, as bytes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import yaml
from hypothesis import strategies as st

from tools.fuzz.values import TEXTS, VALUES, choose, choose_index

_MOST_CHANGES = 3


def list_places(tree: Any) -> list[tuple[Any, Any]]:
    """List each container in a tree with each of its keys, or positions.

    Examples
    --------
    >>> list_places({"a": [1]})
    [({'a': [1]}, 'a'), ([1], 0)]
    """
    found: list[tuple[Any, Any]] = []
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict | list):
            for key in list(node) if isinstance(node, dict) else range(len(node)):
                found.append((node, key))
                pending.append(node[key])
    return found


def change_tree(draw: st.DrawFn, tree: Any) -> Any:
    """Change a few places of a copy of a tree."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, _MOST_CHANGES))):
        places = list_places(tree)
        if not places or draw(st.integers(0, 50)) == 50:
            return draw(VALUES)
        _change_place(draw, *places[choose_index(draw, len(places))], places)
    return tree


def _change_place(draw: st.DrawFn, node: Any, key: Any, places: Sequence[tuple[Any, Any]]) -> None:
    change = choose(draw, "set set set leave_out wrap take repeat rename as_text")
    if change == "leave_out":
        del node[key]
    elif change == "wrap":
        node[key] = [node[key]] if draw(st.booleans()) else {draw(TEXTS): node[key]}
    elif change == "take":
        other, other_key = places[choose_index(draw, len(places))]
        node[key] = copy.deepcopy(other[other_key])
    elif change == "repeat" and isinstance(node, list):
        node.insert(choose_index(draw, len(node)), copy.deepcopy(node[key]))
    elif change == "rename" and isinstance(node, dict):
        node[draw(TEXTS | st.just(str(key).upper()) | st.just(f"{key} "))] = node.pop(key)
    elif change == "as_text":
        node[key] = str(node[key])
    else:
        node[key] = draw(VALUES)


def change_json(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change JSON."""
    trees = [json.loads(seed) for seed in seeds]

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        return _dump_json(change_tree(draw, draw(st.sampled_from(trees))), draw(st.booleans()))

    return make()


def change_json_lines(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change JSON of which there is one in each line."""
    trees = [[json.loads(line) for line in seed.splitlines()] for seed in seeds]

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        rows = change_tree(draw, draw(st.sampled_from(trees)))
        ends = st.sampled_from([b"\n", b"\n", b"\r\n", b""])
        return b"".join(_dump_json(row, True) + draw(ends) for row in (rows if isinstance(rows, list) else [rows]))

    return make()


def _dump_json(tree: Any, is_ascii: bool) -> bytes:
    return json.dumps(tree, ensure_ascii=is_ascii).encode(errors="surrogatepass")


def change_yaml(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change YAML."""
    trees = [yaml.safe_load(seed) for seed in seeds]

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        tree = change_tree(draw, draw(st.sampled_from(trees)))
        text: str = yaml.safe_dump(tree, allow_unicode=draw(st.booleans()), sort_keys=False)
        return text.encode(errors="surrogatepass")

    return make()


def change_xml(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change elements, attributes and text of XML."""

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        root = ElementTree.fromstring(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(1, _MOST_CHANGES))):
            elements = [(parent, child) for parent in root.iter() for child in parent]
            if elements:
                _change_element(draw, *elements[choose_index(draw, len(elements))])
        written: bytes = ElementTree.tostring(root, encoding=choose(draw, "utf-8 us-ascii utf-16"))
        return written

    return make()


def _change_element(draw: st.DrawFn, parent: ElementTree.Element, child: ElementTree.Element) -> None:
    change = choose(draw, "attribute attribute text leave_out repeat rename empty")
    value = "".join(filter(str.isprintable, draw(TEXTS)))  # XML has no others
    if change == "attribute" and child.attrib:
        name = draw(st.sampled_from(sorted(child.attrib)))
        if draw(st.booleans()):
            child.set(name, value)
        else:
            del child.attrib[name]
    elif change == "leave_out":
        parent.remove(child)
    elif change == "repeat":
        parent.append(copy.deepcopy(child))
    elif change == "rename":
        child.tag = choose(draw, "box image object polygon name mask skeleton track tag")
    elif change == "empty":
        child.clear()
    else:
        child.text = value

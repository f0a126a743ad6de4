"""The examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from skips import EXTRAS, need_extra

import detectime

CALLED = {"detectime.classifier.measures": "sklearn"}
"""What the examples of a module need beside what it imports."""
MODULES = sorted(module.name for module in pkgutil.walk_packages(detectime.__path__, "detectime."))


@pytest.mark.extra  # some modules need one to be imported
@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        need_extra(error.name)
    if name in CALLED:
        need_extra(CALLED[name])
    assert doctest.testmod(module).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        test
        for name in ("notes", "schema", "settings")
        for test in finder.find(importlib.import_module(f"detectime.{name}"))
    ]
    assert sum(bool(test.examples) for test in found) >= 5

"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import detectime

MODULES = sorted(module.name for module in pkgutil.walk_packages(detectime.__path__, "detectime."))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name}, of an extra, is not installed")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        test
        for name in ("notes", "schema", "settings")
        for test in finder.find(importlib.import_module(f"detectime.{name}"))
    ]
    assert sum(bool(test.examples) for test in found) >= 5

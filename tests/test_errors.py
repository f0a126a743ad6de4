"""Documented errors: which they are, how a notebook shows them, and that they cross processes."""

from __future__ import annotations

import ast
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context

import pytest

import definitions
from detectime.errors import ConfigError, DocumentedError
from detectime.sources.contract import MissingFrameError
from detectime.storage.urls import RemoteError

PACKAGE = definitions.ROOT_DIR / "detectime"
INTERNAL = {"AmbiguousColumnsError", "DamagedError", "MemberError", "NodeLostError", "WorkerLostError"}
"""Errors that the package catches itself."""
NEED_TORCH = {"detectime.dataset", "detectime.classifier.models", "detectime.classifier.training_set"}
LONG = "/a-folder/" + "with-a-long-name/" * 8 + "train.csv"


def list_error_classes() -> dict[str, str]:
    """Return the classes of the package that are called errors, and the modules that define them."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        nodes = ast.walk(ast.parse(file.read_text()))
        names = [node.name for node in nodes if isinstance(node, ast.ClassDef) and node.name.endswith("Error")]
        found |= {name: module for name in names if not name.startswith("_")}
    return found


def render(error: Exception) -> list[str]:
    """Return what IPython shows of an error, without colours."""
    shown = getattr(error, "_render_traceback_")()  # noqa: B009 (as IPython does it)
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown]


@pytest.fixture(autouse=True)
def nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG", "DETECTIME_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)


def test_every_error_is_documented_or_internal() -> None:
    classes = list_error_classes()
    assert {"ConfigError", "RunError", "RenamedError", *INTERNAL} <= set(classes)
    for name, module in classes.items():
        if find_spec("torch") is None and module in NEED_TORCH:
            continue  # dataset says so: see test_dataset; for the others, notebook 04 does
        is_documented = issubclass(getattr(import_module(module), name), DocumentedError)
        assert is_documented != (name in INTERNAL), f"{module}.{name}"


def test_a_notebook_shows_one_message() -> None:
    assert render(ConfigError("limit = 0: accepted: 1 or more")) == ["ConfigError: limit = 0: accepted: 1 or more"]
    assert render(ConfigError("two\nlines")) == ["ConfigError: two", "lines"]
    assert render(ConfigError()) == ["ConfigError: "]


@pytest.mark.parametrize("variable", ["JPY_SESSION_NAME", "COLAB_RELEASE_TAG"])
def test_a_person_sees_lines_that_end_between_words(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"the file {LONG} lacks a column; " + "accepted: " + ", ".join(f"well-known-{k}" for k in range(60))
    assert len(render(RemoteError(text))) == 1
    monkeypatch.setenv(variable, "notebook.ipynb")
    lines = render(RemoteError(text))
    assert " ".join(lines) == f"RemoteError: {text}"
    assert len(lines) > 5
    assert [line for line in lines if len(line) > 100] == [LONG]


def test_the_whole_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ConfigError("limit")
    assert hasattr(error, "_render_traceback_")
    monkeypatch.setenv("DETECTIME_TRACEBACK", "1")
    assert not hasattr(error, "_render_traceback_")
    monkeypatch.setenv("DETECTIME_TRACEBACK", "0")
    assert hasattr(error, "_render_traceback_")


def test_errors_are_pickled_with_what_they_hold() -> None:
    error = MissingFrameError("v/1.jpg: no such file")
    error.content = "12 ab"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.content) == (MissingFrameError, "v/1.jpg: no such file", "12 ab")
    assert isinstance(copy, FileNotFoundError)


def fail(name: str) -> None:
    raise getattr(import_module(list_error_classes()[name]), name)("v/1.jpg: a reason")


def test_errors_cross_processes() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for name in ("ConfigError", "RemoteError", "UnreadableImageError", "WeightsError", "EngineError"):
            error = pool.submit(fail, name).exception(60)
            assert (type(error).__name__, str(error)) == (name, "v/1.jpg: a reason")

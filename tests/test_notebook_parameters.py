"""The parameters of a notebook: what a person edits, what papermill adds, and when the sample stands in."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import definitions
from detectime import config, notebook, notebook_parameters, paths
from detectime.detection import manifest
from detectime.errors import ConfigError
from detectime.notebook import load_settings
from detectime.notebook_parameters import read_parameters, read_settings
from detectime.review_notebook import ReviewSettings
from detectime.storage.store import open_store

OWN = "import pandas as pd\nfoo = 1"
"""A cell of the user's."""
MARKER = "# Parameters of the run. None: the value in config.yml"


def execute(*cells: str) -> tuple[dict[str, Any], list[str]]:
    """Execute cells as a kernel does; return ``globals()`` and ``In``. A cell may be one that does not parse."""
    names: dict[str, Any] = {}
    for cell in cells:
        try:
            exec(cell, names)
        except SyntaxError:
            continue
    return names, ["", *cells]


def parameter_cell(*lines: str) -> str:
    return "\n".join([MARKER, *lines])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out a project; its notebooks folder is the current one, as in JupyterLab."""
    folder = tmp_path / "project"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(paths.CONFIG, folder)
    monkeypatch.chdir(folder / "notebooks")
    return folder


def test_a_relative_path_is_relative_to_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(definitions.ROOT_DIR / "notebooks")
    names, cells = execute(OWN, 'config = "config.yml"', 'output = "out"')
    assert load_settings(names, cells).config.data.output == str(definitions.ROOT_DIR / "out")
    # papermill was called in that folder: a relative path means the same
    given = '# Parameters\nconfig = "config.yml"\noutput = "out"\n'
    assert load_settings(names, [*cells, given]).config.data.output == str(definitions.ROOT_DIR / "out")


@pytest.mark.parametrize(
    ("cell", "unknown"),
    [
        pytest.param("# Parameters\nfoo = 1\n", "foo", id="unknown"),
        pytest.param("# Parameters\nlimit = 1\nlimits = 5\n", "limits", id="misspelt"),
        pytest.param("# Parameters\n_foo = 1\n", "_foo", id="underscore"),
        pytest.param('# Parameters\nlimit = 5\nconfig = "c.yml"\nclasses = ["a", "b"]\n', None, id="known"),
        pytest.param('# Parameters\nframe_timeout = float("inf")\n', None, id="infinity"),
        pytest.param("foo = 1", None, id="user code"),
        pytest.param("# Parameters of my plot\nfoo = 1", None, id="user code with a comment"),
        pytest.param(parameter_cell("limits = 5"), "limits", id="misspelt by hand"),
        pytest.param(parameter_cell("limit: int = 5", "limits: int = 5"), "limits", id="annotated"),
        pytest.param("# mine\n" + parameter_cell("limits = 5"), "limits", id="below a comment"),
        pytest.param(parameter_cell("limit = x = 5"), "x", id="several targets"),
        pytest.param(parameter_cell("if True:", "    limits = 5"), "limits", id="in a block"),
        pytest.param(
            parameter_cell("import os", "_n = 5", "limit = max(n for n in [_n])", "def f():\n    x = 1"),
            None,
            id="own names by hand",
        ),
    ],
)
def test_names_of_the_parameter_cells_are_checked(cell: str, unknown: str | None) -> None:
    names = {"limit": 5, "workers": None, "foo": 1, "pd": object()}
    if unknown is None:
        assert read_parameters(names, ["", OWN, cell]) == {"limit": 5, "workers": None}
    else:
        with pytest.raises(ConfigError, match=f"parameter {unknown}: there is no such parameter") as refusal:
            read_parameters(names, ["", OWN, cell])
        assert ("a variable of your own belongs into another cell" in str(refusal.value)) == (MARKER in cell)


def test_a_corrected_name_is_accepted() -> None:
    misspelt, right = parameter_cell("limits = 5"), parameter_cell("limit = 5")
    assert read_parameters(*execute(misspelt, right)) == {"limit": 5}
    with pytest.raises(ConfigError, match="limits"):
        read_parameters(*execute(right, misspelt))


def test_the_delivered_cell_is_a_parameter_cell() -> None:
    cells = json.loads((paths.NOTEBOOKS / paths.DATA_LOADER).read_text())["cells"]
    (cell,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    source = "".join(cell["source"])
    assert read_parameters(*execute(source)) == dict.fromkeys(notebook_parameters._list_assigned(source)) | {
        "explore": True
    }
    with pytest.raises(ConfigError, match="limits"):
        read_parameters(*execute(source.replace("limit:", "limits:")))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("crop_coefficient", -1, "pairing.crop_coefficient = -1: accepted: more than 0"),
        ("detector_type", "retinaf", "did you mean 'retinaface'?"),
        ("classes", "stop,stp", "'stp' is not a label; did you mean 'stop'?"),
    ],
)
def test_a_wrong_value_is_told_before_any_work(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_settings({name: value, "images": "a", "labels": "b"}, ["", f"{name} = {value!r}"])
    assert reason in str(refusal.value).splitlines()[-1]


@pytest.mark.parametrize("value", ["maybe", "false", 1])
def test_explore_is_true_or_false(value: Any) -> None:
    for given in (True, False, None):
        load_settings({"explore": given, "images": "a", "labels": "b"}, [f"explore = {given}"])
    for check in (load_settings, lambda names, cells: notebook.make_explorer(None, names, cells)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=f"^explore = {value!r}: accepted: True, False$"):
            check({"explore": value, "images": "a", "labels": "b"}, ["", f"explore = {value!r}"])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"check_labels": "true"}, ReviewSettings(check_labels=True)),
        ({"check_labels": "False", "reviewer": "true"}, ReviewSettings(reviewer="true")),
        ({"output": 2026, "truth": Path("boxes")}, ReviewSettings("2026", truth="boxes")),
        ({"truth": "null", "sample": "null", "by": None}, ReviewSettings()),
    ],
    ids=str,
)
def test_values_as_papermill_passes_them(given: dict[str, Any], read: ReviewSettings) -> None:
    assert (
        read_settings(ReviewSettings, given, ["\n".join(["# Parameters", *(f"{name} = 0" for name in given)])]) == read
    )


def test_an_array_is_refused_as_other_values_are() -> None:
    with pytest.raises(ConfigError, match=r"sample = array\(.*\): should be a whole number"):
        read_settings(ReviewSettings, {"sample": np.arange(2)}, [])


def test_a_deleted_parameter_has_no_value() -> None:
    before, after = parameter_cell("limit = 5", "workers = 2"), parameter_cell("workers = 3")
    names, cells = execute(before, after)
    assert names["limit"] == 5  # the kernel still has it
    assert read_parameters(names, cells) == {"workers": 3}
    assert read_parameters(*execute(before, after, before)) == {"limit": 5, "workers": 2}


def test_a_parameter_of_another_cell_counts() -> None:
    before, after = parameter_cell("limit = 5"), parameter_cell("workers = 3")
    assert read_parameters(*execute("limit = 7", after)) == {"limit": 7, "workers": 3}
    assert read_parameters(*execute(before, "limit = 7", after)) == {"limit": 7, "workers": 3}
    # The value that the kernel has is the one that was deleted.
    assert read_parameters(*execute("limit = 7", before, after)) == {"workers": 3}
    names, cells = execute(after)
    assert read_parameters(names | {"limit": 9}, cells) == {"limit": 9, "workers": 3}  # by %run, for example


def test_papermills_cell_counts_beside_the_parameter_cell() -> None:
    delivered, injected = parameter_cell("limit = None", "workers = 2"), "# Parameters\nlimit = 5\nevery = 10\n"
    assert read_parameters(*execute(delivered, injected)) == {"limit": 5, "workers": 2, "every": 10}
    edited = "# Parameters\nlimit = 6\n"
    assert read_parameters(*execute(delivered, injected, delivered, edited)) == {"limit": 6, "workers": 2}


@pytest.mark.parametrize("other", ["limit = = 5", MARKER + "\nlimits = = 5", "await f()", "a = '\x00'"])
def test_a_cell_that_does_not_parse_is_passed_over(other: str) -> None:
    assert read_parameters({"limit": 5}, ["", parameter_cell("limit = 5"), other]) == {"limit": 5}


def test_the_old_name_of_a_parameter_is_accepted() -> None:
    given = parameter_cell('source = "videos"')
    # The notebook uses the name for something else.
    names, cells = execute(given, "source = object()")
    assert read_parameters(names, cells) == {"source": "videos"}
    assert load_settings(names | {"images": "a", "labels": "b"}, cells).config.data.source_type == "videos"
    assert read_parameters(*execute('source = "videos"')) == {}
    assert read_parameters(*execute(given, parameter_cell("limit = 5"))) == {"limit": 5}
    with pytest.raises(ConfigError, match="parameter source: it is the old name of source_type; write source_type = …"):
        read_parameters(*execute("x = 'videos'", parameter_cell("source = x")))
    with pytest.raises(ConfigError, match="old name of source_type; give one of them"):
        load_settings(*execute(parameter_cell('source = "videos"', 'source_type = "videos"')))


def test_a_module_called_config_is_told() -> None:
    with pytest.raises(ConfigError, match=r"config = <module 'detectime.config'.*accepted: the path of a config"):
        load_settings(*execute("from detectime import config"))


def test_the_sample_stands_in_for_data_that_are_not_there(project: Path) -> None:
    settings = load_settings(*execute(parameter_cell("images = None", "labels = None", "workers = 1")))
    assert settings.missing == tuple(
        str(project / "data" / "INPUT_DATA" / name) for name in ("TRAIN_DATA", "train.csv")
    )
    assert settings.file == project / "config.yml"
    data = settings.config.data
    assert (data.images, data.labels) == (str(paths.SAMPLE / "TRAIN_DATA"), str(paths.SAMPLE / "train.csv"))
    assert data.output == str(project / "reports" / "sample")
    assert settings.config.run.workers == 1
    given = load_settings(*execute(parameter_cell('output = "here"')))
    assert given.missing
    assert given.config.data.output == str(project / "here")


def test_the_sample_stands_in_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package does it: its configuration has no data beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "IS_CLONE", False)
    settings = load_settings(*execute(parameter_cell()))
    assert settings.missing
    assert settings.config.data.output == str(tmp_path / "reports" / "sample")
    (tmp_path / "data" / "INPUT_DATA" / "TRAIN_DATA").mkdir(parents=True)
    assert not load_settings(*execute(parameter_cell())).missing


@pytest.mark.parametrize(
    "line", ['images = "frames"', 'labels = "mine.csv"', 'images = "data/INPUT_DATA/TRAIN_DATA"', 'config = "mine.yml"']
)
def test_the_sample_does_not_replace_data_that_were_set(line: str, project: Path) -> None:
    text = (project / "config.yml").read_text()
    (project / "mine.yml").write_text(text.replace("INPUT_DATA/TRAIN_DATA", "mine"))
    settings = load_settings(*execute(parameter_cell(line)))
    assert not settings.missing
    assert settings.config.data.output == str(project / "data" / "INPUT_DATA" / "JSON")


@pytest.mark.parametrize("there", ["TRAIN_DATA", "train.csv"])
def test_the_sample_does_not_replace_half_of_the_data(there: str, project: Path) -> None:
    (project / "data" / "INPUT_DATA" / there).mkdir(parents=True)
    assert not load_settings(*execute(parameter_cell())).missing


@pytest.mark.parametrize("output", ["data/INPUT_DATA/JSON", "reports/sample", "mine"])
def test_the_sample_does_not_join_a_run_of_other_data(output: str, project: Path) -> None:
    cells = parameter_cell(f'output = "{output}"' if output == "mine" else "output = None")
    for images, is_sample in (("frames", False), ("/elsewhere/data/sample/TRAIN_DATA", True)):
        run = config.load_config(parameters={"images": images, "output": output})
        manifest.write_manifest(open_store(run.data.output), manifest.make_manifest(run, {}))
        assert bool(load_settings(*execute(cells)).missing) == is_sample


def test_what_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(*execute(parameter_cell("limit = 5", 'output = "<b>out"')))
    facts = notebook._list_facts(settings)
    assert facts["configuration"] == str(project / "config.yml")
    assert facts["output"] == str(project / "<b>out")
    assert facts["not the default"] == "selection.limit = 5"
    for page in (notebook._draw_facts(facts, config.config_to_dict(settings.config)), notebook._draw_box(settings)):
        assert "&lt;b&gt;out" in page
        assert "<b>out" not in page
    for text in (notebook._draw_box(settings), notebook._describe_box(settings)):
        for line in ("images = ", "labels = ", "rendered sample", "out"):
            assert line in text
    plain = dataclasses.replace(settings, config=config.load_config())
    assert notebook._list_facts(plain)["not the default"] == "nothing"

"""What the notebooks call in their kernel: the parameters of the cells, checked, and how they are shown.

A person edits the parameter cell, papermill adds a cell after it. Both are checked for names that are no parameters.
"""

from __future__ import annotations

import ast
import contextlib
import html
import logging
import os
import symtable
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from IPython import get_ipython
from IPython.core.interactiveshell import ExecutionResult
from IPython.display import display

from detectime import paths, releases, widgets
from detectime.config import PARAMETERS, Config, check_truth, config_to_dict, list_differences, load_config
from detectime.detection import resume
from detectime.detection.manifest import read_manifest
from detectime.errors import ConfigError
from detectime.notes import Note
from detectime.outcomes import summarize_samples
from detectime.report import charts, pages, report
from detectime.runs import FinishedRun
from detectime.settings import suggest_name
from detectime.storage import store as stores
from detectime.truth import read_truth

PARAMETER_CELL = "# Parameters of the run"
"""How a line begins that makes a cell the parameter cell of a notebook."""

ACCEPTED = ("config", "explore", *PARAMETERS)
"""The parameters of notebook 01."""

SAMPLE_OUTPUT = "reports/sample"
"""Folder of the run on the rendered sample."""

_INJECTED_CELL = "# Parameters"  # the first line of the cell that papermill adds
_SAMPLE = {"images": paths.SAMPLE / "TRAIN_DATA", "labels": paths.SAMPLE / "train.csv"}

# JupyterLab shows the last cell after Run All. It learns the heights of cells as it draws them, so that a cell may move
# out of view again. In a notebook that is not trusted nothing is left of a script.
_SCROLL = """<script>{
  const failed = document.currentScript.parentElement;
  const show = (block) => failed.scrollIntoView({block});
  for (const wait of [0, 300, 1000]) setTimeout(() => show(wait ? "nearest" : "center"), wait);
}</script>"""

_BOX = (
    '<div style="border-left: 6px solid #e09f00; background: #fff6dc; color: #1d2733; padding: 0.7em 1em; '
    'margin: 0.3em 0; font-size: 14px; line-height: 1.5;">{}</div>'
)
_CODE = (
    '<pre style="background: #fff; color: #1d2733; padding: 0.5em 0.8em; margin: 0.5em 0 0; '
    'font-family: monospace;">{}</pre>'
)
# A sandbox: the page is one file, and no script of it reaches the notebook.
_FRAME = (
    '<iframe title="The report" sandbox="allow-scripts allow-modals" srcdoc="{}" '
    'style="width: 100%; height: 860px; border: 1px solid #8888; border-radius: 6px;"></iframe>'
)
_CELL = "text-align: left; vertical-align: top; padding: 0.15em 1em 0.15em 0;"


@dataclass(frozen=True)
class NotebookSettings:
    """The settings of a notebook, and where they come from.

    Parameters
    ----------
    config
        The configuration; what was not given has the values of the run in its `data.output`, if there is one.
    file
        The configuration file.
    notes
        Which settings were taken from that run.
    missing
        The images and labels that are not there, and for which the rendered sample stands in; otherwise empty.
    """

    config: Config
    file: Path
    notes: tuple[Note, ...] = ()
    missing: tuple[str, ...] = ()


def start_notebook(names: Mapping[str, Any], cells: Sequence[str]) -> Config:
    """Load the settings of a notebook and show them; figures become JPEG, and warnings of the package are printed.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `read_parameters`.

    Raises
    ------
    ConfigError, RunError, StoreError
        As `load_settings`.

    Examples
    --------
    >>> start_notebook({"limit": 100}, ["limit = 100"]).selection.limit  # doctest: +SKIP
    100
    """
    prepare_kernel()
    settings = load_settings(names, cells)
    show_settings(settings)
    return settings.config


def prepare_kernel() -> None:
    """Make figures JPEG, print warnings of the package, and let JupyterLab show the cell that failed.

    Examples
    --------
    >>> prepare_kernel()  # doctest: +SKIP
    """
    charts.use_jpeg()
    logging.basicConfig(stream=sys.stdout, format="%(message)s")  # standard error is red in a notebook
    show_failed_cells()


def read_parameters(
    names: Mapping[str, Any],
    cells: Sequence[str],
    accepted: Sequence[str] = ACCEPTED,
    renamed: Mapping[str, str] = releases.OLD_PARAMETERS,
) -> dict[str, Any]:
    """Return the parameters of a notebook.

    The parameter cell has a line that begins with `PARAMETER_CELL`, the cell of papermill begins with ``# Parameters``.
    Only the last execution of each counts: a parameter that was deleted from its cell has no value, although the
    kernel still has one. A parameter may also be assigned in any other cell.

    Parameters
    ----------
    names
        ``globals()`` of the notebook.
    cells
        ``In`` of the notebook: the cells executed so far.
    accepted
        The names of its parameters.
    renamed
        Old names that are accepted too, and the present ones.

    Raises
    ------
    ConfigError
        If one of the two cells assigns a name that is no parameter. In the parameter cell, names that begin with an
        underscore are the user's own.

    Examples
    --------
    >>> cells = ["# Parameters of the run\\nlimit = 10\\nworkers = 2", "# Parameters of the run\\nlimit = 5"]
    >>> read_parameters({"limit": 5, "workers": 2}, cells)
    {'limit': 5}
    """
    latest: dict[bool, int] = {}  # whether papermill added the cell: its last execution
    assigned: dict[int, list[str]] = {}  # of parameter cells
    assigner: dict[str, int] = {}  # name: the cell that assigned it last
    for index, cell in enumerate(cells):
        try:
            found = _list_assigned(cell)
        except (SyntaxError, ValueError, RecursionError):  # it was not executed, or IPython allows more than Python
            continue
        assigner |= dict.fromkeys(found, index)
        is_injected = cell.partition("\n")[0].rstrip() == _INJECTED_CELL
        if is_injected or any(line.startswith(PARAMETER_CELL) for line in cell.splitlines()):
            assigned[index] = found
            latest[is_injected] = index
    for is_injected, index in latest.items():
        _check_names(assigned[index], is_injected, accepted, renamed)
    stale = {name for name, index in assigner.items() if index in assigned and index not in latest.values()}
    parameters = {name: names[name] for name in accepted if name in names and name not in stale}
    for index in sorted(latest.values()):
        # A later cell may use the old name of a parameter for something else, so that `names` has another value.
        old = [name for name in assigned[index] if name in renamed]
        parameters |= {name: _read_literal(cells[index], name, renamed[name]) for name in old}
    return parameters


def read_flags(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, bool]:
    """Return the parameters that are the text true or false, as papermill passes ``-p allow_similar true``.

    Parameters
    ----------
    values
        Parameters that were given.
    names
        Those that are true or false.

    Examples
    --------
    >>> read_flags({"allow_similar": "true", "output": "true"}, ["allow_similar"])
    {'allow_similar': True}
    """
    flags = {"true": True, "false": False}
    texts = {name: values[name].lower() for name in names if isinstance(values.get(name), str)}
    return {name: flags[text] for name, text in texts.items() if text in flags}


def load_settings(names: Mapping[str, Any], cells: Sequence[str]) -> NotebookSettings:
    """Load the settings that the parameters of a notebook describe.

    If neither `images` nor `labels` is set, there are no such data and no run of them, the rendered sample stands in.
    Its output is ``reports/sample``, unless another is set. Relative paths are relative to `paths.find_base`.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `read_parameters`.

    Raises
    ------
    ConfigError
        As `read_parameters` and `config.load_config`.
    RunError, StoreError
        If the output holds a run with other detection settings, or cannot be read.

    Examples
    --------
    >>> settings = load_settings({"limit": 100, "images": "frames", "labels": "train.csv"}, ["limit = 100"])
    >>> settings.config.selection.limit, settings.missing
    (100, ())
    """
    parameters = read_parameters(names, cells)
    _take_explore(parameters)
    file = parameters.pop("config", None)
    if not isinstance(file, str | os.PathLike | None):
        raise ConfigError(f"config = {file!r}: accepted: the path of a configuration file, or None")
    config = load_config(file, parameters)
    path = paths.find_config() if file is None else _find_file(file)
    missing: tuple[str, ...] = ()
    sample = _choose_sample(config)
    if sample:
        missing = (config.data.images, config.data.labels)
        config = load_config(file, parameters | sample)
    check_truth(config)
    config, notes = resume.resume_config(config)
    return NotebookSettings(config, path, tuple(notes), missing)


def show_settings(settings: NotebookSettings) -> None:
    """Show the settings of a notebook: places, what differs from the default, and folded all others.

    Examples
    --------
    >>> show_settings(load_settings({"images": "frames", "labels": "train.csv"}, []))  # doctest: +SKIP
    """
    if settings.missing:
        display({"text/html": _draw_box(settings), "text/plain": _describe_box(settings)}, raw=True)
    show_facts(_list_facts(settings), config_to_dict(settings.config))
    for note in settings.notes:
        print(note)


def show_facts(facts: Mapping[str, str], everything: Mapping[str, Any]) -> None:
    """Show facts as a table, and folded below it all settings.

    Examples
    --------
    >>> show_facts({"output": "out"}, {"limit": 5})  # doctest: +SKIP
    """
    width = max(map(len, facts))
    text = "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())
    display({"text/html": _draw_facts(facts, everything), "text/plain": text}, raw=True)


def show_box(title: str, *lines: str) -> None:
    """Show a box that nobody overlooks.

    Examples
    --------
    >>> show_box("100 of 108 frames have a sample.", "The samples are in out/hands.json.")  # doctest: +SKIP
    """
    first, *others = map(html.escape, lines)
    page = _BOX.format("<br>".join([f"<b>{html.escape(title)}</b> {first}", *others]))
    display({"text/html": page, "text/plain": "\n".join([title, *lines])}, raw=True)


def is_sample(images: str) -> bool:
    """Whether the images of a run are the rendered sample, of this or another installation.

    Examples
    --------
    >>> is_sample(str(paths.SAMPLE / "TRAIN_DATA")), is_sample("frames")
    (True, False)
    """
    return Path(images).parts[-2:] == _SAMPLE["images"].parts[-2:]


def show_result(samples: pd.DataFrame, config: Config) -> None:
    """Show how many frames have a sample and where the samples are; for the rendered sample, also what to do next.

    Parameters
    ----------
    samples
        What `outcomes.pair_run` returned.
    config
        What `start_notebook` returned.

    Examples
    --------
    >>> show_result(samples, config)  # doctest: +SKIP
    """
    frames = "upright frame" if config.detection.pixels == "upright" else "frame as stored"
    place = (
        f"The samples are in {config.data.output}/hands.json, every frame with its reason is in outcomes.csv; boxes "
        f"are in pixels of the {frames}."
    )
    hint = "This was the rendered sample, not your data: set images and labels in the parameters, and run all again."
    hints = [hint] if config.data.images == str(_SAMPLE["images"]) else []
    show_box(f"{summarize_samples(samples)}.", place, *hints)


def show_report(run: FinishedRun) -> None:
    """Write the report of a run into its folder, and show it.

    Parameters
    ----------
    run
        The run, paired.

    Raises
    ------
    TruthError
        If annotated boxes were given and do not fit.

    Examples
    --------
    >>> show_report(runs.open_run("out"))  # doctest: +SKIP
    """
    page = report.make_report(run, read_truth(run), blur_faces=run.config.display.blur_faces)
    path = f"{run.store}/{report.FILE_NAME}"
    pages.write_page(page, path)
    frame = _FRAME.format(html.escape(page.decode()))
    display({"text/html": frame, "text/plain": f"The report: {path}"}, raw=True)


def make_explorer(run: FinishedRun, names: Mapping[str, Any], cells: Sequence[str]) -> widgets.Explorer | None:
    """Make the explorer of a run, unless the parameter `explore` leaves it out.

    Parameters
    ----------
    run
        The run, paired.
    names, cells
        ``globals()`` and ``In`` of the notebook: see `read_parameters`.

    Returns
    -------
    Explorer or None
        To be the last value of a cell, which shows it.

    Raises
    ------
    ConfigError
        As `read_parameters`, or if `explore` is not True or False.
    RunError
        If tables of the run cannot be read.

    Examples
    --------
    >>> make_explorer(runs.open_run("out"), globals(), In)  # doctest: +SKIP
    """
    return widgets.Explorer(run) if _take_explore(read_parameters(names, cells)) else None


def find_output(output: str | os.PathLike[str] | None) -> str:
    """Return the folder of a finished run for a notebook that goes on with it.

    Parameters
    ----------
    output
        As given; None: that of the project's configuration or, if there is no run, that of the rendered sample.

    Raises
    ------
    ConfigError
        If it is neither a path nor text, or there is no run in either place.

    Examples
    --------
    >>> find_output("/runs/out")
    '/runs/out'
    """
    if output is not None:
        return resolve_place("output", output)
    places = [load_config().data.output, resolve_place("output", SAMPLE_OUTPUT)]
    for place in places:
        if read_manifest(stores.open_store(place, reading=True)) is not None:
            return place
    raise ConfigError(
        f"output: there is no run in {' and '.join(places)}; run notebook {paths.DATA_LOADER} first, or set output to "
        "the folder of a run"
    )


def resolve_place(name: str, place: str | os.PathLike[str]) -> str:
    """Return a path as `load_config` does: absolute, relative to `paths.find_base`, and URLs as they are.

    Parameters
    ----------
    name
        Of the key of `data`, for a message.
    place
        The path or URL.

    Raises
    ------
    ConfigError
        If it is neither a path nor text.

    Examples
    --------
    >>> resolve_place("truth", "s3://bucket/truth.json")
    's3://bucket/truth.json'
    """
    value = os.fspath(place) if isinstance(place, os.PathLike) else place
    found: str = getattr(load_config(parameters={name: value}).data, name)
    return found


def show_failed_cells() -> None:
    """Make JupyterLab show the cell that failed, from now on; elsewhere nothing is done.

    Examples
    --------
    >>> show_failed_cells()
    """
    shell = get_ipython()
    if shell is not None and "JPY_SESSION_NAME" in os.environ:
        with contextlib.suppress(ValueError):  # not registered yet
            shell.events.unregister("post_run_cell", _scroll_to_error)
        shell.events.register("post_run_cell", _scroll_to_error)
        shell.kernel.stop_on_error_timeout = 0.5  # seconds: the other cells of Run All come one by one, to be skipped


def _scroll_to_error(result: ExecutionResult) -> None:
    if not result.success:
        display({"text/html": _SCROLL}, raw=True)


def _list_assigned(cell: str) -> list[str]:
    """Return the names that a cell assigns at its top level; not functions, classes and modules."""
    symbols = symtable.symtable(cell, "cell", "exec").get_symbols()
    return [symbol.get_name() for symbol in symbols if symbol.is_assigned() and not symbol.is_namespace()]


def _check_names(
    assigned: Sequence[str], is_injected: bool, accepted: Sequence[str], renamed: Mapping[str, str]
) -> None:
    """Reject a name that is no parameter; papermill only logs it, and a person may have misspelt it."""
    for name in assigned:
        if name in accepted or name in renamed or (name.startswith("_") and not is_injected):
            continue
        meant, _, names = suggest_name(name, accepted).partition("accepted: ")
        own = "" if is_injected else "(a variable of your own belongs into another cell, or begins with _) "
        raise ConfigError(f"parameter {name}: there is no such parameter; {meant}{own}accepted: {names}")


def _read_literal(cell: str, name: str, new: str) -> Any:
    """Return the literal that a parameter cell assigns to an old name of a parameter."""
    value: Any = None
    for node in ast.parse(cell).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except (ValueError, TypeError, AttributeError):
                raise ConfigError(f"parameter {name}: it is the old name of {new}; write {new} = …") from None
    return value


def _take_explore(parameters: dict[str, Any]) -> bool:
    """Take `explore`, which is no key of the configuration, out of the parameters; None means True."""
    explore = parameters.pop("explore", None)
    if not isinstance(explore, bool | None):
        raise ConfigError(f"explore = {explore!r}: accepted: True, False")
    return explore is not False


def _find_file(file: str | os.PathLike[str]) -> Path:
    path = Path(file).expanduser()
    return Path(os.path.normpath(path if path.is_absolute() else paths.find_base() / path))


def _choose_sample(config: Config) -> dict[str, str]:
    """Return the parameters that take the sample, if no data were set and there are none; otherwise nothing."""
    data = config.data
    if config.is_explicit("data.images") or config.is_explicit("data.labels"):
        return {}
    if os.path.exists(data.images) or os.path.exists(data.labels):
        return {}
    sample = {name: str(path) for name, path in _SAMPLE.items()}
    outputs = [data.output]
    if not config.is_explicit("data.output"):
        sample["output"] = os.path.normpath(paths.find_base() / SAMPLE_OUTPUT)
        outputs.append(sample["output"])
    return {} if any(_holds_other_run(output) for output in outputs) else sample


def _holds_other_run(output: str) -> bool:
    """Whether a folder holds a run of other images than those of the sample, of this or another installation."""
    manifest = read_manifest(stores.open_store(output, reading=True))
    if manifest is None:
        return False
    return not is_sample(manifest["configuration"]["data"]["images"])


def _list_facts(settings: NotebookSettings) -> dict[str, str]:
    """Return what is shown of the settings at first sight."""
    config = settings.config
    changed = [f"{key} = {value!r}" for key, value in list_differences(config).items()]
    return {
        "configuration": str(settings.file),
        "images": config.data.images,
        "labels": config.data.labels,
        "output": config.data.output,
        "not the default": ", ".join(changed) or "nothing",
    }


def _draw_facts(facts: Mapping[str, str], everything: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th style="{_CELL}">{html.escape(name)}</th><td style="{_CELL}">{html.escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    text = yaml.safe_dump(dict(everything), allow_unicode=True, sort_keys=False, width=100)
    folded = f"<details><summary>All settings</summary><pre>{html.escape(text)}</pre></details>"
    return f'<table style="font-size: 13px;">{rows}</table>{folded}'


def _list_box(settings: NotebookSettings) -> tuple[str, str, str, str]:
    """Return the parts of the box that tells of the sample: title, what is missing, what to do, and the lines."""
    title = "This is the rendered sample, not your data."
    why = f"No data are set, and there are none in the default places, {' and '.join(settings.missing)}."
    output = settings.config.data.output
    remedy = f"The results go to {output}. For your own frames change these two lines of the parameters:"
    columns = "frame_path, video_name, frame_id, class_name"
    lines = f'images = "…"  # the folder of your frames\nlabels = "…"  # your csv: {columns}'
    return title, why, remedy, lines


def _draw_box(settings: NotebookSettings) -> str:
    title, why, remedy, lines = map(html.escape, _list_box(settings))
    return _BOX.format(f"<b>{title}</b> {why}<br>{remedy}{_CODE.format(lines)}")


def _describe_box(settings: NotebookSettings) -> str:
    title, why, remedy, lines = _list_box(settings)
    return f"{title} {why}\n{remedy}\n\n{lines}\n"

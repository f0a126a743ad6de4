"""What notebook 01 calls in its kernel, and how each notebook shows settings, results and a cell that failed."""

from __future__ import annotations

import contextlib
import html
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from IPython import get_ipython
from IPython.core.interactiveshell import ExecutionResult
from IPython.display import display

from detectime import paths, widgets
from detectime.config import Config, check_truth, config_to_dict, list_differences, load_config, make_absolute
from detectime.detection import resume
from detectime.detection.manifest import read_manifest
from detectime.errors import ConfigError
from detectime.notebook_parameters import SAMPLE_OUTPUT, read_parameters
from detectime.notes import Note
from detectime.outcomes import summarize_samples
from detectime.report import charts, pages, report
from detectime.runs import FinishedRun
from detectime.storage import store as stores
from detectime.truth import read_truth

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
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

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


def load_settings(names: Mapping[str, Any], cells: Sequence[str]) -> NotebookSettings:
    """Load the settings that the parameters of a notebook describe.

    If neither `images` nor `labels` is set, there are no such data and no run of them, the rendered sample stands in.
    Its output is ``reports/sample``, unless another is set. Relative paths are relative to `paths.find_base`.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    ConfigError
        As `notebook_parameters.read_parameters` and `config.load_config`.
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
    path = paths.find_config() if file is None else Path(make_absolute(file, None))
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
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Returns
    -------
    Explorer or None
        To be the last value of a cell, which shows it.

    Raises
    ------
    ConfigError
        As `notebook_parameters.read_parameters`, or if `explore` is not True or False.
    RunError
        If tables of the run cannot be read.

    Examples
    --------
    >>> make_explorer(runs.open_run("out"), globals(), In)  # doctest: +SKIP
    """
    return widgets.Explorer(run) if _take_explore(read_parameters(names, cells)) else None


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


def _take_explore(parameters: dict[str, Any]) -> bool:
    """Take `explore`, which is no key of the configuration, out of the parameters; None means True."""
    explore = parameters.pop("explore", None)
    if not isinstance(explore, bool | None):
        raise ConfigError(f"explore = {explore!r}: accepted: True, False")
    return explore is not False


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
        sample["output"] = make_absolute(SAMPLE_OUTPUT, None)
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

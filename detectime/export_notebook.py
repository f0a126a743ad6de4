"""What notebook 02 calls in its kernel: its parameters, checked, and what it says about split, thinning and export."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Image, Markdown, display
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime import notebook, similarity, thinning
from detectime.config import make_absolute
from detectime.errors import ConfigError
from detectime.exports import contact_sheet, dataset_card, samples_csv
from detectime.exports.annotations import check_settings
from detectime.exports.contract import Export, ExportConfig
from detectime.exports.registry import find_format
from detectime.notebook_parameters import describe_changes, find_output, list_values, read_settings
from detectime.notes import Note, format_count
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES
from detectime.settings import CHECKED, Count, Names
from detectime.storage.store import open_store

EXPORTS = "exports"
"""Folder of the exports in that of the run, if no other is given."""

_FRONT_MATTER = "---\n"


@checked_dataclass(frozen=True, config=CHECKED)
class ExportSettings:
    """The settings of notebook 02.

    Attributes
    ----------
    output
        The folder of the run; empty: `load_settings` finds it.
    to
        Where the exports go, each to a folder of the name of its format; empty: `load_settings` chooses it.
    formats
        Names of `exports.registry.FORMATS`.
    shares, seed, column
        Of the split: see `splits.split_run`.
    workers
        Processes that write pictures; None: one per core.
    export
        What is exported.
    """

    output: str = ""
    to: str = ""
    formats: Names = ("imagefolder",)
    shares: dict[str, float] | None = None
    seed: int | None = None
    column: str | None = None
    workers: Count | None = None
    export: ExportConfig = ExportConfig()


def start_notebook(names: Mapping[str, Any], cells: Sequence[str]) -> ExportSettings:
    """Read the parameters of notebook 02 and show them; see `notebook.prepare_kernel` for what else is done.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    ConfigError, ExportError, SplitError
        As `load_settings`.

    Examples
    --------
    >>> start_notebook({"thin": 20}, ["thin = 20"]).export.thin  # doctest: +SKIP
    20
    """
    notebook.prepare_kernel()
    settings = load_settings(names, cells)
    notebook.show_facts(_list_facts(settings), list_values(settings))
    return settings


def load_settings(names: Mapping[str, Any], cells: Sequence[str]) -> ExportSettings:
    """Return the settings that the parameters of notebook 02 describe; None means the default.

    Without `output`, it is the run that the project's ``config.yml`` names or, if there is none, that of the rendered
    sample. Without `to`, the exports go to the folder ``exports`` in it. Relative paths are relative to
    `paths.find_base`.

    Parameters
    ----------
    names, cells
        ``globals()`` and ``In`` of the notebook: see `notebook_parameters.read_parameters`.

    Raises
    ------
    ConfigError
        If a parameter is unknown, a value is not accepted, or there is no run.
    ExportError
        If there is no such format, or it cannot hold what is asked for.
    SplitError
        If the shares are not valid.

    Examples
    --------
    >>> settings = load_settings({"output": "/runs/out", "formats": "coco, yolo"}, [])
    >>> settings.to, settings.formats, settings.export.thin
    ('/runs/out/exports', ('coco', 'yolo'), None)
    """
    settings = read_settings(ExportSettings, names, cells)
    _check_formats(settings.formats)
    dataset_card.check_license(settings.export.license)
    for name in settings.formats:
        check_settings(find_format(name), settings.export)
    output = find_output(settings.output)
    to = make_absolute(settings.to, None) if settings.to else f"{output.rstrip('/')}/{EXPORTS}"
    return dataclasses.replace(settings, output=output, to=to)


def describe_leakage(samples: pd.DataFrame, notes: Sequence[Note]) -> str:
    """Say what the split was checked for.

    Parameters
    ----------
    samples, notes
        What `splits.split_run` returned; it raises an error if the split leaks.

    Examples
    --------
    >>> rows = {"outcome": "paired", "video_name": ["a", "b"], "split": ["train", "test"]}
    >>> print(describe_leakage(pd.DataFrame(rows), []))
    2 samples of 2 groups were compared: no group, no frame and no near-duplicate crop is in two parts.
    """
    if samples["split"].nunique() < 2:
        return "The set is not split: nothing can leak."
    kinds = {note.kind for note in notes}
    found = samples[samples["outcome"].isin(SAMPLES)]
    what = "no group, no frame and no near-duplicate crop is in two parts"
    if "similar" in kinds:
        alike = "near-duplicate crops, or parts of one video"
        what = f"no group and no frame is in two parts, but {alike}, are, which allow_similar allows"
    unknown = kinds & {"unknown_hash", "unknown_content"}
    but = " Some could not be compared: see the notes." if unknown else ""
    return f"{len(found):,} samples of {found['video_name'].nunique():,} groups were compared: {what}.{but}"


def preview_thinning(run: FinishedRun, export: ExportConfig) -> pd.DataFrame:
    """Return the samples that an export chooses from, with `redundant`: whether it leaves them out.

    Parameters
    ----------
    run
        The run.
    export
        `thin`, `every` and `only`. If neither `thin` nor `every` is set, it is shown what `thin` would do at
        `similarity.SIMILAR_BITS`.

    Returns
    -------
    DataFrame
        Rows of the outcomes, and the column `redundant` (bool).

    Raises
    ------
    RunError
        If the tables of the run cannot be read.
    """
    outcomes = run.outcomes
    chosen = outcomes["outcome"].isin(SAMPLES)
    if export.only == "reviewed":
        chosen &= outcomes["decision"].notna()
    elif export.only == "missed":
        chosen[:] = False
    samples = outcomes[chosen].reset_index(drop=True)
    redundant = thinning.mark_every(samples, export.every)
    if export.thin is not None or export.every == 1:
        hashes, has_hash = similarity.read_sample_hashes(run, samples)
        redundant |= thinning.mark_redundant(samples, hashes, has_hash, bits=_get_bits(export))
    return samples.assign(redundant=redundant)


def describe_thinning(samples: pd.DataFrame, export: ExportConfig) -> str:
    """Say how many samples thinning leaves out, or would leave out.

    Parameters
    ----------
    samples, export
        What `preview_thinning` returned and got.

    Examples
    --------
    >>> samples = pd.DataFrame({"redundant": [True, False, False]})
    >>> print(describe_thinning(samples, ExportConfig(thin=20, every=2)))
    thin = 20, every = 2: left out are 1 of 3 samples.
    >>> print(describe_thinning(samples, ExportConfig()))
    thin is not set, so that all samples are exported; thin = 31 would leave out 1 of 3.
    """
    if export.only == "missed":
        return "only = missed: frames without a sample are exported, and none is left out."
    count = f"{int(samples['redundant'].sum()):,} of {len(samples):,}"
    given = [] if export.thin is None else [f"thin = {export.thin}"]
    given += [f"every = {export.every}"] if export.every > 1 else []
    if given:
        return f"{', '.join(given)}: left out are {count} samples."
    return f"thin is not set, so that all samples are exported; thin = {_get_bits(export)} would leave out {count}."


def read_exported(export: Export) -> pd.DataFrame:
    """Return the samples of an export: rows of its ``samples.csv``, without faces and further hands.

    Raises
    ------
    ExportError, StoreError
        As `samples_csv.read_samples_csv`.
    """
    rows = samples_csv.read_samples_csv(open_store(export.folder, reading=True))
    return rows[rows["kind"] == "sample"].reset_index(drop=True)


def show_card(export: Export) -> None:
    """Show the dataset card of an export without its metadata, and its contact sheet, if it has one.

    Raises
    ------
    StoreError
        If it cannot be read.

    Examples
    --------
    >>> show_card(export)  # doctest: +SKIP
    """
    store = open_store(export.folder, reading=True)
    text = (store.get(dataset_card.FILE_NAME) or b"").decode()
    if text.startswith(_FRONT_MATTER):
        text = text.removeprefix(_FRONT_MATTER).partition(f"\n{_FRONT_MATTER}")[2]
    text = "\n".join(line for line in text.splitlines() if not line.endswith(f"({contact_sheet.FILE_NAME})"))
    display(Markdown(text))
    sheet = store.get(contact_sheet.FILE_NAME)
    if sheet is not None:
        display(Image(data=sheet, format="jpeg"))


def show_result(exports: Sequence[Export], run: FinishedRun) -> None:
    """Show where the exports are, and how they are loaded; for the rendered sample, also what to do next.

    Parameters
    ----------
    exports
        What `exports.export.export_run` returned.
    run
        The run.

    Examples
    --------
    >>> show_result(exports, run)  # doctest: +SKIP
    """
    places = [f"{export.format}: {export.folder}" for export in exports]
    lines = ["The README.md in each folder has the lines that load it. The folders:", *places]
    if notebook.is_sample(run.config.data.images):
        lines.append("This was the rendered sample, not your data: run notebook 01 on it, then this one again.")
    samples = exports[0].counts["samples"]
    notebook.show_box(f"{format_count(samples, 'sample')} exported.", *lines)


def _get_bits(export: ExportConfig) -> int:
    return similarity.SIMILAR_BITS if export.thin is None else export.thin


def _check_formats(formats: Sequence[str]) -> None:
    for name in formats:
        if len(name.split()) > 1:
            raise ConfigError(f"formats = {name!r}: separate names by commas: {', '.join(name.split())}")
    if not formats:
        raise ConfigError("formats: none is given; accepted: such as imagefolder, or a list")


def _list_facts(settings: ExportSettings) -> dict[str, str]:
    """Return what is shown of the settings at first sight."""
    default = ExportSettings(settings.output, settings.to, settings.formats)
    return {
        "run": settings.output,
        "exports": settings.to,
        "formats": ", ".join(settings.formats),
        "not the default": describe_changes(settings, default),
    }

"""The commands that work with a finished run: pair, relocate, decisions, split, export and trace."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import getpass
import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from detectime import paths
from detectime.notes import Note, format_count

if TYPE_CHECKING:
    import pandas as pd

    from detectime.runs import FinishedRun
    from detectime.storage.store import Store

REPORT_NOTEBOOK, REPORT_PAGE = "report.ipynb", "report.html"
"""The executed notebook and the report in the folder of a run."""
MADE_FROM = "detectime"
"""Key in the metadata of that notebook: the `hands_sha256` of the pairing that it shows."""
_SHOWN_CONTRADICTIONS = 20
_CVAT_ENDINGS = (".xml", ".zip")


def add_commands(add: Callable[..., Any]) -> None:
    """Add the commands to the command line.

    Parameters
    ----------
    add
        Adds one: ``add(name, execute, text, **options)`` returns its parser.
    """
    command = add("pair", _pair, "choose the samples of a run again, after decisions or with the settings it has")
    _add_output(command)
    command = add(
        "relocate",
        _relocate,
        "say where the frames of a run are now, after it was copied to another machine",
        epilog="The frames there are compared with the run by name, and up to 200 of them by content. Only run.json is "
        "written, which keeps a note of the former place.",
    )
    _add_output(command)
    command.add_argument("--images", metavar="DIR", required=True, help="where the frames are; may be a URL")
    command.add_argument(
        "--source-type",
        choices=("folder", "archives", "videos"),
        help="what is there (default: as in the run, or as recognised)",
    )
    command.add_argument("--truth", metavar="PATH", help="where the annotated boxes are (default: as in the run)")
    _add_decisions(add)
    _add_split(add)
    _add_export(add)
    command = add("trace", _trace, "say where the sample of one frame comes from")
    _add_output(command)
    command.add_argument("frame", metavar="FRAME", help="its frame_path, as in outcomes.csv")
    command.add_argument("--json", action="store_true", help="print JSON")


def _add_output(command: Any) -> None:
    command.add_argument("output", metavar="OUTPUT", help="the folder of a finished run, or its URL")


def _add_decisions(add: Callable[..., Any]) -> None:
    command = add("decisions", _list_decisions, "list what people decided of the frames of a run, or import it")
    actions = command.add_subparsers(metavar="ACTION", required=True)
    action = actions.add_parser(
        "list", help="count the decisions, and list those that do not count and those that contradict each other"
    )
    action.set_defaults(execute=_list_decisions)
    _add_output(action)
    action.add_argument("--all", action="store_true", help="list all contradictions, not only the first 20")
    action.add_argument("--json", action="store_true", help="print every decision, and whether it counts, as JSON")
    action = actions.add_parser(
        "import",
        help="turn edits of hands.json, or what came back from CVAT, into decisions, and pair again",
        description="Turn edits of hands.json, or what came back from CVAT, into decisions, and pair the run again. "
        "Frames without a difference are left as they are. A file is imported once.",
    )
    action.set_defaults(execute=_import_decisions)
    _add_output(action)
    action.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="an edited hands.json, or CVAT's .xml or .zip (default: OUTPUT/hands.json)",
    )
    action.add_argument("--reviewer", metavar="NAME", help="whose decisions they are (default: the name of the user)")
    action.add_argument(
        "--export", metavar="DIR", help="CVAT: the export that went there (default: exports/cvat in OUTPUT)"
    )
    action.add_argument(
        "--reviewed",
        action="store_true",
        help="CVAT: every picture was looked at, so that a box that stayed is kept, and a picture without one has none",
    )


def _add_split(add: Callable[..., Any]) -> None:
    command = add(
        "split",
        _split,
        "divide the videos or persons of a run into parts, such as train, val and test",
        epilog="Writes OUTPUT/split.csv, one row per group. Groups that are in it keep their place.",
    )
    _add_output(command)
    command.add_argument(
        "--shares",
        metavar="SHARES",
        type=_parse_shares,
        help="shares of the samples (default: those of split.csv, or train=0.8,val=0.1,test=0.1)",
    )
    command.add_argument(
        "--seed", metavar="N", type=int, help="another one gives another split (default: that of split.csv, or 0)"
    )
    command.add_argument("--column", metavar="NAME", help="take the parts from this column of the labels instead")
    command.add_argument(
        "--allow-similar", action="store_true", help="near-duplicate crops in two parts are a note instead of an error"
    )


def _add_export(add: Callable[..., Any]) -> None:
    from detectime.cli.options import add_section
    from detectime.exports.contract import ExportConfig
    from detectime.exports.registry import FORMATS
    from detectime.settings import list_field_names, read_descriptions

    width = max(map(len, FORMATS))
    listed = "\n".join(f"  {name:{width}}  {kind.title}" for name, kind in FORMATS.items())
    command = add(
        "export",
        _export,
        "write the samples of a run in formats that others read",
        usage="detectime export OUTPUT FORMAT… --to DIR [OPTION …]",
        epilog=f"formats:\n{listed}\n\nThe same command finishes an export that was interrupted.",
    )
    command.formatter_class = _FormatsHelp
    _add_output(command)
    command.add_argument("formats", metavar="FORMAT", nargs="+", help="one or several of the formats below")
    command.add_argument("--to", metavar="DIR", required=True, help="each format gets a folder of its name in it")
    command.add_argument(
        "--workers", metavar="N", type=int, help="processes that write pictures (default: one per core)"
    )
    add_section(command.add_argument_group("what to export"), ExportConfig, read_descriptions(ExportConfig))
    options = ["to", "workers", *(name.replace("_", "-") for name in list_field_names(ExportConfig))]
    command.set_defaults(accepted=options)


class _FormatsHelp(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the list of formats."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def _parse_shares(text: str) -> dict[str, float]:
    from detectime import splits

    try:
        return splits.parse_shares(text)
    except splits.SplitError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# -- the commands


def _pair(arguments: argparse.Namespace) -> None:
    from detectime import outcomes, runs

    run = runs.open_run(paths.find_output(arguments.output))
    _print_paired(run, outcomes.pair_run(run))


def _relocate(arguments: argparse.Namespace) -> None:
    from detectime import config, runs, truth

    run = runs.open_run(paths.find_output(arguments.output))
    images, annotated = (config.make_absolute(place, None) for place in (arguments.images, arguments.truth))
    if annotated is not None:
        truth.read_truth(run, annotated)  # refuses what is not of these frames
    print(runs.relocate_run(run, images, arguments.source_type, truth=annotated))


def _list_decisions(arguments: argparse.Namespace) -> None:
    from detectime import runs
    from detectime.decision_files import read_decisions
    from detectime.decisions import describe_decisions

    run = runs.open_run(paths.find_output(arguments.output))
    decisions, _ = read_decisions(run.store)
    paired = run.pair_frames(run.pairing)
    if arguments.json:
        print(json.dumps(describe_decisions(decisions, paired.counting), indent=4, ensure_ascii=False))
        return
    if not decisions:
        print(f"No decisions in {run.store}/decisions")
    counts = Counter((decision.reviewer, decision.action) for decision in run.decisions.decisions)
    for (reviewer, action), count in sorted(counts.items()):
        print(f"{reviewer}  {action}  {count:,}")
    _print_notes(paired.notes)
    _print_contradictions(paired.contradictions, None if arguments.all else _SHOWN_CONTRADICTIONS)
    if run.has_new_decisions:
        print(f"Not all are applied yet: detectime pair {run.store}")


def _print_contradictions(table: pd.DataFrame, shown: int | None) -> None:
    if table.empty:
        return
    print("\nContradictions; the latest decision counts:")
    print(table.head(len(table) if shown is None else shown).to_string(index=False))
    if shown is not None and len(table) > shown:
        print(f"… and {len(table) - shown:,} more: --all")


def _import_decisions(arguments: argparse.Namespace) -> None:
    from detectime import cvat_decisions, decision_import, runs

    run = runs.open_run(paths.find_output(arguments.output))
    reviewer = arguments.reviewer or getpass.getuser()
    file = arguments.file

    path, _ = decision_import.read_file(run, file)

    def find() -> decision_import.Found:
        if path.lower().endswith(_CVAT_ENDINGS):
            return cvat_decisions.import_cvat(run, path, reviewer, arguments.export, reviewed=arguments.reviewed)
        return decision_import.import_hands_json(run, file, reviewer=reviewer)

    print(f"Importing {os.path.abspath(path) if os.path.exists(path) else path}")
    found, notes = decision_import.import_decisions(run, file, reviewer, find)
    _print_notes(notes)
    if found:
        count = "1 decision" if len(found) == 1 else f"{len(found):,} decisions"
        print(f"{count} of {reviewer} in {run.store}/decisions")
    else:
        print("Nothing was decided")
    _print_paired(run, run.outcomes)


def _split(arguments: argparse.Namespace) -> None:
    from detectime import runs, splits

    run = runs.open_run(paths.find_output(arguments.output))
    samples, notes = splits.split_run(
        run, arguments.shares, arguments.seed, column=arguments.column, allow_similar=arguments.allow_similar
    )
    _print_notes(notes)
    print(splits.count_split(samples).to_string())
    print(f"The part of each group: {run.store}/split.csv")


def _export(arguments: argparse.Namespace) -> None:
    from detectime import runs
    from detectime.config import NO_VALUE
    from detectime.exports.contract import ExportConfig, make_export_config
    from detectime.exports.export import export_run

    names = [field.name for field in dataclasses.fields(ExportConfig)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    given = {name: None if value is NO_VALUE else value for name, value in given.items()}
    run = runs.open_run(paths.find_output(arguments.output))
    config = make_export_config(given)
    exports = export_run(run, arguments.formats, arguments.to, config, workers=arguments.workers)
    _print_notes(dict.fromkeys(note for export in exports for note in export.notes))  # formats share most of them
    for export in exports:
        counts = export.counts
        parts = [format_count(counts["samples"], "sample"), format_count(counts["pictures"], "picture")]
        parts += [f"{format_count(counts['failed'], 'frame')} not exported"] if counts["failed"] else []
        print(f"{export.folder}: {', '.join(parts)}")


def _trace(arguments: argparse.Namespace) -> None:
    from detectime import runs, trace

    found = trace.trace_frame(runs.open_run(paths.find_output(arguments.output)), arguments.frame)
    print(json.dumps(found, indent=4, ensure_ascii=False) if arguments.json else trace.format_trace(found))


def _print_paired(run: FinishedRun, samples: pd.DataFrame) -> None:
    from detectime import outcomes

    _print_notes([*run.notes, *note_old_reports(run.store)])
    print(f"Samples: {run.store}/hands.json")
    print(outcomes.summarize_samples(samples))


def note_old_reports(store: Store) -> list[Note]:
    """Note a report, or an executed notebook, that shows another pairing than the last one of its run.

    Those of which that is unknown, as of an earlier release, are not noted.

    Parameters
    ----------
    store
        The folder of the run.
    """
    current = _hash_samples(store)
    shown = {REPORT_PAGE: _read_page_mark(store), REPORT_NOTEBOOK: _read_notebook_mark(store)}
    old = [name for name, mark in shown.items() if mark is not None and current is not None and mark != current]
    if not old:
        return []
    text = (
        f"Decisions or another pairing came after {' and '.join(old)}; `detectime report {shlex.quote(str(store))}` "
        "renews the page, `detectime run` with the same options both."
    )
    return [Note("old_report", 1, text)]


def is_report_current(store: Store) -> bool:
    """Whether the folder of a run holds a report of its last pairing."""
    mark = _read_page_mark(store)
    return mark is not None and mark == _hash_samples(store)


def _hash_samples(store: Store) -> str | None:
    """Return the sha256 of the samples that the last pairing wrote."""
    from detectime.detection.manifest import read_manifest

    found = read_manifest(store)
    return None if found is None else (found["pairing"] or {}).get("hands_sha256")


def _read_page_mark(store: Store) -> str | None:
    """Return the sha256 of the samples that the report shows, None if there is none or it does not say."""
    from detectime.report.report import read_mark

    content = store.get(REPORT_PAGE)
    return None if content is None else read_mark(content)


def _read_notebook_mark(store: Store) -> str | None:
    """Return the sha256 of the samples that the executed notebook shows, None if there is none or it does not say."""
    content = store.get(REPORT_NOTEBOOK)
    with contextlib.suppress(ValueError, AttributeError):  # whatever it is, it is no notebook of a run
        if content is not None:
            mark: str | None = json.loads(content).get("metadata", {}).get(MADE_FROM, {}).get("hands_sha256")
            return mark
    return None


def _print_notes(notes: Iterable[Note]) -> None:
    for note in notes:
        print(f"Note: {note}")

"""The commands that work with a finished run: pair, decisions, split, export and trace."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
from collections.abc import Callable, Iterable
from typing import Any

from detectime import paths
from detectime.notes import Note

_SHOWN_CONTRADICTIONS = 20


def add_commands(add: Callable[..., Any]) -> None:
    """Add the commands to the command line.

    Parameters
    ----------
    add
        Adds one: ``add(name, execute, text, **options)`` returns its parser.
    """
    command = add("pair", _pair, "choose the samples of a run again, after decisions or with the settings it has")
    _add_output(command)
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
    action = actions.add_parser("list", help="count the decisions, and list those that contradict each other")
    action.set_defaults(execute=_list_decisions)
    _add_output(action)
    action = actions.add_parser(
        "import",
        help="turn edits of hands.json, or what came back from CVAT, into decisions, and pair again",
        description="Turn edits of hands.json, or what came back from CVAT, into decisions, and pair the run again. "
        "Frames without a difference are left as they are.",
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
    action.add_argument("--export", metavar="DIR", help="the export that went to CVAT (default: found by file names)")
    action.add_argument(
        "--reviewed", action="store_true", help="CVAT: every picture was looked at, so that a box that stayed is kept"
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
        help="shares of the samples (default: train=0.8,val=0.1,test=0.1)",
    )
    command.add_argument(
        "--seed", metavar="N", type=int, default=0, help="another one gives another split (default: 0)"
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
    _pair_run(paths.find_output(arguments.output))


def _list_decisions(arguments: argparse.Namespace) -> None:
    from detectime import runs

    run = runs.open_run(paths.find_output(arguments.output))
    merged = run.decisions
    if not merged.decisions:
        print(f"No decisions in {run.store}/decisions")
        return
    counts: dict[tuple[str, str], int] = {}
    for decision in merged.decisions:
        key = decision.reviewer, decision.action
        counts[key] = counts.get(key, 0) + 1
    for (reviewer, action), count in sorted(counts.items()):
        print(f"{reviewer}  {action}  {count:,}")
    _print_notes(merged.notes)
    if len(merged.contradictions):
        print("\nContradictions; the latest decision counts:")
        print(merged.contradictions.head(_SHOWN_CONTRADICTIONS).to_string(index=False))
    if run.needs_pairing:
        print(f"Not all are applied yet: detectime pair {run.store}")


def _import_decisions(arguments: argparse.Namespace) -> None:
    from detectime import cvat_decisions, decision_files, decision_import, runs

    output = paths.find_output(arguments.output)
    run = runs.open_run(output)
    reviewer = arguments.reviewer or getpass.getuser()
    file = arguments.file
    if file is not None and file.lower().endswith((".xml", ".zip")):
        found, notes = cvat_decisions.import_cvat(run, file, reviewer, arguments.export, reviewed=arguments.reviewed)
    else:
        found, notes = decision_import.import_hands_json(run, file, reviewer=reviewer)
    _print_notes(notes)
    decision_files.DecisionLog(run.store, reviewer).append(*found)
    print(f"{len(found):,} decisions of {reviewer} in {run.store}/decisions")
    _pair_run(output)


def _split(arguments: argparse.Namespace) -> None:
    from detectime import runs, splits

    run = runs.open_run(paths.find_output(arguments.output))
    shares = {} if arguments.shares is None else {"shares": arguments.shares}
    samples, notes = splits.split_run(
        run, seed=arguments.seed, column=arguments.column, allow_similar=arguments.allow_similar, **shares
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
    for export in export_run(run, arguments.formats, arguments.to, config, workers=arguments.workers):
        _print_notes(export.notes)
        counts = export.counts
        failed = f"; {counts['failed']:,} frames could not be exported" if counts["failed"] else ""
        print(f"{export.folder}: {counts['samples']:,} samples, {counts['pictures']:,} pictures{failed}")


def _trace(arguments: argparse.Namespace) -> None:
    from detectime import runs, trace

    found = trace.trace_frame(runs.open_run(paths.find_output(arguments.output)), arguments.frame)
    print(json.dumps(found, indent=4, ensure_ascii=False) if arguments.json else trace.format_trace(found))


def _pair_run(output: str) -> None:
    from detectime import outcomes, runs

    run = runs.open_run(output)
    samples = outcomes.pair_run(run)
    _print_notes(run.notes)
    print(f"Samples: {run.store}/hands.json")
    print(outcomes.summarize_samples(samples))


def _print_notes(notes: Iterable[Note]) -> None:
    for note in notes:
        print(f"Note: {note}")

"""The command that compares two runs, or a run with itself under other settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from detectime import paths
from detectime.cli.options import add_section, add_truth_options
from detectime.config import NO_VALUE, PairingConfig
from detectime.errors import ConfigError
from detectime.settings import list_field_names, read_descriptions

if TYPE_CHECKING:
    from detectime.comparison import Comparison
    from detectime.runs import FinishedRun
    from detectime.truth import Truth

_EXAMPLES = """\
examples:
  detectime compare before after --to comparison.html
  detectime compare out --fallback frame      what other settings of pairing would choose; nothing is written
  detectime compare out                       what the decisions of people changed
  detectime compare before after --truth annotations.json

A sample counts as moved if its bbox in hands.json differs at all; the IoU says how far. Frames are the same if their
frame_path is. The exit status is 0 even if the runs differ."""


def add_commands(add: Callable[..., Any]) -> None:
    """Add the command to the command line.

    Parameters
    ----------
    add
        Adds one: ``add(name, execute, text, **options)`` returns its parser.
    """
    command = add(
        "compare",
        _compare,
        "say what differs between two runs, or between a run and other settings of pairing, frame by frame",
        usage="detectime compare A [B] [OPTION …]",
        epilog=_EXAMPLES,
    )
    command.formatter_class = _ExamplesHelp
    command.add_argument("a", metavar="A", help="the folder of a finished run, or its URL")
    command.add_argument(
        "b", metavar="B", nargs="?", help="another run of the same frames; without it, A is compared with itself"
    )
    command.add_argument("--to", metavar="FILE", help="write a page with the changed frames as pictures")
    command.add_argument("--csv", metavar="FILE", help="write one row per frame: class, outcome, change, IoU")
    command.add_argument("--blur-faces", action="store_true", help="make faces on the page unrecognisable")
    add_truth_options(command)
    group = command.add_argument_group("pairing to compare the pairing of A with; what is not given is as in A")
    add_section(group, PairingConfig, read_descriptions(PairingConfig))
    own = ("to", "csv", "blur-faces", "truth", "truth-format", "truth-pixels")
    command.set_defaults(accepted=[*own, *(name.replace("_", "-") for name in list_field_names(PairingConfig))])


class _ExamplesHelp(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def _compare(arguments: argparse.Namespace) -> None:
    from detectime import comparison, runs
    from detectime.exports.outcomes_csv import write_outcomes_csv

    a = runs.open_run(paths.find_output(arguments.a))
    b = a if arguments.b is None else runs.open_run(paths.find_output(arguments.b))
    found = _compare_runs(a, b, arguments)
    print(comparison.format_comparison(found))
    if arguments.csv:
        write_outcomes_csv(found.frames, arguments.csv)
        print(f"One row per frame: {arguments.csv}")
    if arguments.to:
        from detectime.report.comparison import make_comparison_page
        from detectime.report.pages import write_page

        write_page(make_comparison_page(a, b, found, blur_faces=arguments.blur_faces), arguments.to)
        print(f"The page: {arguments.to}")


def _compare_runs(a: FinishedRun, b: FinishedRun, arguments: argparse.Namespace) -> Comparison:
    from detectime import comparison

    given = _read_pairing(arguments)
    if given and arguments.b is not None:
        option = next(iter(given)).replace("_", "-")
        raise ConfigError(f"--{option}: settings are for one run; give two runs, or one run and settings")
    settings = comparison.change_settings(a.pairing, given)
    if arguments.b is not None:
        return comparison.compare_runs(a, b, *_read_truths(a, b, arguments))
    truth = _read_truth(a, arguments.truth, arguments)
    if given:
        return comparison.compare_settings(a, settings, truth)
    return comparison.compare_decisions(a, truth)


def _read_truths(a: FinishedRun, b: FinishedRun, arguments: argparse.Namespace) -> tuple[Truth | None, Truth | None]:
    """Read the annotations that both are judged by, for each in the pixels of its frames."""
    if arguments.truth is not None:
        return _read_truth(a, arguments.truth, arguments), _read_truth(b, arguments.truth, arguments)
    place = _choose_truth(a, b)
    first, second = sorted((a, b), key=lambda run: run.config.data.truth is None)  # who names them reads them first
    if place is not None:
        arguments.truth_pixels = arguments.truth_pixels or first.config.data.truth_pixels
    own = _read_truth(first, None, arguments)
    if own is None or own.frames.empty:  # those that a run names may be gone, which is noted
        return own, own
    other = _read_truth(second, place if second.config.data.truth is None else None, arguments)
    return (own, other) if first is a else (other, own)


def _choose_truth(a: FinishedRun, b: FinishedRun) -> str | None:
    """Return the annotations that the runs name; None if neither does."""
    found = [place for run in (a, b) if (place := run.config.data.truth) is not None]
    if len(set(found)) > 1:
        raise ConfigError(f"{a.store} and {b.store} name different annotations, {' and '.join(found)}; give --truth")
    return found[0] if found else None


def _read_pairing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of pairing that were given."""
    given = {name: getattr(arguments, name) for name in list_field_names(PairingConfig)}
    return {name: None if value is NO_VALUE else value for name, value in given.items() if value is not None}


def _read_truth(run: FinishedRun, place: str | None, arguments: argparse.Namespace) -> Truth | None:
    from detectime.truth import read_truth

    return read_truth(run, place, truth_format=arguments.truth_format, truth_pixels=arguments.truth_pixels)

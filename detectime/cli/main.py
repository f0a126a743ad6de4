"""The command ``detectime``: see ``docs/command-line.md``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
import tempfile
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import detectime
from detectime import config as configuration
from detectime import paths
from detectime.cli import compare, finished
from detectime.cli.execution import NotebookError, execute_notebook
from detectime.cli.finished import REPORT_NOTEBOOK, REPORT_PAGE
from detectime.cli.options import add_section, add_truth_options
from detectime.errors import ConfigError, DocumentedError
from detectime.settings import suggest_name

if TYPE_CHECKING:
    from detectime.storage.store import Store

_OK, _FAILED, _WRONG_USAGE, _INTERRUPTED = 0, 1, 2, 130
_FAILED_NOTEBOOK = "report.failed.ipynb"
_DEMO = "reports/demo"
_REVIEWED = "reviewed"  # value of --truth
_TRACEBACK = "Traceback (most recent call last)"


class _UsageError(Exception):
    """A wrong command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, and write the reason of a failure as the last line of standard error.

    Parameters
    ----------
    arguments
        The command line without the program's name; None: that of this process.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.

    Examples
    --------
    >>> main(["info", "no/such/run"])
    1
    """
    try:
        parsed = _parse(sys.argv[1:] if arguments is None else list(arguments))
        parsed.execute(parsed)
    except (_UsageError, ConfigError) as error:
        return _fail(error, _WRONG_USAGE)
    except BrokenPipeError:
        raise
    except (DocumentedError, OSError) as error:
        return _fail(error, _FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing that was saved is lost, and the same command resumes", _INTERRUPTED)
    return _OK


def run_process() -> typing.NoReturn:
    """Run the command, and end this process with its exit status."""
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: what the command has started ends with it
    _show_warnings()
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has seen enough, as `head`
        status = _OK
    sys.stderr.flush()
    # Not sys.exit: threads of libraries may abort the process while the interpreter is torn down.
    os._exit(status)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _show_warnings() -> None:
    """Show the warnings of this package, and not those of others."""
    logging.getLogger(detectime.__name__).addHandler(logging.StreamHandler(sys.stdout))


def _fail(reason: object, status: int) -> int:
    sys.stdout.flush()
    # A fault of a parameter is named as the option it was given by.
    text = re.sub(r"given as a parameter: \w+\.(\w+)", lambda found: f"--{found[1].replace('_', '-')}", str(reason))
    *details, last = text.splitlines() or [""]
    for line in details:
        print(line, file=sys.stderr)
    print(f"detectime: {last}", file=sys.stderr)
    return status


# -- the command line


class _Parser(argparse.ArgumentParser):
    """Raises an error, with a hint for a misspelt option, where argparse would exit."""

    def error(self, message: str) -> typing.NoReturn:
        raise _UsageError(f"{message}; see {self.prog} --help")


class _HelpFormatter(argparse.HelpFormatter):
    """Has room for the longest option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line.

    Examples
    --------
    >>> build_parser().parse_args(["run", "--limit", "100"]).limit
    100
    """
    parser = _Parser(
        prog="detectime",
        description="Form a training set for gesture classification from labelled video frames.",
        epilog="`detectime COMMAND --help` explains a command. Exit status: 0 done; 1 failed, with the reason in the "
        "last line; 2 wrong usage or configuration; 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"detectime {detectime.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, execute: Callable[[argparse.Namespace], None], text: str, **options: Any) -> Any:
        description = text[0].upper() + text[1:] + "."
        command = commands.add_parser(
            name, help=text, description=description, allow_abbrev=False, formatter_class=_HelpFormatter, **options
        )
        command.set_defaults(execute=execute)
        return command

    command = add("init", _init, "lay out a folder with the notebook, config.yml and definitions.py")
    command.add_argument("folder", metavar="DIR", help="created if it does not exist; nothing in it is overwritten")
    command = add("lab", _lab, "open JupyterLab with the notebook in view")
    command.add_argument("folder", metavar="DIR", nargs="?", default=".", help="the project (default: this folder)")
    command.add_argument("--", dest="rest", metavar="OPTION …", default=[], help="then options of `jupyter lab`")
    command = add("demo", _demo, "run on a rendered sample, and write a report")
    command.add_argument(
        "folder", metavar="DIR", nargs="?", default=_DEMO, help="folder for the results (default: %(default)s)"
    )
    command = add(
        "run",
        _run,
        "make a training set: execute notebook 01 with these options as its parameters",
        usage="detectime run [--images DIR] [--labels CSV] [--output DIR] [OPTION …]",
        epilog="Options that are not given have their value from config.yml, or from the run if OUTPUT already holds "
        "one. The same command resumes an interrupted run. Relative paths are relative to the current folder.",
    )
    accepted = ["config", "notebook", "dry-run", *(name.replace("_", "-") for name in configuration.PARAMETERS)]
    command.set_defaults(accepted=accepted)
    _add_run_options(command)
    _add_report(add)
    finished.add_commands(add)
    compare.add_commands(add)
    command = add("info", _info, "say what the folder of a run holds")
    command.add_argument("output", metavar="OUTPUT", help="the folder of a run, or its URL")
    return parser


def _add_report(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add(
        "report",
        _report,
        "write a page to share: what the set is, how good, what to do, and pictures",
        usage="detectime report OUTPUT [OPTION …]",
    )
    command.add_argument("output", metavar="OUTPUT", help="the folder of a run, or its URL")
    command.add_argument("--to", metavar="FILE", help=f"the page (default: {REPORT_PAGE} in the folder of the run)")
    add_truth_options(command)
    command.add_argument(
        "--blur-faces",
        action=argparse.BooleanOptionalAction,
        help="make faces unrecognisable (default: display.blur_faces of the run)",
    )
    command.add_argument(
        "--check-labels",
        action="store_true",
        help="let a classifier of crops contradict labels: it reads every sample, and downloads weights of 0.4 MB once",
    )
    command.add_argument("--workers", metavar="N", type=int, help="processes of --check-labels (default: one per core)")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = build_parser()
    if arguments[:1] == ["lab"] and "--" in arguments:  # argparse would take the first option for the folder
        end = arguments.index("--")
        parsed = _parse(arguments[:end])
        parsed.rest = arguments[end + 1 :]
        return parsed
    # A key may be written as in config.yml: --crop_coefficient.
    parsed, unknown = parser.parse_known_args([_use_dashes(text) for text in arguments])
    if not unknown:
        return parsed
    option = next((text for text in unknown if text.startswith("--")), unknown[0])
    accepted = getattr(parsed, "accepted", None)
    if accepted and option.startswith("--"):
        hint, _, listed = suggest_name(option.partition("=")[0].removeprefix("--"), accepted).partition(" accepted: ")
        meant = hint.replace("'", "").replace("did you mean ", "did you mean --") if listed else "see --help"
        raise _UsageError(f"{option}: there is no such option; {meant}")
    if parsed.execute is _lab and option.startswith("--"):
        raise _UsageError(f"{option}: options of jupyter lab follow after --: detectime lab DIR -- {option} …")
    raise _UsageError(f"{option}: unexpected; see detectime --help")


def _use_dashes(text: str) -> str:
    name, equals, value = text.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else text


def _add_run_options(command: argparse.ArgumentParser) -> None:
    from detectime.cli.key_help import read_key_help

    texts = read_key_help()
    group = command.add_argument_group("what to run")
    group.add_argument("--config", metavar="FILE", help="The configuration. (default: config.yml of this project)")
    group.add_argument(
        "--notebook", metavar="FILE", help=f"Another notebook. (default: notebooks/{paths.DATA_LOADER} of this project)"
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="Only say what the run would process, and estimate its time and disk space from twenty frames.",
    )
    for section, kind in configuration.SECTIONS.items():
        about = texts.get(section, "").replace("%", "%%")
        group = command.add_argument_group(f"{section} of config.yml", about or None)
        prefix = f"{section}."
        own = {key.removeprefix(prefix): text for key, text in texts.items() if key.startswith(prefix)}
        add_section(group, kind, own)


# -- the commands


def _init(arguments: argparse.Namespace) -> None:
    from detectime.cli.projects import init_project

    for path in init_project(arguments.folder):
        print(path)
    print(f"Next: detectime lab {arguments.folder}   (or: cd {arguments.folder}, detectime run --help)")


def _lab(arguments: argparse.Namespace) -> None:
    from detectime.cli.lab import open_lab

    open_lab(arguments.folder, arguments.rest)


def _demo(arguments: argparse.Namespace) -> None:
    given = {
        "images": str(paths.SAMPLE / "TRAIN_DATA"),
        "labels": str(paths.SAMPLE / "train.csv"),
        "output": arguments.folder,
        "config": str(paths.CONFIG),
    }
    print("The sample has 120 rendered frames, 12 of them without a gesture.")
    output = _execute(given, paths.NOTEBOOKS / paths.DATA_LOADER)
    print(f"Open {output}/{REPORT_PAGE} in a browser; detectime info {arguments.folder} says what the folder holds.")
    _print_result(output)


def _run(arguments: argparse.Namespace) -> None:
    names = ("config", *configuration.PARAMETERS)
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.dry_run:
        _estimate(_load(given))
        return
    from detectime.storage.store import open_store

    output = _execute(given, _find_notebook(arguments.notebook))
    if not finished.is_report_current(open_store(output, reading=True)):
        _write_report(output)  # a notebook of the user's need not do it
    print(f"A page to share: {output}/{REPORT_PAGE}")
    _print_result(output)


def _report(arguments: argparse.Namespace) -> None:
    from detectime.report.unfinished import find_unfinished

    output = arguments.output
    if output.endswith(".ipynb"):  # as in scripts of earlier releases: the executed notebook of a run
        output = os.path.dirname(output) or "."
    output = paths.find_output(output)
    options: dict[str, Any] = {"blur_faces": arguments.blur_faces}
    if not find_unfinished(output):
        options["truth"] = _read_truth(output, arguments)
    labels = _check_labels(output, arguments.workers) if arguments.check_labels else None
    page = _write_report(output, arguments.to, labels=labels, **options)
    if find_unfinished(output):
        print("Note: this run is not finished: the page says how far it is, and what to do")
    print(page)


def _read_truth(output: str, arguments: argparse.Namespace) -> Any:
    """Read the truth that a report is to use, and say what is known of it."""
    from detectime import runs, truth

    run = runs.open_run(output)
    if arguments.truth == _REVIEWED and not os.path.exists(_REVIEWED):
        found = _read_reviewed(output, run)
    else:
        formats = {"truth_format": arguments.truth_format, "truth_pixels": arguments.truth_pixels}
        found = truth.read_truth(run, arguments.truth, **formats)
    if found is not None:
        if len(found.frames):
            print(f"Truth: {found.origin}, {len(found.frames):,} frames")
        for note in found.notes:
            print(f"Note: {note}")
    return found


def _read_reviewed(output: str, run: Any) -> Any:
    """Return what people decided of a run, as truth."""
    from detectime import truth

    found = truth.read_reviewed(run)
    if found is None:
        raise truth.TruthError(f"{output}: --truth {_REVIEWED}: nobody decided on a hand of this run yet")
    return found


def _check_labels(output: str, workers: int | None) -> Any:
    from detectime import label_check, runs

    return label_check.check_labels(runs.open_run(output), workers=workers)


def _info(arguments: argparse.Namespace) -> None:
    from detectime.cli.info import describe_run

    print(describe_run(paths.find_output(arguments.output)))


# -- what several commands do


def _load(given: dict[str, Any]) -> configuration.Config:
    """Load the configuration of a run, and refuse it if there is no data to run on."""
    parameters = {name: value for name, value in given.items() if name != "config"}
    config = configuration.load_config(given.get("config"), parameters)
    configuration.check_truth(config)
    if not any(config.is_explicit(f"data.{key}") for key in ("images", "labels")) and not _is_there(config):
        raise ConfigError(
            f"{config.data.labels}: no such file, and no other data is given; pass --images and --labels, or set them "
            "in config.yml. `detectime demo` runs on a rendered sample"
        )
    return config


def _is_there(config: configuration.Config) -> bool:
    places = (config.data.images, config.data.labels, os.path.join(config.data.output, "run.json"))
    return any(os.path.exists(place) for place in places)


def _find_notebook(named: str | None) -> Path:
    if named is not None:
        if not os.path.isfile(named):
            raise _UsageError(f"--notebook {named}: no such file")
        return Path(named)
    project = paths.find_project()
    own = project / "notebooks" / paths.DATA_LOADER if project else None
    return own if own is not None and own.is_file() else paths.NOTEBOOKS / paths.DATA_LOADER


def _execute(given: dict[str, Any], notebook: Path) -> str:
    """Execute notebook 01, keep it in the folder of the run, and return that folder."""
    from detectime.detection.resume import resume_config
    from detectime.storage.store import open_store

    config = _load(given)
    resume_config(config)  # refuses what cannot go on, before a kernel starts
    output = config.data.output
    print(f"images  {config.data.images}\nlabels  {config.data.labels}\noutput  {output}", flush=True)
    places = {name: getattr(config.data, name) for name in ("images", "labels", "output")}
    parameters = {**given, **{name: value for name, value in places.items() if name in given}}
    for name in ("config", "face_cache", "truth"):
        if isinstance(given.get(name), str):
            parameters[name] = os.path.abspath(given[name])
    with tempfile.TemporaryDirectory(prefix="detectime-") as folder:
        executed = Path(folder, notebook.name)
        try:
            execute_notebook(notebook, executed, parameters, _announce_rest)
        except NotebookError as error:
            _keep_failed(error, executed, output)
            raise
        store = open_store(output)
        store.put(REPORT_NOTEBOOK, _mark_pairing(executed.read_bytes(), store))
        store.delete([_FAILED_NOTEBOOK])
    print(f"The executed notebook: {output}/{REPORT_NOTEBOOK}")
    return output


def _mark_pairing(notebook: bytes, store: Store) -> bytes:
    """Say in the metadata of an executed notebook which pairing it shows."""
    from detectime.detection.manifest import read_manifest

    content, found = json.loads(notebook), read_manifest(store)
    if found and found["pairing"]:
        content["metadata"][finished.MADE_FROM] = {"hands_sha256": found["pairing"]["hands_sha256"]}
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _announce_rest() -> None:
    print("Pairing, and the notebook's figures …", flush=True)


def _keep_failed(error: NotebookError, executed: Path, output: str) -> None:
    """Keep the notebook of a failed run where there is a run, and print the traceback of a bug."""
    from detectime.detection.manifest import MANIFEST_FILE
    from detectime.storage.store import has_file, open_store

    if has_file(open_store(output, reading=True), MANIFEST_FILE) and executed.is_file():
        open_store(output).put(_FAILED_NOTEBOOK, executed.read_bytes())
        print(f"The notebook up to the error: {output}/{_FAILED_NOTEBOOK}")
    if _TRACEBACK in error.traceback:  # a documented error has none: see detectime/errors.py
        print(error.traceback, file=sys.stderr)
        error.args = (f"{error.kind}: {error.reason}",)


def _write_report(output: str, to: str | None = None, **options: Any) -> str:
    """Write the report of a run; return where it is."""
    from detectime.report.report import write_report

    return write_report(output, to, **options)


def _print_result(output: str) -> None:
    """Print the result of a run, from its ``outcomes.parquet``."""
    from detectime import outcomes, runs

    run = runs.open_run(output)
    for note in run.notes:
        print(f"Note: {note}")
    print(f"Samples: {output}/hands.json. One row per frame, with the reason: {output}/outcomes.csv")
    print(outcomes.summarize_samples(run.outcomes))


def _estimate(config: configuration.Config) -> None:
    """Print what a run would do."""
    sys.path.insert(0, os.getcwd())  # as in a kernel: a detector of the user's may lie there
    from detectime.cli.estimate import estimate_run
    from detectime.cli.info import describe_quality, format_bytes
    from detectime.labels.frame_table import count_frames, summarize_frames

    estimate = estimate_run(config)
    pending = estimate.pending
    print(summarize_frames(estimate.table))
    print(count_frames(estimate.table).to_string())
    detection = estimate.config.detection
    print(f"\nquality   {describe_quality(detection)}")
    print(f"detectors {', '.join((detection.detector_type, *detection.hand_detector))}")
    changed = f", {pending.changed:,} of which changed since they were processed" if pending.changed else ""
    print(f"pending   {estimate.frames:,} frames{changed}; {pending.done:,} are done")
    if estimate.measured:
        each = f"{1000 * estimate.seconds_per_frame:.0f} ms per frame on one core"
        where = (
            f"{estimate.workers} workers" if estimate.workers else "one core; divide it by the workers of the cluster"
        )
        print(f"measured  {each}, on {estimate.measured} of them")
        print(f"time      about {_format_seconds(estimate.seconds)} of detection with {where}")
        print(
            f"disk      about {format_bytes(estimate.bytes)} in {config.data.output}, beside the notebook and the page"
        )
    for note in estimate.notes:
        print(f"Note: {note}")
    print("Nothing was written.")


def _format_seconds(seconds: float) -> str:
    """Return a time as text: 5 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

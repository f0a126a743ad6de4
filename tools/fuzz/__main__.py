"""The command line of the fuzzer.

make fuzz, or: python -m tools.fuzz --seconds 60 --seed 1 --kind jpeg
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import definitions
from tools.fuzz.kinds import KINDS, Kind
from tools.fuzz.session import LEAST, Limits, Tally, count_failures, generate_inputs, run_session
from tools.fuzz.watch import Trial, Workers

_KEEP = definitions.ROOT_DIR / "reports" / "fuzz"
_WITHOUT_RUNS = {
    "bmp",
    "config_yml",
    "gif",
    "h5",
    "heic",
    "jpeg",
    "jpeg2000",
    "png",
    "pnm",
    "tar",
    "tiff",
    "webp",
    "zip",
}
"""Kinds whose functions open no run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try inputs, print a table, and return the exit status: 1 if one failed, or if too few were tried."""
    given = _parse(arguments)
    keep = given.keep.resolve()
    with tempfile.TemporaryDirectory(prefix="detectime-fuzz-") as scratch:
        if given.repeat is not None:
            return _repeat(given, keep, Path(scratch))
        kinds = [KINDS[name] for name in given.kind or KINDS]
        material = _make_material(keep, kinds)
        with _start_workers(given, given.jobs, material, Path(scratch)) as workers:
            tallies = [
                Tally(kind, seeds, generate_inputs(kind, seeds, given.seed))
                for kind, seeds in _read_seeds(material, kinds)
            ]
            least = int(LEAST * min(1, given.seconds / 60)) if given.inputs is None else 0
            run_session(
                tallies, workers, Limits(time.monotonic() + given.seconds, least, given.inputs), keep, given.seed
            )
    _print_table(tallies)
    return _judge(tallies, least, given)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long, after the start (60)")
    parser.add_argument("--seed", type=int, default=0, help="decides which inputs are tried, and in which order (0)")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; may be repeated")
    parser.add_argument("--inputs", type=int, help="end after so many inputs of each kind, besides the real ones")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--limit", type=float, default=10, help="seconds that an input may take (10)")
    parser.add_argument("--memory", type=float, default=2, help="GB that reading an input may take (2)")
    parser.add_argument("--keep", type=Path, default=_KEEP, help="folder for inputs that failed (reports/fuzz)")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="try one input again that was saved")
    parser.add_argument("--fault", action="append", default=[], help=argparse.SUPPRESS)  # of the fuzzer's own test
    return parser.parse_args(arguments)


def _make_material(keep: Path, kinds: Sequence[Kind]) -> Path:
    """Make the real inputs in a process of its own, so that nothing here depends on what it imports."""
    material = keep / "material"
    shutil.rmtree(material, ignore_errors=True)
    material.mkdir(parents=True)
    options = ["--without-runs"] if {kind.name for kind in kinds} <= _WITHOUT_RUNS else []
    command = [sys.executable, "-m", "tools.fuzz.material", str(material), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"the real inputs could not be made:\n{done.stdout}")
    return material


def _read_seeds(material: Path, kinds: Sequence[Kind]) -> list[tuple[Kind, list[bytes]]]:
    """Return the real inputs of each kind; a kind whose extra is not installed is left out, and said."""
    found = []
    for kind in kinds:
        folder = material / "seeds" / kind.name
        if folder.is_dir():
            found.append((kind, [path.read_bytes() for path in sorted(folder.iterdir())]))
        else:
            print(f"{kind.name}: not tried, since the package that makes such files is not installed")
    return found


def _start_workers(given: argparse.Namespace, count: int, material: Path, scratch: Path) -> Workers:
    return Workers(count, material, scratch, given.fault, given.limit, given.memory * 2**30)


def _repeat(given: argparse.Namespace, keep: Path, scratch: Path) -> int:
    """Try one saved input again, and print what happens."""
    kind = KINDS[given.repeat.name.partition("-")[0]]
    material = keep / "material"
    if not (material / ("frames" if kind.name in _WITHOUT_RUNS else "interrupted")).is_dir():
        material = _make_material(keep, [kind])
    with _start_workers(given, 1, material, scratch) as workers:
        found = []
        while not workers.count_free:
            found += workers.collect(1)
        workers.give(Trial(kind.name, kind.ending, 0, given.repeat.read_bytes()))
        while not found:
            found = workers.collect(1)
    ((_, answer),) = found
    print(
        f"{answer.verdict} in {answer.seconds:.2f} s, {answer.memory / 2**20:.0f} MB: {answer.cause}\n{answer.report}"
    )
    return int(answer.verdict == "failed")


def _print_table(tallies: Sequence[Tally]) -> None:
    row = "{:<19}{:>8}{:>10}{:>9}{:>10}{:>11}{:>9}"
    print(row.format("kind", "inputs", "accepted", "refused", "failures", "slowest s", "peak MB"))
    for tally in tallies:
        counts = [tally.verdicts[verdict] for verdict in ("accepted", "refused", "failed")]
        print(row.format(tally.kind.name, tally.tried, *counts, f"{tally.slowest:.2f}", round(tally.memory / 2**20)))
    verdicts = [sum(tally.verdicts[verdict] for tally in tallies) for verdict in ("accepted", "refused", "failed")]
    print(row.format("all", sum(verdicts), *verdicts, "", ""))


def _judge(tallies: Sequence[Tally], least: int, given: argparse.Namespace) -> int:
    """Say what failed and where it is saved, and return the exit status."""
    for tally in tallies:
        for cause, count in tally.causes.most_common():
            print(f"{tally.kind.name}: {count} × {cause}")
        for path in tally.saved:
            print(f"  python -m tools.fuzz --repeat {os.path.relpath(path)}")
    if given.inputs is not None:
        least = given.inputs
    few = [f"{tally.kind.name} ({tally.tried})" for tally in tallies if tally.tried < least]
    if few:
        print(
            f"Fewer than {least} inputs in {given.seconds:g} s: {', '.join(few)}; give more --seconds, or mend what is "
            "slow"
        )
    return int(bool(few) or count_failures(tallies) > 0)


if __name__ == "__main__":
    sys.exit(main())

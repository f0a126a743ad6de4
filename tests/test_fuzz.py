"""The fuzzer finds faults that are put in, accepts real inputs, and tries the same inputs again."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

from tools.fuzz import __main__ as fuzz
from tools.fuzz.kinds import KINDS
from tools.fuzz.session import generate_inputs

FAULTS = {
    "jpeg": ("hang_in_jpeg", "hang: more than 4 s in images.py"),
    "gif": ("raise_in_gif", "wrong answer: IndexError in <lambda> is taken for a broken image"),
    "bmp": ("waste_memory_in_bmp", "memory: more than 0.6 GB"),
    "pnm": ("die_in_pnm", "crash: SIGABRT in images.py"),
    "png": ("cut_rows_of_png", "wrong answer: (N, N, N) pixels of an image of N x N"),
    "csv_frames": ("lose_class_in_csv", "wrong answer: a label of another class"),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is saved by a session with all faults."""
    keep = tmp_path_factory.mktemp("fuzz")
    arguments = ["--keep", str(keep), "--inputs", "16", "--seed", "1", "--limit", "4", "--memory", "0.6"]
    for kind, (fault, _) in FAULTS.items():
        arguments += ["--kind", kind, "--fault", f"fuzz_faults:{fault}"]
    assert fuzz.main(arguments) == 1
    return keep


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_found(kind: str, damaged: Path) -> None:
    reports = [path.read_text() for path in damaged.glob(f"{kind}-1-*.txt")]
    # On a busy machine an input that takes much memory may also take too long.
    assert any(report.startswith(FAULTS[kind][1]) for report in reports), reports


@pytest.mark.slow
def test_failure_is_repeated(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = next(path for path in sorted(damaged.glob("gif-1-*")) if path.suffix == ".gif")
    repeat = ["--keep", str(damaged), "--repeat", str(saved)]
    assert fuzz.main([*repeat, "--fault", "fuzz_faults:raise_in_gif"]) == 1
    assert "IndexError" in capsys.readouterr().out
    assert fuzz.main(repeat) == 0


@pytest.mark.slow
@pytest.mark.large  # `make fuzz` begins with them
def test_real_inputs_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = fuzz.main(["--keep", str(tmp_path), "--inputs", "0"])
    assert status == 0, capsys.readouterr().out


def test_too_few_inputs_are_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--keep", str(tmp_path), "--kind", "pnm", "--inputs", "1000", "--seconds", "1"]) == 1
    assert "Fewer than 1000 inputs in 1 s: pnm (" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv_frames", "zip", "png"])
def test_inputs_follow_from_seed(kind: str, tmp_path: Path) -> None:
    seeds = {
        "csv_frames": b"frame_path,class_name\na.jpg,ok\n",
        "zip": b"PK\x05\x06" + bytes(18),
        "png": b"\x89PNG\r\n\x1a\n",
    }

    def digest(seed: int) -> str:
        inputs = itertools.islice(generate_inputs(KINDS[kind], [seeds[kind]], seed), 100)
        return hashlib.sha256(b"\0".join(inputs)).hexdigest()

    assert digest(1) == digest(1) != digest(2)

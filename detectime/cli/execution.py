"""Execution of a notebook by papermill in a process of its own, which reports its progress."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from detectime import progress
from detectime.errors import DocumentedError
from detectime.progress import Progress, ProgressState

_KERNEL = "detectime"
_POLL = 0.5  # seconds
_EXIT_WAIT = 15.0  # seconds in which the kernel is shut down after an interruption
_LAST_OUTPUT = 10_000  # bytes
# Not `-m papermill`: it would go on if this process was killed.
_COMMAND = "from detectime.cli.execution import serve_notebook; serve_notebook()"


class NotebookError(DocumentedError):
    """An error of a cell, or of what executes the notebook.

    Parameters
    ----------
    kind
        The name of the exception's class; empty if there was none.
    reason
        Its message.
    traceback
        Text; empty if there is none.
    """

    def __init__(self, kind: str, reason: str, traceback: str = "") -> None:
        super().__init__(reason)
        self.kind, self.reason, self.traceback = kind, reason, traceback


def execute_notebook(
    notebook: str | os.PathLike[str],
    target: str | os.PathLike[str],
    parameters: Mapping[str, Any],
    announce_rest: Callable[[], None] = lambda: None,
) -> None:
    """Execute a notebook with papermill, in the current folder, and show its progress.

    The kernel is this process's Python, whatever kernel of that name the user has installed.

    Parameters
    ----------
    notebook
        The notebook.
    target
        Where the executed notebook is written, also if a cell raises an error.
    parameters
        As papermill's; plain values.
    announce_rest
        Called whenever work whose progress is shown is over, and the notebook goes on without.

    Raises
    ------
    NotebookError
        If a cell raises an error, or the kernel dies.
    KeyboardInterrupt
        After Ctrl-C, when the kernel is gone.

    Examples
    --------
    >>> import nbformat
    >>> cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell("1 / x")]
    >>> cells[0].metadata["tags"] = ["parameters"]
    >>> language = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), Path(folder, "in.ipynb"))
    ...     execute_notebook(Path(folder, "in.ipynb"), Path(folder, "out.ipynb"), {"x": 0})
    Traceback (most recent call last):
        ...
    detectime.cli.execution.NotebookError: division by zero
    """
    with tempfile.TemporaryDirectory(prefix="detectime-") as folder, open(Path(folder, "stderr"), "w+b") as stderr:
        result, state_file = Path(folder, "result.json"), Path(folder, "progress.json")
        task = {
            "notebook": os.path.abspath(notebook),
            "target": os.path.abspath(target),
            "parameters": dict(parameters),
            "result": str(result),
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends that one
            env=_make_environment(Path(folder), state_file),
        )
        try:
            _send(process, task)
            for _ in _watch(process, state_file):
                announce_rest()
        finally:
            _stop(process)
        if process.returncode:
            raise _read_error(result, stderr, process.returncode)


def _make_environment(folder: Path, state_file: Path) -> dict[str, str]:
    """Return the environment of the process: with a kernel of this Python, and a file for the progress."""
    kernel = folder / "kernels" / _KERNEL
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specification = {"argv": command, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(specification))
    found = [str(folder), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    return {
        **{name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"},  # nobody watches it there
        "JUPYTER_PATH": os.pathsep.join(found),
        progress.FILE_VARIABLE: str(state_file),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a warning of the debugger that ipykernel brings
    }


def _send(process: subprocess.Popen[bytes], task: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # its exit status will show it
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()


def _watch(process: subprocess.Popen[bytes], state_file: Path) -> Iterator[ProgressState]:
    """Draw the progress of a process until it ends; yield the last state of each work when it is over."""
    shown: Progress | None = None
    work = 0
    with contextlib.ExitStack() as stack:
        is_running = True
        while is_running:
            time.sleep(_POLL)
            is_running = process.poll() is None
            state = progress.read_state(state_file)
            if state is None:
                continue
            if state.work != work:
                stack.close()
                work, shown = state.work, stack.enter_context(_draw(state))
            if shown is not None:
                shown.total = state.total
                if state.done > shown.done:
                    shown.add(state.done - shown.done)
                else:
                    shown.redraw()
                if state.is_over:
                    stack.close()
                    shown = None
                    yield state


def _draw(state: ProgressState) -> Progress:
    return Progress(state.total, state.unit, name=state.name, done=state.earlier, file="")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still running: it shuts its kernel down when its standard input ends."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_EXIT_WAIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_error(result: Path, stderr: Any, status: int) -> NotebookError:
    """Return the error that a process reported, or what is known of one that ended without a report."""
    with contextlib.suppress(OSError, ValueError):
        return NotebookError(**json.loads(result.read_text(encoding="utf-8")))
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _LAST_OUTPUT))
    output = stderr.read().decode(errors="replace").strip()
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    last = output.splitlines()[-1:] or [""]
    return NotebookError("", f"papermill {how}{': ' * bool(last[0])}{last[0]}", output)


# -- in the process that executes the notebook


def serve_notebook() -> None:
    """Execute the notebook that standard input describes, until it ends. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in background jobs
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_interrupt_at_end_of_input, daemon=True).start()
    try:
        _execute(task)
    except NotebookError as error:
        report = {"kind": error.kind, "reason": error.reason, "traceback": error.traceback}
        Path(task["result"]).write_text(json.dumps(report), encoding="utf-8")
        raise SystemExit(1) from None


def _interrupt_at_end_of_input() -> None:
    """Interrupt this process when the one that started it is gone, or wants it to end."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)  # nbclient shuts the kernel down


def _execute(task: Mapping[str, Any]) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            task["notebook"],
            task["target"],
            task["parameters"],
            kernel_name=_KERNEL,
            progress_bar=False,
        )
    except PapermillExecutionError as error:
        text = "\n".join(error.traceback) if isinstance(error.traceback, list) else str(error.traceback)
        raise NotebookError(error.ename, error.evalue, text) from error
    except DeadKernelError as error:
        reason = "the notebook's kernel died: was it killed, for lack of memory perhaps? Run again: it resumes"
        raise NotebookError("DeadKernelError", reason) from error

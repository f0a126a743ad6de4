"""The base of documented errors, and errors that several packages raise; the others stand beside what raises them."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable

TRACEBACK_VARIABLE = "DETECTIME_TRACEBACK"
"""Environment variable; 1: notebooks show the whole traceback of documented errors too."""

_WIDTH = 100  # characters of a line, where JupyterLab would break lines within words
_RED, _PLAIN = "\x1b[1;31m", "\x1b[0m"  # as IPython colours the names of errors


class DocumentedError(Exception):
    """An error that the documentation names: its message says what is wrong and what to do.

    A notebook shows it as one message, without the lines of code that led to it. Other exceptions are bugs and keep
    their tracebacks.
    """

    @property
    def _render_traceback_(self) -> Callable[[], list[str]]:
        """What IPython calls instead of formatting a traceback, if the attribute exists."""
        if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise AttributeError(f"{TRACEBACK_VARIABLE} is set")
        return self._format_lines

    def _format_lines(self) -> list[str]:
        """Return the lines that a notebook shows, as ANSI text."""
        name = type(self).__name__
        lines = f"{name}: {self}".splitlines()
        # Elsewhere the message stays in one line, which papermill and nbclient print last.
        if "JPY_SESSION_NAME" in os.environ or "COLAB_RELEASE_TAG" in os.environ:
            lines = [part for line in lines for part in _wrap_line(line)]
        return [f"{_RED}{name}{_PLAIN}{lines[0].removeprefix(name)}", *lines[1:]]


class ConfigError(DocumentedError, ValueError):
    """An invalid configuration; the message names the key, the value and what is accepted."""


def _wrap_line(line: str) -> list[str]:
    """Break a line between words; a path stays whole."""
    return textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False, drop_whitespace=True) or [""]

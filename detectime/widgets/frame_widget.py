"""What both widgets are: a front end, messages that it sends and gets, pictures of frames, and a static picture."""

from __future__ import annotations

import logging
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
import traitlets
from IPython.display import display

from detectime import corrections
from detectime.errors import ConfigError, DocumentedError
from detectime.outcomes import summarize_samples
from detectime.runs import FinishedRun
from detectime.widgets.pictures import LARGE, SMALL, FramePictures, Picture, Wish
from detectime.widgets.run_frames import RunFrames
from detectime.widgets.still import Still

Message = Mapping[str, Any]
"""A message from the front end: `kind`, `id` if it wants a reply, and what its kind needs."""

Reply = dict[str, Any]

_FOLDER = Path(__file__).parent
_SIDES = (SMALL, LARGE)
_MOST_WISHES = 200

_logger = logging.getLogger(__name__)


def read_style(name: str) -> str:
    """Return the style sheet of a widget, after the common one."""
    return _join_texts("common.css", f"{name}.css")


def read_script(name: str) -> str:
    """Return the front end of a widget, after what both share: one ECMAScript module, without a build step."""
    return _join_texts("common.js", f"{name}.js")


def _join_texts(*files: str) -> str:
    return "\n".join((_FOLDER / file).read_text("utf-8") for file in files)


def check_run(run: object) -> None:
    """Refuse what is no run, such as the path of one.

    Raises
    ------
    ConfigError
        With what to write instead.
    """
    if not isinstance(run, FinishedRun):
        raise ConfigError(f"{run!r}: this is no run; pass what runs.open_run({str(run)!r}) returns")


def describe_pairing(run: FinishedRun, samples: pd.DataFrame) -> str:
    """Say what pairing wrote, and which decisions do not count, and why.

    Parameters
    ----------
    run
        The run, with the notes of its last pairing.
    samples
        What `outcomes.pair_run` returned.
    """
    notes = [f" {note}." for note in run.notes if note.kind in corrections.NOT_COUNTING]
    return f"hands.json is written: {summarize_samples(samples)}.{''.join(notes)}"


class FrameWidget(anywidget.AnyWidget):
    """A widget that shows frames of a run.

    Requests and replies are custom messages, so that traits, which a saved notebook may hold, stay small. A request
    that fails is answered with a sentence, and changes nothing.

    Parameters
    ----------
    run
        The run.
    frames
        What is shown of it.
    """

    still = traitlets.Unicode("").tag(sync=True)
    still_text = traitlets.Unicode("").tag(sync=True)
    key = traitlets.Unicode("").tag(sync=True)
    _pictures: FramePictures | None = None  # until it is initialised

    def __init__(self, run: FinishedRun, frames: RunFrames) -> None:
        super().__init__(key=uuid.uuid4().hex)
        self.run, self.frames = run, frames
        self._still: Still | None = None
        this = weakref.ref(self)  # the threads of the pictures keep nothing alive

        def deliver(wish: Wish, picture: Picture) -> None:
            widget = this()
            if widget is not None:
                widget.send_picture(wish, picture)

        self._pictures = FramePictures(run, frames.make_task, deliver)
        self._answers: dict[str, Callable[[Message], Reply | None]] = {"pictures": self._request_pictures}
        self.on_msg(self._receive)

    def make_still(self) -> Still:
        """Make the static picture."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        """Show the static picture, for viewers that know no widgets, and the widget, whose front end hides it."""
        if self._still is None:
            self._still = self.make_still()
            self.still, self.still_text = self._still.uri, self._still.text
        display(self._still.make_bundle(self.key), raw=True)
        bundle = self._repr_mimebundle_()
        assert bundle is not None
        data, metadata = bundle
        display(data, metadata=metadata, raw=True)

    def close(self) -> None:
        """End the widget and its processes."""
        if self._pictures is not None:
            self._pictures.close()
        super().close()

    def send_picture(self, wish: Wish, picture: Picture) -> None:
        """Send a picture to the front end."""
        buffers = [] if picture.jpeg is None else [picture.jpeg]
        self.send({"kind": "picture", "row": wish.row, "side": wish.side, "fault": picture.fault}, buffers)

    def _receive(self, _: object, message: Message, buffers: Sequence[object]) -> None:
        """Answer a message from the front end."""
        try:
            answer = self._answers[message["kind"]](message)
        except DocumentedError as error:
            answer = {"kind": "fault", "text": str(error)}
        except Exception as error:  # the front end waits for a reply, and says what went wrong
            _logger.exception("the request %r of a widget failed", message.get("kind"))
            answer = {"kind": "fault", "text": f"{type(error).__name__}: {error}"}
        if answer is not None:
            self.send({**answer, "id": message.get("id")})

    def _request_pictures(self, message: Message) -> None:
        """Ask for pictures; those that were asked for before and are not being made are no longer wanted."""
        last = len(self.frames.samples)
        wishes = [Wish(int(wish["row"]), int(wish["side"])) for wish in message["wanted"][:_MOST_WISHES]]
        assert self._pictures is not None
        self._pictures.request([wish for wish in wishes if 0 <= wish.row < last and wish.side in _SIDES])

"""Pictures for the widgets: worker processes make them, the latest wishes first, and a bad frame costs only itself."""

from __future__ import annotations

import io
import queue
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import faults
import numpy as np
import pytest
from finished_runs import make_run
from PIL import Image

from detectime.paths import SAMPLE
from detectime.report.thumbnail_worker import ThumbnailTask
from detectime.runs import FinishedRun, open_run
from detectime.widgets import pictures
from detectime.widgets.pictures import LARGE, SMALL, FramePictures, Picture, Wish, make_cut
from detectime.widgets.run_frames import RunFrames

PATIENCE = 60.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(SAMPLE / "TRAIN_DATA", folder / "frames")
    return make_run(folder / "out", images=str(folder / "frames"))


class Inbox:
    """What was delivered."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[tuple[Wish, Picture]] = queue.SimpleQueue()

    def put(self, wish: Wish, picture: Picture) -> None:
        self._arrived.put((wish, picture))

    def take(self, count: int) -> dict[Wish, Picture]:
        """Wait for so many pictures; those that come are a dictionary in their order."""
        return dict(self._arrived.get(timeout=PATIENCE) for _ in range(count))


@contextmanager
def serve(run: FinishedRun, make_task: Callable[[Wish], ThumbnailTask | str]) -> Iterator[tuple[FramePictures, Inbox]]:
    inbox = Inbox()
    served = FramePictures(run, make_task, inbox.put)
    try:
        yield served, inbox
    finally:
        served.close()


def read_jpeg(picture: Picture) -> np.ndarray:
    assert picture.jpeg is not None, picture.fault
    image = Image.open(io.BytesIO(picture.jpeg))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB"))


def test_pictures_show_their_frames(run: FinishedRun) -> None:
    frames = RunFrames(run, run.outcomes)
    wishes = [Wish(0, LARGE), Wish(0, SMALL), Wish(5, SMALL)]
    with serve(run, frames.make_task) as (served, inbox):
        served.request(wishes)
        made = inbox.take(3)
    large, small, other = (read_jpeg(made[wish]) for wish in wishes)
    assert large.shape == (480, 640, 3)
    assert small.shape == (192, 256, 3)
    with Image.open(Path(run.config.data.images) / frames.samples["frame_path"][0]) as stored:
        original = np.asarray(stored.convert("RGB")).astype(float)
    assert np.abs(large - original).mean() < 4
    assert np.abs(small.astype(float) - other).mean() > 2


def test_the_first_wish_is_the_most_urgent_and_new_wishes_replace_old_ones(
    run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_WORKERS", 1)
    monkeypatch.setattr(pictures, "_BATCH", 1)
    frames = RunFrames(run, run.outcomes)
    old, new = [Wish(row, SMALL) for row in range(60)], [Wish(row, SMALL) for row in (90, 80, 70)]
    with serve(run, frames.make_task) as (served, inbox):
        served.request(old)
        begun = inbox.take(1)
        served.request(new)
        arrived = [*begun, *inbox.take(4)]
        time.sleep(0.3)
        assert inbox._arrived.empty()
    assert arrived[0] == old[0]
    late = [wish for wish in arrived if wish in old]
    assert len(late) <= 2, "one that was delivered, and one that was being made"
    assert [wish for wish in arrived if wish in new] == new


def test_a_picture_is_made_once(run: FinishedRun) -> None:
    asked: list[Wish] = []
    frames = RunFrames(run, run.outcomes)

    def count(wish: Wish) -> ThumbnailTask | str:
        asked.append(wish)
        return frames.make_task(wish)

    with serve(run, count) as (served, inbox):
        for _ in range(3):
            served.request([Wish(1, SMALL)])
            assert inbox.take(1)[Wish(1, SMALL)].jpeg
    assert asked == [Wish(1, SMALL)]


def test_the_cache_has_a_limit(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_CACHED", 100_000)
    frames = RunFrames(run, run.outcomes)
    with serve(run, frames.make_task) as (served, inbox):
        served.request([Wish(row, SMALL) for row in range(60)])
        made = inbox.take(60)
        kept = sum(len(picture.jpeg or b"") for picture in served._cache.values())
        assert sum(len(picture.jpeg or b"") for picture in made.values()) > 200_000
        assert kept == served._cached <= 100_000


def test_frames_that_are_gone_changed_or_broken_say_so(run: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(run.config.data.images, tmp_path / "frames")
    shutil.copytree(str(run.store), tmp_path / "out")
    manifest = tmp_path / "out" / "run.json"
    manifest.write_text(manifest.read_text().replace(run.config.data.images, str(tmp_path / "frames")))
    copied = open_run(tmp_path / "out")
    frames = RunFrames(copied, copied.outcomes)
    paths = [tmp_path / "frames" / path for path in frames.samples["frame_path"][:4]]
    paths[0].unlink()
    paths[1].write_bytes(b"")
    shutil.copy(paths[3], paths[2])
    with serve(copied, frames.make_task) as (served, inbox):
        served.request([Wish(row, SMALL) for row in range(4)])
        made = inbox.take(4)
        assert [made[Wish(row, SMALL)].fault is None for row in range(4)] == [False, False, False, True]
        assert made[Wish(0, SMALL)].fault == "The frame cannot be shown: No such file or directory."
        assert made[Wish(2, SMALL)].fault == "The frame cannot be shown: the file changed since detection."
        shutil.copy(Path(run.config.data.images) / frames.samples["frame_path"][0], paths[0])
        served.request([Wish(0, SMALL)])
        assert inbox.take(1)[Wish(0, SMALL)].fault is None, "a fault is not kept: the frame may be back"


@pytest.mark.slow
@pytest.mark.parametrize("side", [SMALL, LARGE])
def test_a_frame_that_kills_or_hangs_its_decoder_costs_itself(
    side: int, run: FinishedRun, tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = faults.name_frames(20, die=[3], sleep=[7])
    faults.make_frames(tmp_path / "frames", names)
    monkeypatch.setattr(pictures, "_FRAME_TIMEOUT", 2.0)
    monkeypatch.setitem(run.__dict__, "source", faults.FaultyFolder(str(tmp_path / "frames"), str(journal)))
    wishes = [Wish(row, side) for row in range(20)]
    with serve(run, lambda wish: ThumbnailTask(names[wish.row], None, None, (), (make_cut(wish.side),))) as pair:
        served, inbox = pair
        served.request(wishes)
        made = inbox.take(20)
    assert sorted(wish.row for wish, picture in made.items() if picture.fault) == [3, 7]
    assert made[Wish(7, side)].fault == "The frame cannot be shown: reading it took longer than 2 s."


def test_a_source_that_no_worker_can_have_is_named(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.__dict__, "source", faults.make_unsendable("somewhere"))
    frames = RunFrames(run, run.outcomes)
    with serve(run, frames.make_task) as (served, inbox):
        served.request([Wish(0, SMALL)])
        fault = inbox.take(1)[Wish(0, SMALL)].fault
    assert fault is not None
    assert "UnsendableFolder cannot be sent to a worker" in fault


def test_processes_end_when_the_widget_does_and_when_it_is_idle(
    run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(faults.list_children())
    frames = RunFrames(run, run.outcomes)
    with serve(run, frames.make_task) as (served, inbox):
        served.request([Wish(0, SMALL)])
        inbox.take(1)
        assert len(set(faults.list_children()) - before) == 1
    faults.wait_until(lambda: set(faults.list_children()) <= before)
    monkeypatch.setattr(pictures, "_IDLE", 0.2)
    with serve(run, frames.make_task) as (served, inbox):
        served.request([Wish(0, SMALL)])
        inbox.take(1)
        faults.wait_until(lambda: set(faults.list_children()) <= before)
        served.request([Wish(1, SMALL)])
        assert inbox.take(1)[Wish(1, SMALL)].jpeg, "a new process is started"


def test_blurred_faces_are_blurred_here_too(run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = RunFrames(run, run.outcomes)
    row = int(np.flatnonzero(frames.samples["outcome"] == "paired")[0])
    x1, y1, x2, y2 = frames.samples.loc[row, ["face_x1", "face_y1", "face_x2", "face_y2"]].astype(int)
    faceless = int(np.flatnonzero(frames.samples["faces"] == 0)[0]) if (frames.samples["faces"] == 0).any() else None
    found = []
    for is_blurred in (False, True):
        object.__setattr__(run.config.display, "blur_faces", is_blurred)
        with serve(run, frames.make_task) as (served, inbox):
            served.request([Wish(row, LARGE)])
            found.append(read_jpeg(inbox.take(1)[Wish(row, LARGE)])[y1:y2, x1:x2].astype(float))
            if is_blurred and faceless is not None:
                assert "no face was found" in str(frames.make_task(Wish(faceless, LARGE)))
    object.__setattr__(run.config.display, "blur_faces", False)
    detail = [np.abs(np.diff(part, axis=1)).mean() for part in found]
    assert detail[1] < detail[0] / 2

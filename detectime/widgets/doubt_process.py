"""Doubt scored in a process of its own: it takes seconds where there are many frames, and the kernel stays free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import pyarrow as pa

from detectime.detection.engines.contract import EngineError, LostShard
from detectime.detection.engines.worker_process import WorkerProcess
from detectime.doubt import score_doubt
from detectime.runs import FinishedRun, open_run
from detectime.sources.contract import Source
from detectime.widgets.pictures import wait_for_event

_TIMEOUT = 1800.0  # seconds
_COLUMNS = ("frame_path", "doubt", "reasons")


class DoubtWorker:
    """Scores the doubt of a run: see `contract.ShardWorker`."""

    def __call__(self, _: Source, outputs: Sequence[str], at: Callable[[int | None], None]) -> pa.Table:
        """Return `frame_path`, `doubt` and `reasons` of the frames of a run."""
        at(0)
        return pa.Table.from_pandas(score_doubt(open_run(outputs[0]))[list(_COLUMNS)], preserve_index=False)


def score_in_process(run: FinishedRun) -> pd.DataFrame:
    """Score the doubt of a run in another process, and wait for it.

    Returns
    -------
    DataFrame
        `frame_path`, `doubt` and `reasons`, as `doubt.score_doubt` returns them.

    Raises
    ------
    EngineError
        If the process ends, or takes half an hour.
    """
    worker = WorkerProcess(DoubtWorker, run.source, _TIMEOUT)
    try:
        event = wait_for_event(worker)
        if not isinstance(event, LostShard):
            worker.give((str(run.store),))
            event = wait_for_event(worker)
    finally:
        worker.stop()
    if not isinstance(event, pa.Table):
        raise EngineError(f"the doubt cannot be scored: {event.reason if isinstance(event, LostShard) else event}")
    doubt: pd.DataFrame = event.to_pandas()
    return doubt

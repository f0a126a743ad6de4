"""The frames that still need detection, cut into shards, and the search for a frame that kills workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import pyarrow as pa

from detectime.detection.engines.contract import LostShard, Shard

_MAX_LOSSES = 3  # a frame that loses its worker this often is given up


class PendingFrames:
    """A queue of shards: see `engines.contract.ShardQueue`. Shards are cut on demand: a million paths stay in Arrow.

    Parameters
    ----------
    frame_paths, stamps
        Text, shape (N,): the frames, and the stamp of each.
    shard_size
        Frames per shard.

    Examples
    --------
    >>> queue = PendingFrames(pa.array(["a.jpg", "b.jpg", "c.jpg"]), pa.array(["1", "2", "3"]), shard_size=2)
    >>> queue.popleft(), queue.popleft()
    (('a.jpg', 'b.jpg'), ('c.jpg',))
    """

    def __init__(self, frame_paths: pa.Array, stamps: pa.Array, shard_size: int) -> None:
        self._frame_paths, self._stamps, self._shard_size = frame_paths, stamps, shard_size
        self._next = 0
        self._returned: deque[Shard] = deque()
        self._starts: dict[Shard, int] = {}  # of shards that are not saved yet: the position of their first frame
        self._losses: Counter[str] = Counter()

    def __len__(self) -> int:
        return -(-(len(self._frame_paths) - self._next) // self._shard_size) + len(self._returned)

    def share_among(self, workers: int) -> None:
        """Cut a small set so that each worker gets some of it."""
        if not self._next:
            self._shard_size = max(1, min(self._shard_size, -(-len(self._frame_paths) // workers)))

    def popleft(self) -> Shard:
        """Remove and return the next shard; returned ones come last."""
        if self._next >= len(self._frame_paths):
            return self._returned.popleft()
        shard = tuple(self._frame_paths.slice(self._next, self._shard_size).to_pylist())
        self._starts[shard] = self._next
        self._next += len(shard)
        return shard

    def return_lost(self, shard: Shard, loss: LostShard) -> str | None:
        """Put the parts of a lost shard back, so that they close in on the frame that loses workers.

        They come last: what killed the worker may have been a passing shortage.

        Returns
        -------
        str or None
            The frame that is given up, if there is one; then the whole of `shard`, and no part is put back.
        """
        parts, given_up = self._bisect(shard, loss)
        start = self._starts[shard]
        for part in parts:
            self._starts[part] = start
            self._returned.append(part)
            start += len(part)
        return given_up

    def take_stamps(self, shard: Shard) -> pa.Array:
        """Return the stamps of a shard that is done."""
        return self._stamps.slice(self._starts.pop(shard), len(shard))

    def _bisect(self, shard: Shard, loss: LostShard) -> tuple[Iterable[Shard], str | None]:
        """Return the parts of a lost shard that are tried next, and the frame that is given up, if any."""
        if len(shard) == 1:
            self._losses[shard[0]] += 1
            return ([], shard[0]) if self._losses[shard[0]] >= _MAX_LOSSES else ([shard], None)
        if loss.at is None:
            middle = len(shard) // 2
            return [shard[:middle], shard[middle:]], None
        self._losses[shard[loss.at]] += 1
        parts = shard[: loss.at], shard[loss.at : loss.at + 1], shard[loss.at + 1 :]
        return [part for part in parts if part], None

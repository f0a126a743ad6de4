"""Choosing a part for each unit of a split, so that every part has its share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Flags, Floats
from detectime.candidates import Indices

_TOLERANCE = 0.3  # a unit that covers a class may balance it so much less than the best one: chance decides
_ROUNDS = 3  # of improvement: later ones change next to nothing
_LEAST_GAIN = 1e-12  # of a move: less is rounding


def choose_parts(counts: Floats, shares: Floats, fixed: Indices, ranks: NDArray[np.uint64]) -> Indices:
    """Choose a part for each unit: first so that each part has each class, then so that the shares come out.

    What is minimised is, summed over parts and columns, the squared difference between the part's share of the column
    and its wanted share, divided by the latter. Units are placed one after the other, the largest first, where they
    reduce it most; then single units are moved as long as that reduces it.

    Parameters
    ----------
    counts
        float64, shape (units, columns): what each unit holds of what is to be shared out, such as samples per class.
    shares
        float64, shape (parts,): the wanted shares; their sum is 1.
    fixed
        int64, shape (units,): the part of a unit that has one already, or -1.
    ranks
        uint64, shape (units,): random numbers, which decide between units of about one size.

    Returns
    -------
    ndarray
        int64, shape (units,): index of the part.

    Examples
    --------
    >>> counts = np.array([[50, 0], [50, 0], [0, 30], [0, 30]])
    >>> parts = choose_parts(counts, np.array([0.6, 0.4]), np.full(4, -1), np.arange(4, dtype=np.uint64))
    >>> parts.tolist()
    [0, 1, 0, 1]
    """
    balance = _Balance(np.asarray(counts, np.float64), np.asarray(shares, np.float64), fixed)
    by_rank = np.argsort(ranks, kind="stable")
    balance.cover_columns(by_rank)
    balance.place_rest(by_rank)
    movable = by_rank[fixed[by_rank] < 0]
    balance.fill_parts(movable)
    for _ in range(_ROUNDS):
        if not balance.move_units(movable):
            break
    return balance.part


def measure_deviation(counts: Floats, parts: Indices, shares: Floats) -> Floats:
    """Measure by how much the shares of each part differ from the wanted ones.

    Parameters
    ----------
    counts
        Shape (units, columns).
    parts
        int64, shape (units,): the part of each unit.
    shares
        Shape (parts,): the wanted shares.

    Returns
    -------
    ndarray
        float64, shape (parts, columns): share of the column minus wanted share; 0 for empty columns.

    Examples
    --------
    >>> measure_deviation(np.array([[3.0], [1.0]]), np.array([0, 1]), np.array([0.5, 0.5])).tolist()
    [[0.25], [-0.25]]
    """
    fractions = _make_fractions(counts)
    sums = np.stack([fractions[parts == part].sum(axis=0) for part in range(len(shares))])
    deviation: Floats = np.where(fractions.any(axis=0), sums - shares[:, None], 0.0)
    return deviation


class _Balance:
    """The units placed so far.

    Attributes
    ----------
    part
        int64, shape (units,): -1 where it is not placed.
    """

    def __init__(self, counts: Floats, shares: Floats, fixed: Indices) -> None:
        self._fractions, self._shares = _make_fractions(counts), shares
        self._squares = (self._fractions**2).sum(axis=1)
        self._holds = self._fractions > 0
        self._excess = np.repeat(-shares[:, None], counts.shape[1], axis=1)  # of a part over its share of a column
        self._holders = np.zeros(self._excess.shape, np.int64)  # units of a part that hold some of a column
        self.part = np.full(len(counts), -1)
        for unit in np.flatnonzero(fixed >= 0).tolist():
            self._place(unit, int(fixed[unit]))

    def cover_columns(self, order: Indices) -> None:
        """Give each part a unit that holds each column, rare columns and large parts first."""
        first = int(self._shares.argmax())
        # Of equal parts the last: what is enough for two parts is better tested than validated.
        others = sorted(set(range(len(self._shares))) - {first}, key=lambda part: (-self._shares[part], -part))
        for column in np.argsort(self._holds.sum(axis=0), kind="stable").tolist():
            for part in [first, *others]:
                left = order[(self.part[order] < 0) & self._holds[order, column]]
                if len(left) and not self._holders[part, column]:
                    self._place(self._choose_unit(left, part), part)

    def place_rest(self, order: Indices) -> None:
        """Place all other units, the largest first."""
        left = order[self.part[order] < 0]
        # Sizes by powers of two, so that chance decides between units of about one size.
        size = np.frexp(self._fractions[left].sum(axis=1))[1]
        for unit in left[np.argsort(-size, kind="stable")].tolist():
            self._place(unit, int(self._weigh_parts(unit).argmin()))

    def fill_parts(self, units: Indices) -> None:
        """Move a unit to each empty part, from parts that have several."""
        for part in range(len(self._shares)):
            sizes = np.bincount(self.part, minlength=len(self._shares))
            left = units[sizes[self.part[units]] > 1]
            if not sizes[part] and len(left):
                unit = int(left[self._weigh_moves(left)[:, part].argmin()])
                self._place(unit, int(self.part[unit]), -1)
                self._place(unit, part)

    def move_units(self, units: Indices) -> bool:
        """Move units to other parts where that is better and leaves no part without a column; return if any was."""
        has_moved = False
        for unit in units[self._may_gain(units)].tolist():
            part = int(self.part[unit])
            self._place(unit, part, -1)
            costs = self._weigh_parts(unit)
            best = int(costs.argmin())
            is_needed = bool(self._holds[unit][self._holders[part] == 0].any())
            if is_needed or costs[best] > costs[part] - _LEAST_GAIN:
                best = part
            self._place(unit, best)
            has_moved |= best != part
        return has_moved

    def _place(self, unit: int, part: int, sign: int = 1) -> None:
        """Put a unit into a part, or with sign -1 take it out."""
        self._excess[part] += sign * self._fractions[unit]
        self._holders[part] += sign * self._holds[unit]
        self.part[unit] = part if sign > 0 else -1

    def _weigh_parts(self, unit: int) -> Floats:
        """Return the change of what is minimised if a unit were put into each part, shape (parts,)."""
        change: Floats = (2 * self._excess @ self._fractions[unit] + self._squares[unit]) / self._shares
        return change

    def _choose_unit(self, units: Indices, part: int) -> int:
        """Return the first unit that balances a part about as well as the best one."""
        costs = 2 * self._fractions[units] @ self._excess[part] + self._squares[units]
        least = costs.min()
        return int(units[np.argmax(costs <= least + _TOLERANCE * abs(least))])

    def _may_gain(self, units: Indices) -> Flags:
        """Return which units could be moved to a better part, as all units lie now."""
        gain: Flags = self._weigh_moves(units).min(axis=1, initial=np.inf) < -_LEAST_GAIN
        return gain

    def _weigh_moves(self, units: Indices) -> Floats:
        """Return the change of what is minimised if units were moved to each other part, shape (units, parts).

        It is infinite for the part in which the unit is.
        """
        products, squares = 2 * self._fractions[units] @ self._excess.T, self._squares[units, None]
        own = self.part[units][:, None]
        out = np.take_along_axis((squares - products) / self._shares, own, axis=1)
        return np.where(np.arange(len(self._shares)) == own, np.inf, (products + squares) / self._shares + out)


def _make_fractions(counts: Floats) -> Floats:
    """Return which fraction of its column each count is; 0 in empty columns."""
    totals = counts.sum(axis=0)
    fractions: Floats = counts / np.where(totals > 0, totals, 1)
    return fractions

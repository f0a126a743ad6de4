"""Choosing a part for each unit of a split, so that every part has its share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectime.boxes import Flags, Floats
from detectime.candidates import Indices

_TOLERANCE = 0.8  # a unit that covers a class may balance it so much less than the best one: chance decides
_MOST_EXCESS = 0.02  # of a part over its share of everything, for the sake of a class that it lacks
_ROUNDS = 3  # of improvement: later ones change next to nothing
_MANY = 5000  # units: so many are balanced by one try, and more tries would take long
_FEW = 120  # units: so few need exchanges, which take long with more
_EXCHANGES = 100  # at most, per round
_CHECKED = 20  # pairs that reduce it most: if none may be exchanged, that is the end
_LEAST_GAIN = 1e-12  # of a move: less is rounding


def choose_parts(counts: Floats, shares: Floats, fixed: Indices, ranks: NDArray[np.uint64]) -> Indices:
    """Choose a part for each unit so that the shares come out, and each part has each class, as far as they allow.

    What is minimised is, summed over parts and columns, the squared difference between the part's share of the column
    and its wanted share, divided by the latter. Units are placed one after the other, the largest first, where they
    reduce it most; then units are moved, and pairs exchanged, as long as that reduces it. The best of a few
    tries counts.

    Parameters
    ----------
    counts
        float64, shape (units, columns): what each unit holds of what is to be shared out, such as samples per class.
    shares
        float64, shape (parts,): the wanted shares; their sum is 1.
    fixed
        int64, shape (units,): the part of a unit that has one already, or -1.
    ranks
        uint64, shape (units, tries): random numbers, which decide between units of about one size.

    Returns
    -------
    ndarray
        int64, shape (units,): index of the part.

    Examples
    --------
    >>> counts = np.array([[50, 0], [50, 0], [0, 30], [0, 30]])
    >>> parts = choose_parts(counts, np.array([0.6, 0.4]), np.full(4, -1), np.arange(8, dtype=np.uint64).reshape(4, 2))
    >>> parts.tolist()
    [0, 1, 0, 1]
    """
    counts, shares = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    tries = ranks.T if len(counts) <= _MANY else ranks.T[:1]
    found = [_try_order(_Balance(counts, shares, fixed), np.argsort(rank, kind="stable")) for rank in tries]
    return min(found, key=lambda balance: balance.rate()).part


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


def _try_order(balance: _Balance, order: Indices) -> _Balance:
    """Place all units, where chance decides in this order."""
    movable = order[balance.part[order] < 0]
    balance.cover_columns(order)
    balance.place_rest(order)
    balance.fill_parts(movable)
    for _ in range(_ROUNDS):
        has_moved = balance.move_units(movable)
        has_moved |= len(movable) <= _FEW and balance.exchange_units(movable)
        if not has_moved:
            break
    return balance


class _Balance:
    """The units placed so far.

    Attributes
    ----------
    part
        int64, shape (units,): -1 where it is not placed.
    """

    def __init__(self, counts: Floats, shares: Floats, fixed: Indices) -> None:
        self._fractions, self._shares = _make_fractions(counts), shares
        self._sizes = counts.sum(axis=1) / max(counts.sum(), 1)
        self._squares = (self._fractions**2).sum(axis=1)
        self._holds = self._fractions > 0
        self._excess = np.repeat(-shares[:, None], counts.shape[1], axis=1)  # of a part over its share of a column
        self._holders = np.zeros(self._excess.shape, np.int64)  # units of a part that hold some of a column
        self.part = np.full(len(counts), -1)
        for unit in np.flatnonzero(fixed >= 0).tolist():
            self._place(unit, int(fixed[unit]))

    def cover_columns(self, order: Indices) -> None:
        """Give each part a unit that holds each column, rare columns and large parts first, as far as shares allow.

        The largest part gets each column in any case: a class that is only tested was never learned.
        """
        first = int(self._shares.argmax())
        # Of equal parts the last: what is enough for two parts is better tested than validated.
        others = sorted(set(range(len(self._shares))) - {first}, key=lambda part: (-self._shares[part], -part))
        for column in np.argsort(self._holds.sum(axis=0), kind="stable").tolist():
            for part in [first, *others]:
                left = order[(self.part[order] < 0) & self._holds[order, column]]
                left = left if part == first else left[self._may_take(left, part)]
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

    def exchange_units(self, units: Indices) -> bool:
        """Exchange pairs of units of different parts, the best first, as `move_units` does; return if any was."""
        for done in range(_EXCHANGES):
            pair = next(filter(self._may_exchange, self._find_exchanges(units)), None)
            if pair is None:
                return done > 0
            parts = [int(self.part[unit]) for unit in pair]
            for unit, part in zip(pair, parts, strict=True):
                self._place(unit, part, -1)
            for unit, part in zip(pair, reversed(parts), strict=True):
                self._place(unit, part)
        return True

    def _may_take(self, units: Indices, part: int) -> Flags:
        """Return which units a part can take without growing far beyond its share of everything."""
        excess = self._sizes[self.part == part].sum() - self._shares[part]
        may: Flags = (excess < -_LEAST_GAIN) | (excess + self._sizes[units] <= _MOST_EXCESS)
        return may

    def rate(self) -> tuple[int, float]:
        """Return how many columns parts lack, and what is minimised: less is better."""
        cost = (self._excess**2).sum(axis=1) / self._shares
        return int((self._holders == 0).sum()), float(cost.sum())

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

    def _find_exchanges(self, units: Indices) -> list[tuple[int, int]]:
        """Return the pairs of units whose exchange reduces most what is minimised, the best first."""
        fractions, part = self._fractions[units], self.part[units]
        products = 2 * fractions @ self._excess.T / self._shares
        own, other = products[np.arange(len(units)), part], products[:, part]
        squares = self._squares[units]
        distances = squares[:, None] + squares - 2 * fractions @ fractions.T
        change = (
            other
            + other.T
            - own[:, None]
            - own
            + distances * (1 / self._shares[part][:, None] + 1 / self._shares[part])
        )
        change[part[:, None] >= part] = np.inf  # each pair once, and none of one part
        best = np.argsort(change, axis=None, kind="stable")[:_CHECKED]
        best = best[change.ravel()[best] < -_LEAST_GAIN]
        return [(int(units[row]), int(units[column])) for row, column in zip(*np.divmod(best, len(units)), strict=True)]

    def _may_exchange(self, pair: tuple[int, int]) -> bool:
        """Return whether no part would lack a column after the exchange of two units."""
        for unit, other in (pair, pair[::-1]):
            holders = self._holders[self.part[unit]]
            left = holders - self._holds[unit] + self._holds[other]
            if (left[holders > 0] == 0).any():
                return False
        return True


def _make_fractions(counts: Floats) -> Floats:
    """Return which fraction of its column each count is; 0 in empty columns."""
    totals = counts.sum(axis=0)
    fractions: Floats = counts / np.where(totals > 0, totals, 1)
    return fractions

"""The shares of a split as text, as the command line and the notebook take them."""

from __future__ import annotations

from detectime.splits.split_file import SplitError


def parse_shares(text: str) -> dict[str, float]:
    """Parse the shares of a split; `assignment.check_shares` checks their values.

    Parameters
    ----------
    text
        Names and numbers, such as ``train=0.8, test=0.2``.

    Raises
    ------
    SplitError
        If it is something else, or names a part twice.

    Examples
    --------
    >>> parse_shares("train=0.8, test=0.2")
    {'train': 0.8, 'test': 0.2}
    >>> parse_shares("train 0.8")
    Traceback (most recent call last):
        ...
    detectime.splits.split_file.SplitError: shares = 'train 0.8': accepted: names and shares, each once, such as \
train=0.8,val=0.1,test=0.1
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            share = float(value)
        except ValueError:
            name = ""
        if not name or name in shares:
            raise SplitError(
                f"shares = {text!r}: accepted: names and shares, each once, such as train=0.8,val=0.1,test=0.1"
            )
        shares[name] = share
    return shares

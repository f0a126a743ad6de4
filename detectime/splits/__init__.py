"""Splits of a training set into parts, such as train, val and test, that have no group in common and do not leak."""

from detectime.splits.assignment import assign_splits, make_split
from detectime.splits.counts import count_split, order_parts
from detectime.splits.leaks import check_leaks, find_leaks, find_links
from detectime.splits.run_split import split_run
from detectime.splits.shares import parse_shares
from detectime.splits.split_file import SplitError, hash_split, read_split, write_split

__all__ = [
    "SplitError",
    "assign_splits",
    "check_leaks",
    "count_split",
    "find_leaks",
    "find_links",
    "hash_split",
    "make_split",
    "order_parts",
    "parse_shares",
    "read_split",
    "split_run",
    "write_split",
]

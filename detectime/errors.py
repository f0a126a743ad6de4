"""Errors that several packages raise. The others are defined beside what raises them."""

from __future__ import annotations


class ConfigError(ValueError):
    """An invalid configuration; the message names the key, the value and what is accepted."""

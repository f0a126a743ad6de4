"""Errors that name what is wrong, where, and the remedy. Each subject's own errors stand beside it."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, the value and what is accepted."""

"""Formats that samples are written in: one per file."""

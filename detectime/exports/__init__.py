"""Formats that samples are written in: one a file."""

"""Figures of a run, and its report as a single HTML file."""

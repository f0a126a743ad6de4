"""Output formats of samples, one per file."""

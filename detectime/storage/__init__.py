"""Where files are kept: run folders, places with a URL, downloaded weights, and tables looked up by name."""

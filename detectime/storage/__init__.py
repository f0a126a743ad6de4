"""Where files are kept: run folders (local or in a bucket), URLs, downloaded weights, and cached name indexes."""

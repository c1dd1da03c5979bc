"""One rank of one run, from its settings to its result."""

"""Examples to micro-batches: the order of samples, their cut, and the prefix tree of each."""

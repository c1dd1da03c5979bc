"""How the process of an attempt at a job says, by its exit status, why it ended without a result."""

FAILED = 2
"""The events of the run say why."""

FENCED = 74
"""A later attempt has taken its place; it did nothing."""

BUSY = 75
"""The run or the device was in use; it did nothing."""

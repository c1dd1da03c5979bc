"""The dry run: the real training step on tensors without data."""

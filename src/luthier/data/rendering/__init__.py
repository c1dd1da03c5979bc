"""Samples to token ids with the loss weight of every token, through a chat template or without."""

"""Text to token ids and back; how tokenizers are read, converted and estimated."""

"""luthier fine-tunes large language models."""

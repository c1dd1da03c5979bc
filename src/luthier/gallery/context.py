"""How many tokens a model was built for, as its config says."""

from collections.abc import Mapping
from typing import Any


def context_length(config: Mapping[str, Any]) -> int | None:
    """Positions of a model, by its `config.json`; None where that names no limit."""
    text = config.get("text_config", config)
    if not isinstance(text, Mapping):
        return None
    for name in ("max_position_embeddings", "n_positions", "seq_length"):
        if isinstance(value := text.get(name), int) and value > 0:
            return value
    return None

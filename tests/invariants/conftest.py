"""One warm process, tiny models and small data for all tests of whole runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.invariants.runs import flags, write_pairs, write_rows
from tests.invariants.warm import Server
from tests.tiny import tiny_model_folder


@dataclass(frozen=True)
class Bench:
    """The warm process, and what runs are made of."""

    server: Server
    llama: Path
    experts: Path
    rows: Path
    held_out: Path
    pairs: Path
    held_pairs: Path

    def words(self, **settings: Any) -> list[str]:
        """A command line; model and data are these unless given."""
        ours = {"model": self.llama, "dataset": self.rows, "torch_dtype": "float32", "lora_dim": 8}
        return ["train", *flags({**ours, **settings})]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Shared by all tests of a worker; nothing in it is changed by them."""
    work = tmp_path_factory.mktemp("bench")
    shape = {"hidden_size": 64, "intermediate_size": 96, "spread": 0.1}
    with Server(work / "home") as server:
        yield Bench(
            server,
            tiny_model_folder(work / "llama", **shape),
            tiny_model_folder(work / "experts", "qwen3_moe", **shape),
            write_rows(work / "rows.jsonl", 41),
            write_rows(work / "held_out.jsonl", 7, seed=1),
            write_pairs(work / "pairs.jsonl", 41),
            write_pairs(work / "held_pairs.jsonl", 7, seed=1),
        )

"""Files that nobody would write, from seeds: each is read, or refused with a sentence, in time.

A short form runs with every test; `LUTHIER_FUZZ=6000 pytest tests/fuzz` (`make fuzz`) is the long one:
that many inputs for each target.
"""

import contextlib
import datetime
import json
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tests.fuzz.mutate import harmed, scattered
from tests.tiny import tiny_config, tiny_tokenizer

from luthier import events
from luthier.config.files import read_given, read_text
from luthier.config.read import load_saved
from luthier.config.settings import Settings
from luthier.data.load import load_samples
from luthier.data.reading.read import read_rows
from luthier.data.rendering.template import ChatTemplate
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.durable import looks_complete, read_manifest
from luthier.errors import LuthierError
from luthier.gallery import family_of
from luthier.planner.shape import Shape
from luthier.runs import RunDirectory
from luthier.service.http.door import strict
from luthier.service.http.door.envelope import ApiError
from luthier.sources.adapter_config import read_adapter_config
from luthier.sources.check import read_config
from luthier.sources.weights import find_weights, read_header

INPUTS = int(os.environ.get("LUTHIER_FUZZ", "40"))
MAX_S, MAX_BYTES = 10.0, 2**30
ROWS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"instruction": "a", "input": "", "output": "b", "tools": "[]"},
]
ADAPTER = {
    "peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none",
    "rank_pattern": {"layers.0.q_proj": 4}, "lora_dropout": 0.1, "modules_to_save": None,
    "base_model_name_or_path": "x", "use_rslora": False,
}  # fmt: skip
EVENTS = [
    {"type": "started", "time": 1.0, "elapsed_s": 0.1},
    {"type": "step", "time": 2.0, "step": 1, "loss": 1.5},
    {"type": "evaluated", "time": 3.0, "step": 1, "metrics": {"loss": 1.0}},
    {"type": "resumed", "time": 4.0, "from_step": 1},
]


def config(folder: Path, chance: random.Random) -> Callable[[], object]:
    (folder / "config.json").write_bytes(harmed(CONFIG, chance))

    def run() -> object:
        found = read_config(folder)
        return Shape.from_config(found) if family_of(found).known else found

    return run


def adapter(folder: Path, chance: random.Random) -> Callable[[], object]:
    (folder / "adapter_config.json").write_bytes(harmed(ADAPTER, chance))
    return lambda: read_adapter_config(folder)


def tokenizer(folder: Path, chance: random.Random) -> Callable[[], object]:
    name = chance.choice(list(TOKENIZER))
    for other, value in TOKENIZER.items():
        raw = harmed(value, chance) if other == name else json.dumps(value).encode()
        (folder / other).write_bytes(raw)

    def run() -> object:
        found = Tokenizer.from_folder(folder)
        if found.chat_template:
            ChatTemplate(found.chat_template, tokenizer=found, now=NOW).render_dicts(
                [{"role": "user", "content": "x"}], [], add_generation_prompt=True
            )
        return found.encode("Hello <|im_end|> there")

    return run


def header(folder: Path, chance: random.Random) -> Callable[[], object]:
    body = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    }
    raw = harmed(body, chance)
    length = len(raw).to_bytes(8, "little") if chance.random() < 0.9 else chance.randbytes(8)
    (folder / "model.safetensors").write_bytes(length + raw + bytes(16))
    return lambda: read_header(folder / "model.safetensors")


def index(folder: Path, chance: random.Random) -> Callable[[], object]:
    body = {
        "metadata": {"total_size": 16},
        "weight_map": {"a": "a.safetensors", "b": "a.safetensors"},
    }
    (folder / "model.safetensors.index.json").write_bytes(harmed(body, chance))
    if not (folder / "a.safetensors").exists():
        save_file(
            {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}, folder / "a.safetensors"
        )
    return lambda: find_weights(folder)


def manifest(folder: Path, chance: random.Random) -> Callable[[], object]:
    body = {
        "format": 1,
        "kind": "checkpoint",
        "files": {"a": {"bytes": 1, "sha256": "0"}},
        "record": {"step": 1},
        "sha256": "0",
    }
    (folder / "manifest.json").write_bytes(harmed(body, chance))
    return lambda: (looks_complete(folder), read_manifest(folder))


def run_folder(folder: Path, chance: random.Random) -> Callable[[], object]:
    (folder / "run.json").write_bytes(harmed({"format": 1, "created": 1.7e9}, chance))
    lines = b"\n".join(harmed(event, chance) for event in EVENTS)
    (folder / "events.jsonl").write_bytes(lines + b"\n")
    directory = RunDirectory(folder)
    return lambda: (directory.status(), list(events.read(directory.events_file)), directory.info)


def saved_settings(folder: Path, chance: random.Random) -> Callable[[], object]:
    (folder / "settings.json").write_bytes(harmed(SAVED, chance))
    return lambda: load_saved(folder / "settings.json")


def settings_file(folder: Path, chance: random.Random) -> Callable[[], object]:
    path = folder / chance.choice(("run.json", "run.yaml"))
    path.write_bytes(
        harmed({"model": "starter", "dataset": ["a.jsonl"], "seed": 3, "lora_dim": 8}, chance)
    )
    return lambda: read_given(path, read_text(path))


def rows(folder: Path, chance: random.Random) -> Callable[[], object]:
    path = folder / chance.choice(("rows.jsonl", "rows.json", "rows.csv", "rows.txt"))
    if path.suffix == ".csv":
        raw = scattered(b'prompt,completion\n"a, b",c\n"d ""e""",f\n' * 3, chance)
    elif path.suffix == ".json":
        raw = harmed(ROWS, chance)
    else:
        raw = b"\n".join(harmed(row, chance) for row in ROWS * 2)
    path.write_bytes(raw)

    return lambda: load_samples(str(path))


def parquet(folder: Path, chance: random.Random) -> Callable[[], object]:
    (folder / "rows.parquet").write_bytes(scattered(PARQUET, chance))
    return lambda: list(read_rows(folder / "rows.parquet"))


def body(folder: Path, chance: random.Random) -> Callable[[], object]:
    raw = harmed({"model": "a", "messages": ROWS[0]["messages"], "seed": 1}, chance)
    return lambda: strict.decode(raw)


NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CONFIG: dict[str, Any] = tiny_config("llama").to_dict()
TARGETS = [
    config, adapter, tokenizer, header, index, manifest, run_folder, saved_settings, settings_file,
    rows, parquet, body,
]  # fmt: skip
TOKENIZER: dict[str, Any] = {}
SAVED: dict[str, Any] = {}
PARQUET = b""


@pytest.fixture(scope="module", autouse=True)
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    global PARQUET
    folder = tiny_tokenizer(tmp_path_factory.mktemp("whole"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        TOKENIZER[name] = json.loads((folder / name).read_text())
    TOKENIZER["special_tokens_map.json"] = {"eos_token": "<|im_end|>"}
    TOKENIZER["added_tokens.json"] = {"<|x|>": 259}
    TOKENIZER["generation_config.json"] = {"eos_token_id": [257, 258]}
    values = Settings(model="starter", dataset=["a.jsonl"]).model_dump(mode="json")
    SAVED.update(settings=values, provenance=dict.fromkeys(values, "default"), notices=[])
    arrow = pytest.importorskip("pyarrow")
    parquet_module = pytest.importorskip("pyarrow.parquet")
    parquet_module.write_table(
        arrow.table({"a": ["x", "y", None], "n": [[1], [2], []]}), folder / "r"
    )
    PARQUET = (folder / "r").read_bytes()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_any_file_is_read_or_refused_with_a_sentence(target, tmp_path):
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    @settings(
        max_examples=INPUTS,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**40))
    def run(seed: int) -> None:
        nonlocal slowest
        act = target(tmp_path, random.Random(seed))
        began = time.process_time()
        with contextlib.suppress(LuthierError, ApiError, FileNotFoundError):
            act()
        slowest = max(slowest, time.process_time() - began)
        assert slowest < MAX_S, seed

    run()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MAX_BYTES

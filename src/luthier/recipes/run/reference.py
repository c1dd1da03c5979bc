"""Log-probabilities of DPO pairs under the reference: the model as it stands at step 0.

Each pair is scored alone, in its own prefix tree and its own forward pass, so its value does not
depend on its neighbours; no second copy of the model is ever in memory.  Values are cached on disk
under everything they depend on, and serve later epochs, resumes, and runs with another beta.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from luthier.data.packing.pack import PackedBatch, pack
from luthier.data.types import Example
from luthier.durable import write_atomic
from luthier.engine.distribution import Ranks
from luthier.engine.loop import Interrupted
from luthier.events import ReferenceScored
from luthier.recipes.run.context import Post
from luthier.recipes.run.trainee import Trainee
from luthier.runs import home

KERNELS = "1"
"""Raised when a change of our kernels moves a reference value by a bit."""

_MOVES_BITS = (
    "method",
    "load_in_4bit",
    "load_in_8bit",
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
    "torch_dtype",
    "share_prefixes",
    "init_lora_weights",
)


def pair_key(example: Example) -> bytes:
    """Digest of the token ids and weights of both sequences."""
    digest = hashlib.sha256()
    for sequence in example.sequences:
        digest.update(np.int64(len(sequence.ids)).tobytes())
        digest.update(np.ascontiguousarray(sequence.ids).tobytes())
        digest.update(np.ascontiguousarray(sequence.weights).tobytes())
    return digest.digest()[:16]


class ReferenceCache:
    """Values of one reference model on disk: digest of a pair -> (chosen, rejected), float64: a
    float32 sum of 300 nats is only good to 3e-5."""

    def __init__(self, folder: Path, **depends_on: str) -> None:
        described = "\n".join(f"{name}={value}" for name, value in sorted(depends_on.items()))
        self.path = folder / f"{hashlib.sha256(described.encode()).hexdigest()[:32]}.safetensors"
        self.values: dict[bytes, tuple[float, float]] = {}
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            stored = load_file(self.path)
        except (SafetensorError, OSError):
            return  # damaged or unreadable: the pairs are scored again and the file is replaced
        for key, value in zip(stored["keys"], stored["values"], strict=True):
            self.values[key.tobytes()] = (float(value[0]), float(value[1]))

    def write(self) -> None:
        """Replace the file by what is known now."""
        keys = np.frombuffer(b"".join(self.values), dtype=np.uint8).reshape(-1, 16)
        values = np.array(list(self.values.values()), dtype=np.float64)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, save({"keys": keys, "values": values}))


def reference_values(
    post: Post,
    trainee: Trainee,
    examples: Sequence[Example],
    prints: Mapping[str, str],
    *,
    share: bool,
) -> torch.Tensor:
    """Reference values of the pairs of a run, from the cache or scored now, (pairs, 2), float64.

    Called before step 1, also on a resume: the model is then still as it was at step 0.

    Raises:
        Interrupted: A stop was asked for; what was scored so far is lost.
    """
    names = ["base model", "starting adapter"]
    names += [f"setting {name}" for name in _MOVES_BITS]
    depends_on = {name: prints[name] for name in names}
    depends_on |= {"torch": torch.__version__, "device": post.facts.name, "kernels": KERNELS}
    if prints["starting adapter"] == "new":
        depends_on["starting adapter"] = "none"  # B is zero: the base itself
    cache = ReferenceCache(home() / "cache" / "reference", **depends_on)
    said = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if post.ranks.size == 1 and post.stop_requested():
            raise Interrupted
        if time.monotonic() - said > 0.5 or done >= total:
            said = time.monotonic()
            post.emit(ReferenceScored(done=min(done, total), total=total))

    values = score_pairs(
        lambda batch: trainee.score(batch).logp_S,
        examples,
        cache,
        share=share,
        ranks=post.ranks,
        progress=progress,
    )
    return torch.from_numpy(values)


def score_pairs(
    score: Callable[[PackedBatch], torch.Tensor],
    examples: Sequence[Example],
    cache: ReferenceCache,
    *,
    share: bool,
    ranks: Ranks,
    progress: Callable[[int, int], None],
) -> NDArray[np.float64]:
    """Summed log-probability of chosen and rejected of each pair, (pairs, 2), nats.

    Args:
        score: Log-probability of each target of a batch, (S,), of the model at step 0.
        cache: Values already known; what is computed here is added and written by the first rank.
        progress: Called with pairs done and pairs to do.
    """
    keys = [pair_key(example) for example in examples]
    missing = [pair for pair, key in enumerate(keys) if key not in cache.values]
    found = torch.zeros(len(examples), 2, dtype=torch.float64)
    mine = missing[ranks.rank :: ranks.size]
    for done, pair in enumerate(mine):
        batch = pack(examples[pair].sequences, share=share)
        with torch.no_grad():
            logp_S = score(batch).double().cpu()
        weighted_S = logp_S * torch.from_numpy(batch.target_weight).double()
        owner_S = torch.from_numpy(batch.target_sequence).long()
        found[pair].index_add_(0, owner_S, weighted_S)
        progress((done + 1) * ranks.size, len(missing))
    found = ranks.gather(found)
    for pair in missing:
        cache.values[keys[pair]] = (float(found[pair, 0]), float(found[pair, 1]))
    if missing and ranks.first:
        cache.write()
    return np.array([cache.values[key] for key in keys], dtype=np.float64).reshape(-1, 2)

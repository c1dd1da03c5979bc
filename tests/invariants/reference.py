"""The independent reference: float64, eager attention, one sequence at a time, loss by definition.

Shares no code with the product: rows are spelt out token by token from a hand-written table of
spans, the loss is written from its definition, an adapter is `W + scale * B A`.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

BOS, IM_START, IM_END = 256, 257, 258
WORDS = [
    "red",
    "blue",
    "seven",
    "apples",
    "the",
    "a",
    "sings",
    "über",
    "水",
    "fast",
    "river",
    "of",
    "and",
    "2+2",
    "stone",
]


def byte_ids(text: str) -> list[int]:
    """Ids of a text in the tiny byte-level vocabulary: bytes in the order of GPT-2's alphabet."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    character = {byte: chr(byte) for byte in plain}
    character |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    number = {char: place for place, char in enumerate(sorted(character.values()))}
    return [number[character[byte]] for byte in text.encode()]


@dataclass(frozen=True)
class Spelt:
    """One sequence: its ids, and the weight of each id as a target."""

    ids: list[int]
    weights: list[float]


def spell(
    messages: Sequence[Mapping[str, str]], *, everything: bool, first_learned: int = 0
) -> Spelt:
    """ChatML by hand: BOS once; an assistant's words and its end mark are learned, nothing else.

    Args:
        everything: Learn all tokens but the first (`train_on: all`).
        first_learned: Index of the first message that may be learned.
    """
    ids, weights = [BOS], [0.0]
    for index, message in enumerate(messages):
        head = [IM_START, *byte_ids(message["role"] + "\n")]
        body = [*byte_ids(message["content"]), IM_END]
        learned = message["role"] == "assistant" and index >= first_learned
        ids += head + body + byte_ids("\n")
        weights += [0.0] * len(head) + [float(learned)] * len(body) + [0.0]
    ids, weights = ids[:-1], weights[:-1]  # nothing is learned behind the last end mark
    if everything:
        weights = [0.0] + [1.0] * (len(ids) - 1)
    return Spelt(ids, weights)


def conversations(seed: int, count: int = 8) -> list[list[dict[str, str]]]:
    """Rows of very different lengths, half of them under one system text."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    rows = []
    for row in range(count):
        turns = [{"role": "system", "content": "answer in few words"}] if row % 2 else []
        for _ in range(draw.randint(1, 2)):
            turns.append({"role": "user", "content": words(3)})
            turns.append({"role": "assistant", "content": words(4)})
        rows.append(turns)
    return rows


def pairs(seed: int, count: int = 6) -> list[dict[str, str]]:
    """Preferences whose answers are from one word to thirty."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))

    return [
        {
            "prompt": words(6),
            "chosen": "w " + words(1 + 7 * (row % 2)),
            "rejected": words(1 + 3 * (row % 3)),
        }
        for row in range(count)
    ]


def spell_pair(row: Mapping[str, str]) -> tuple[Spelt, Spelt]:
    """Chosen and rejected after the same prompt; only the answers are learned."""
    ask = {"role": "user", "content": row["prompt"]}
    made = [
        spell([ask, {"role": "assistant", "content": row[side]}], everything=False)
        for side in ("chosen", "rejected")
    ]
    return made[0], made[1]


@dataclass(frozen=True)
class Adapter:
    """Matrices of one layer by the layer's name, float64, with gradient."""

    lora_A: Tensor
    lora_B: Tensor
    scale: float
    transposed: bool

    def delta(self) -> Tensor:
        product = self.scale * (self.lora_B @ self.lora_A)
        return product.T if self.transposed else product


class Reference:
    """A model in float64 with gradients by name."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float64,
            attn_implementation="eager",
            experts_implementation="eager",
        ).eval()
        self.model.config.use_cache = False
        self.adapters: dict[str, Adapter] = {}

    def logp(self, spelt: Spelt) -> Tensor:
        """Weighted log-probabilities of the targets, one by one."""
        ids = torch.tensor([spelt.ids])
        weights = {}
        for name, adapter in self.adapters.items():
            weight = self.model.get_submodule(name).weight
            weights[f"{name}.weight"] = weight + adapter.delta()
        logits = torch.func.functional_call(
            self.model, weights, (ids,), {"use_cache": False}
        ).logits
        logp = F.log_softmax(logits[0, :-1].double(), dim=-1)
        chosen = logp[torch.arange(len(spelt.ids) - 1), ids[0, 1:]]
        return chosen * torch.tensor(spelt.weights[1:], dtype=torch.float64)

    def sft_loss(self, rows: Sequence[Spelt]) -> Tensor:
        """Summed negative log-likelihood over summed weight."""
        total = sum(sum(row.weights) for row in rows)
        return -torch.stack([self.logp(row).sum() for row in rows]).sum() / total

    def dpo_loss(
        self,
        rows: Sequence[tuple[Spelt, Spelt]],
        frozen: Sequence[tuple[float, float]],
        beta: float,
    ) -> Tensor:
        """Mean of -log sigmoid(beta x the difference of log-ratios)."""
        losses = []
        for (chosen, rejected), (was_chosen, was_rejected) in zip(rows, frozen, strict=True):
            margin = self.logp(chosen).sum() - was_chosen - self.logp(rejected).sum() + was_rejected
            losses.append(-F.logsigmoid(beta * margin))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def frozen(self, rows: Sequence[tuple[Spelt, Spelt]]) -> list[tuple[float, float]]:
        """Summed log-probabilities of both answers as the model stands."""
        return [(float(self.logp(a).sum()), float(self.logp(b).sum())) for a, b in rows]


def worst_relative_error(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest error of a parameter's gradient, relative to that gradient's norm.

    A gradient that is zero in exact arithmetic (the bias of a key) has no relative error: norms
    below a thousandth of the whole gradient's count as that.
    """
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())[:4]
    whole = math.sqrt(sum(float(gradient.square().sum()) for gradient in expected.values()))
    worst = 0.0
    for name, gradient in expected.items():
        error = float((found[name].double() - gradient).norm())
        worst = max(worst, error / max(float(gradient.norm()), 1e-3 * whole))
    return worst

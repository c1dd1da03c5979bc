"""Two ranks, as threads that meet in every collective call, against one float64 reference."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from tests.invariants import reference as ref
from tests.invariants.product import make_product, model_folder
from tests.invariants.test_parity import compare, copy_weights, move
from torch import Tensor

from luthier.engine.distribution import Ranks


class Meeting:
    """Stands for gloo between threads: `all_reduce` of this many of them."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.lock, self.brought = threading.Lock(), list[Tensor]()

    def all_reduce(self, tensor: Tensor, op: object = dist.ReduceOp.SUM) -> None:
        with self.lock:
            self.brought.append(tensor.clone())
        self.barrier.wait()
        together = torch.stack(self.brought)
        total = together.amax(0) if op == dist.ReduceOp.MAX else together.sum(0)
        if self.barrier.wait() == 0:
            self.brought = []
        self.barrier.wait()
        tensor.copy_(total)


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_two_ranks_together_have_the_gradient_of_one(objective, tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "model", "llama")
    rows = ref.conversations(2) if objective == "sft" else ref.pairs(2)
    products = []
    for rank in range(2):
        (work := tmp_path / str(rank)).mkdir()
        made = make_product(
            folder, rows, work, cut="small flat", objective=objective, lora_dim=8, lora_alpha=12
        )
        made.ranks = Ranks(rank, 2)
        products.append(made)
    reference = ref.Reference(folder)
    spelt = [ref.spell_pair(row) for row in rows] if objective == "dpo" else []
    frozen = reference.frozen(spelt)
    reference_P2 = torch.tensor(frozen, dtype=torch.float64) if spelt else None
    for made in products:
        move(made, 0)
    leaves = copy_weights(products[0], reference)
    meeting = Meeting(2)
    monkeypatch.setattr(dist, "all_reduce", meeting.all_reduce)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda made: made.one_step(reference_P2), products))
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[1][1][name])
    loss = (
        reference.dpo_loss(spelt, frozen, beta=0.1)
        if spelt
        else reference.sft_loss([ref.spell(row, everything=False) for row in rows])
    )
    compare(f"{objective.upper()} two ranks", products[0], found[0], loss, leaves)

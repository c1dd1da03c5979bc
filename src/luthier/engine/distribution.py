"""One process, or several that share the samples of every step.

Gradients of ranks are *added*: the loss was divided by the units of the whole step before the first
backward, so one rank and many make the same update.  Every rank reaches the same calls in the same
order; what one rank knows alone (memory ran out, a signal came) goes through `any`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from luthier.bounded import decode_ours

BUCKET = 2**24  # elements summed in one call


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`; a single process needs no process group."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes the files and events of the run."""
        return self.rank == 0

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Add float32 gradients of all ranks, in place, in buckets of neighbours."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for gradient in gradients:
            if bucket and sum(g.numel() for g in bucket) + gradient.numel() > BUCKET:
                _sum_bucket(bucket)
                bucket = []
            bucket.append(gradient)
        if bucket:
            _sum_bucket(bucket)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers over the ranks, in float64."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def sum_by_name(self, values: Mapping[str, float]) -> dict[str, float]:
        """Add named numbers over the ranks; a rank that computed nothing knows fewer names."""
        if self.size == 1:
            return dict(values)
        mine = json.dumps(values).encode()  # to the last bit, NaN included
        table = torch.zeros(self.size, int(self.largest(len(mine))), dtype=torch.uint8)
        table[self.rank, : len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        dist.all_reduce(table)
        everywhere = [decode_ours(bytes(row.tolist()).rstrip(b"\0")) for row in table]
        names = sorted({name for one in everywhere for name in one})
        return {name: sum(one.get(name, 0.0) for one in everywhere) for name in names}

    def largest(self, value: float) -> float:
        """The largest of the ranks' values."""
        if self.size == 1:
            return value
        most = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(most, op=dist.ReduceOp.MAX)
        return float(most[0])

    def any(self, flag: bool) -> bool:
        """Whether any rank raised its flag."""
        return self.sum([float(flag)])[0] > 0

    def gather(self, local: Tensor) -> Tensor:
        """Sum of tensors that are zero outside each rank's own share; CPU, float64."""
        if self.size > 1:
            dist.all_reduce(local)
        return local

    def wait(self) -> None:
        """Until every rank is here."""
        self.sum([0.0])  # not a barrier: with a device at hand that would go through NCCL


def _sum_bucket(bucket: Sequence[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
    dist.all_reduce(flat)
    start = 0
    for gradient in bucket:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def join_ranks() -> Ranks:
    """The ranks of torch's launcher when it started this process, else a single rank.

    Gradients on CUDA go through NCCL, numbers and flags (CPU tensors) through gloo.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Ranks()
    if not dist.is_initialized():
        if torch.cuda.is_available():
            own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(own)
            dist.init_process_group("cpu:gloo,cuda:nccl", device_id=own)
        else:
            dist.init_process_group("gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave_ranks() -> None:
    """Give the ranks' connections back, before the process ends."""
    if dist.is_initialized():
        dist.destroy_process_group()

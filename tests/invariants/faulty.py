"""What can be made to go wrong in a child: a slow or full disk, NaN, too little memory."""

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.faults import FaultyFiles
from torch import Tensor

import luthier.engine.optim
import luthier.recipes.run.assembly
from luthier import durable
from luthier.objectives.terms import Terms

OUT_OF_MEMORY = "[enforce fail] DefaultCPUAllocator: can't allocate memory: injected"


class SlowSaves(durable.FileSystem):
    """Waits at each write, sync and rename below `checkpoints/`, so that a kill can hit a save."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.slow: set[int] = set()

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        if "checkpoints" in path.parts:
            self.slow.add(fd)
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        if fd not in self.slow:
            return super().write(fd, data)
        time.sleep(self.delay_s)
        half = max(1, len(data) // 2)
        return os.write(fd, data[:half] if len(data) > 4096 else data)

    def fsync(self, fd: int) -> None:
        if fd in self.slow:
            time.sleep(self.delay_s)
        super().fsync(fd)

    def close(self, fd: int) -> None:
        self.slow.discard(fd)
        super().close(fd)

    def rename(self, source: Path, target: Path) -> None:
        if "checkpoints" in source.parts:
            time.sleep(self.delay_s)
        super().rename(source, target)


class CountedFiles(FaultyFiles):
    """Writes how many operations there were into a file, and at which each save began and ended."""

    def __init__(self, fail_at: int, mode: str, error: int, report: str | None) -> None:
        super().__init__(fail_at, mode, error)
        self.report = report
        self.saves: list[int] = []

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        if path.parent.name == "checkpoints":
            self.saves.append(self.count)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        if target.parent.name == "checkpoints" and target.name.startswith("step-"):
            self.saves.append(self.count)

    def finish(self) -> None:
        if self.report:
            Path(self.report).write_text(f"{self.count} {' '.join(map(str, self.saves))}")


class Objectives:
    """Makes the objective of a run go wrong at the n-th call that asks for a gradient, or not."""

    def __init__(self, fault: Callable[[Terms], Terms], at: list[int], training: bool) -> None:
        self.fault, self.at, self.training, self.calls = fault, at, training, 0

    def wrap(self, kind: Any) -> Any:
        def make(*arguments: Any) -> Any:
            objective = kind(*arguments)

            def call(batch: Any) -> Terms:
                terms = objective(batch)
                if torch.is_grad_enabled() == self.training:
                    self.calls += 1
                    if self.calls in self.at:
                        return self.fault(terms)
                return terms

            return call

        return make


def _nan(terms: Terms) -> Terms:
    return terms._replace(loss_sum=terms.loss_sum * float("nan"))


class _NanGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        return grad * float("nan")


def _nan_gradient(terms: Terms) -> Terms:
    return terms._replace(loss_sum=_NanGradient.apply(terms.loss_sum))


class _NoMemory(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        raise RuntimeError(OUT_OF_MEMORY)


def _memory_in_backward(terms: Terms) -> Terms:
    return terms._replace(loss_sum=_NoMemory.apply(terms.loss_sum))


def _memory_in_forward(terms: Terms) -> Terms:
    raise RuntimeError(OUT_OF_MEMORY)


FAULTS = {
    "nan": _nan,
    "nan gradient": _nan_gradient,
    "forward": _memory_in_forward,
    "backward": _memory_in_backward,
}


def _failing_optimiser(at: list[int]) -> Callable[..., None]:
    real, calls = luthier.engine.optim.adamw, 0

    def adamw(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in at:
            raise RuntimeError(OUT_OF_MEMORY)
        real(*arguments, **options)

    return adamw


@contextlib.contextmanager
def faults(
    *,
    slow_saves_s: float = 0.0,
    fail_at: int = 0,
    mode: str = "once",
    error: int = errno.ENOSPC,
    report: str | None = None,
    objective: str | None = None,
    evaluation: str | None = None,
    optimiser: bool = False,
    at: tuple[int, ...] = (),
    address_space_bytes: int = 0,
) -> Iterator[None]:
    """What goes wrong in this process.

    Args:
        slow_saves_s: Seconds that every operation of a save takes longer.
        fail_at: The operation of the file system that fails, with `mode` and `error` as in
            `FaultyFiles`; with `report` they are counted into that file.
        objective: What is wrong with the objective, in training, at the calls of `at`.
        evaluation: The same in evaluation.
        optimiser: Memory runs out in the optimiser at the calls of `at`.
        address_space_bytes: Memory that may be added to what this process has now.
    """
    with contextlib.ExitStack() as stack:
        if slow_saves_s:
            stack.enter_context(durable.using(SlowSaves(slow_saves_s)))
        if fail_at or report:
            files = CountedFiles(fail_at, mode, error, report)
            stack.callback(files.finish)
            stack.enter_context(durable.using(files))
        if kind := objective or evaluation:
            wrong = Objectives(FAULTS[kind], list(at), training=objective is not None)
            real = luthier.recipes.run.assembly.TokenObjective
            stack.enter_context(
                patch.object(luthier.recipes.run.assembly, "TokenObjective", wrong.wrap(real))
            )
        if optimiser:
            stack.enter_context(
                patch.object(luthier.engine.optim, "adamw", _failing_optimiser(list(at)))
            )
        if address_space_bytes:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            limit = pages * resource.getpagesize() + address_space_bytes
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        yield

"""The loop: the cut, memory, the loss scale, and numbers that are not finite."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from luthier.engine import loop
from luthier.engine.evaluate import evaluate
from luthier.engine.loop import LoopState, StepShare, train
from luthier.engine.optim import Updater
from luthier.errors import NonFiniteError, OutOfMemoryError
from luthier.objectives.sft import sft

ROWS, VOCABULARY, STEPS = 6, 11, 4


class Batch(NamedTuple):
    ids_S: Tensor
    targets_S: Tensor
    weight_S: Tensor


def row(index: int) -> Batch:
    """Rows with very different numbers of targets: what a mean of means gets wrong."""
    size = index % 5 + 1
    generator = torch.Generator().manual_seed(index)
    ids_S, targets_S = torch.randint(0, VOCABULARY, (2, size), generator=generator)
    return Batch(ids_S, targets_S, torch.ones(size, dtype=torch.float64))


class Bench:
    """A tiny model in float64, its updater, and the knobs of a test."""

    def __init__(self, micro_rows: int = ROWS) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Embedding(VOCABULARY, 8), nn.Linear(8, VOCABULARY)).double()
        self.updater = Updater(dict(self.model.named_parameters()))
        self.micro_rows = micro_rows
        self.fail_at: dict[str, int] = {}
        self.calls = {"forward": 0, "backward": 0}
        self.poison_step = -1
        self.reports: list[float] = []

    def plan(self, number: int) -> StepShare[Batch]:
        rows = [row(index) for index in range(ROWS)]
        cuts = [rows[start : start + self.micro_rows] for start in range(0, ROWS, self.micro_rows)]
        batches = [Batch(*map(torch.cat, zip(*cut, strict=True))) for cut in cuts]
        self.number = number
        return StepShare(
            number, sum(float(b.weight_S.sum()) for b in batches), batches, 1, "rows 1 to 6"
        )

    def objective(self, batch: Batch):
        self._maybe_fail("forward")
        logp_SV = self.model(batch.ids_S).log_softmax(-1)
        logp_S = logp_SV.gather(-1, batch.targets_S[:, None])[:, 0]
        if self.number == self.poison_step:
            logp_S = logp_S * float("nan")
        if logp_S.requires_grad:
            logp_S.register_hook(lambda gradient: self._maybe_fail("backward"))
        return sft(logp_S, weight_S=batch.weight_S)

    def _maybe_fail(self, where: str) -> None:
        self.calls[where] += 1
        if self.calls[where] == self.fail_at.get(where):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried")

    def shrink(self, step: int, error: BaseException) -> None:
        if self.micro_rows == 1:
            raise OutOfMemoryError(f"step {step}: one row at a time")
        self.micro_rows //= 2

    def on_step(self, report) -> str | None:
        self.reports.append(report.loss)
        return None

    def run(self, last: int = STEPS, **more) -> str:
        return train(
            self.objective, self.plan, self.updater, first_step=1, last_step=last,
            learning_rate=lambda step: 1e-2, on_step=self.on_step, shrink=self.shrink, **more,
        )  # fmt: skip

    def weights(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()


def run(micro_rows: int = ROWS, **fail_at: int) -> Bench:
    bench = Bench(micro_rows)
    bench.fail_at = fail_at
    assert bench.run() == "completed"
    return bench


@pytest.mark.parametrize("micro_rows", [1, 2, 3, 4])
def test_the_cut_does_not_change_the_run(micro_rows):
    torch.testing.assert_close(run(micro_rows).weights(), run().weights(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("call", [1, 2, 5, 8])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_makes_the_same_update_with_a_finer_cut(where, call):
    bench = run(2, **{where: call})
    assert bench.micro_rows == 1
    torch.testing.assert_close(bench.weights(), run(1).weights(), rtol=0, atol=1e-10)
    assert len(bench.reports) == STEPS


def test_out_of_memory_in_the_optimiser_comes_before_any_weight_moves():
    bench = Bench(2)
    prepare, calls = bench.updater.prepare, []

    def failing(*args):
        calls.append(bench.weights())
        if len(calls) == 2:
            raise RuntimeError("not enough memory")
        return prepare(*args)

    bench.updater.prepare = failing  # type: ignore[method-assign]
    bench.run()
    assert torch.equal(calls[1], calls[2])  # the second step was repeated from the same weights
    torch.testing.assert_close(bench.weights(), run(1).weights(), rtol=0, atol=1e-10)


def test_evaluation_recovers_from_out_of_memory_with_the_same_figure():
    bench, whole = Bench(4), Bench(4)
    bench.fail_at = {"forward": 2}
    figures = [
        evaluate(b.objective, lambda b=b: b.plan(0), shrink=b.shrink)["loss"]
        for b in (bench, whole)
    ]
    assert bench.micro_rows == 2
    assert figures[0] == pytest.approx(figures[1], abs=1e-12)


def test_nothing_left_to_cut_ends_the_run():
    bench = Bench(1)
    bench.fail_at = {"forward": 3}
    with pytest.raises(OutOfMemoryError, match="step 1"):
        bench.run()


def test_an_error_that_is_not_about_memory_is_not_retried():
    bench = Bench()
    bench.objective = lambda batch: torch.zeros(2) @ torch.zeros(3)  # type: ignore[assignment,method-assign]
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        bench.run()


@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_not_a_number_leaves_the_weights_of_the_step_before(step):
    bench, healthy = Bench(2), Bench(2)
    bench.poison_step = step
    with pytest.raises(NonFiniteError, match=f"step {step}: loss nan.*\n.*\n.*rows 1 to 6"):
        bench.run()
    if step > 1:
        healthy.run(last=step - 1)
    assert torch.equal(bench.weights(), healthy.weights())


def test_a_gradient_that_is_not_finite_is_not_applied_either():
    bench = Bench()
    first = bench.weights()
    bench.model[1].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError, match="gradient norm"):
        bench.run()
    assert torch.equal(bench.weights(), first)


def test_an_overflow_halves_the_loss_scale_and_repeats_the_step():
    bench, plain = Bench(2), run(2)
    state = LoopState(loss_scale=2.0**14)
    limit = 1000.0

    def overflow(gradient: Tensor) -> Tensor:
        return torch.where(gradient.abs() > limit, math.inf, gradient)

    for weight in bench.model.parameters():
        weight.register_hook(overflow)
    bench.run(state=state)
    assert 1 < state.loss_scale < 2.0**14
    assert state.notes
    torch.testing.assert_close(bench.weights(), plain.weights(), rtol=0, atol=1e-10)


def test_the_loss_scale_grows_again_after_steps_without_overflow(monkeypatch):
    monkeypatch.setattr(loop, "GROWTH_STEPS", 3)
    bench, state = Bench(), LoopState(loss_scale=2.0**14)
    bench.run(last=2, state=state)
    assert (state.loss_scale, state.clean_steps) == (2.0**14, 2)
    bench.run(last=2, state=state)
    assert (state.loss_scale, state.clean_steps) == (2.0**15, 1)
    plain = LoopState()
    Bench().run(last=4, state=plain)
    assert (plain.loss_scale, plain.clean_steps) == (1.0, 0)


def test_rare_overflows_never_end_a_run(monkeypatch):
    """More of them than halvings would take from the first scale to 1."""
    monkeypatch.setattr(loop, "GROWTH_STEPS", 2)
    bench, state = Bench(), LoopState(loss_scale=2.0**14)
    backwards = 0

    def overflow(gradient: Tensor) -> Tensor:
        nonlocal backwards
        backwards += 1
        return gradient * math.inf if backwards % 3 == 1 else gradient

    bench.model[1].weight.register_hook(overflow)
    assert bench.run(last=40, state=state) == "completed"
    assert len(state.notes) == 20
    assert state.loss_scale >= 2.0**13


def test_a_forward_pass_beyond_float16_is_not_blamed_on_the_learning_rate():
    bench = Bench()
    bench.poison_step = 1
    with pytest.raises(NonFiniteError) as caught:
        bench.run(state=LoopState(loss_scale=2.0**14))
    assert "65,504" in caught.value.fix
    assert "learning_rate" not in caught.value.fix


def test_a_stop_between_micro_batches_drops_the_step():
    bench, two = Bench(2), Bench(2)
    asked = iter([False] * 7 + [True] * 9)
    assert bench.run(should_stop=lambda: next(asked)) == "interrupted"
    two.run(last=2)
    assert torch.equal(bench.weights(), two.weights())
    assert not bench.updater.gradients()


def test_a_reason_from_the_watcher_ends_the_run():
    bench = Bench()
    bench.on_step = lambda report: "early_stopping" if report.number == 2 else None  # type: ignore[method-assign]
    assert bench.run() == "early_stopping"
    assert bench.updater.step == 2

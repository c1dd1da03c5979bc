"""SFT by hand."""

import math

import torch

from luthier.objectives.sft import sft


def test_one_target_is_its_negative_log_probability() -> None:
    terms = sft(torch.tensor([math.log(0.25)]), weight_S=torch.ones(1))
    assert math.isclose(terms.loss_sum.item(), math.log(4), rel_tol=1e-6)
    assert float(terms.units) == 1.0
    assert terms.metrics == {}


def test_nine_targets_sum_by_weight() -> None:
    logp_S = -torch.arange(1.0, 10.0)
    weight_S = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0, 2.0, 1.0])
    terms = sft(logp_S, weight_S=weight_S)
    assert terms.loss_sum.item() == 1 + 0.5 * 3 + 4 + 6 + 7 + 2 * 8 + 9
    assert float(terms.units) == 7.5


def test_accuracy_counts_the_weight_of_top_targets() -> None:
    top1_S = torch.tensor([True, True, False, True])
    weight_S = torch.tensor([1.0, 0.0, 1.0, 0.5])
    terms = sft(torch.zeros(4), weight_S=weight_S, top1_S=top1_S)
    assert float(terms.metrics["accuracy"]) == 1.5


def test_gradient_is_minus_the_weight_and_metrics_are_detached() -> None:
    logp_S = torch.full((3,), -2.0, requires_grad=True)
    weight_S = torch.tensor([1.0, 0.25, 0.0])
    terms = sft(logp_S, weight_S=weight_S, top1_S=torch.ones(3, dtype=torch.bool))
    terms.loss_sum.backward()
    assert logp_S.grad is not None
    assert logp_S.grad.tolist() == [-1.0, -0.25, 0.0]
    assert isinstance(accuracy := terms.metrics["accuracy"], torch.Tensor)
    assert not accuracy.requires_grad


def test_no_targets_are_no_units() -> None:
    terms = sft(torch.zeros(0), weight_S=torch.zeros(0), top1_S=torch.zeros(0, dtype=torch.bool))
    assert terms.loss_sum.item() == float(terms.units) == float(terms.metrics["accuracy"]) == 0.0

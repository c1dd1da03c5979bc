"""Gradient over a quantised base against float64 over the same base, dequantised here by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariants import reference as ref
from tests.invariants.product import Product, make_product
from tests.invariants.test_parity import Folders, copy_weights, move
from torch import Tensor

from luthier.models.quantise import QuantisedLinear

GATE = 1e-5  # as over a plain base: what quantisation does is in the reference too
FAMILIES = ("llama", "gpt2", "gemma2")
KINDS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4 double": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}
WORST: dict[str, float] = {}

NF4 = [
    *[-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453],
    *[-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0],
    *[0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
    *[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
]
"""Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, appendix E."""
_FP4 = [0.0, 1 / 192, 2 / 3, 1.0, 1 / 3, 1 / 2, 1 / 6, 1 / 4]
FP4 = [*_FP4, *(-value for value in _FP4)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", autouse=True)
def report():
    yield
    for name, value in sorted(WORST.items()):
        print(f"worst relative gradient error, {name}: {value:.2e}")  # noqa: T201


def by_hand(layer: QuantisedLinear) -> Tensor:
    """The weight from its bits in float64, (output, input)."""
    held = {name: value.double() for name, value in layer.named_buffers()}
    scales = held["scales"]
    if layer.quantisation.kind == "int8":
        return held["codes"] * scales[:, None] / 127
    if layer.quantisation.double:
        of_scales = held["scale_scales"].repeat_interleave(256)[: len(scales)]
        scales = held["scale_code"][scales.long()] * of_scales + held["scale_mean"]
    byte = layer.codes.flatten().long()
    code = torch.stack([byte // 16, byte % 16], dim=1).flatten()
    table = torch.tensor(NF4 if layer.quantisation.kind == "nf4" else FP4, dtype=torch.float64)
    values = table[code] * scales.repeat_interleave(64)[: len(code)]
    return values.view(layer.out_features, layer.in_features)


def reference_of(product: Product, folder: Path) -> tuple[ref.Reference, int]:
    """The float64 model with the base's dequantised weights, and how many layers those are."""
    reference = ref.Reference(folder)
    count = 0
    for name, layer in product.trainee.model.named_modules():
        if isinstance(layer, QuantisedLinear):
            weight = by_hand(layer)
            place = reference.model.get_submodule(name.removesuffix(".base")).weight
            place.data.copy_(weight.t() if layer.conv1d else weight)
            count += 1
    return reference, count


@pytest.mark.parametrize(("objective", "cut"), [("sft", "small tree"), ("dpo", "flat")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_over_a_quantised_base(family, kind, cut, objective, folders, tmp_path):
    dpo = objective == "dpo"
    rows: list[Any] = ref.pairs(0) if dpo else ref.conversations(0)
    settings = {"method": "qlora", "lora_dim": 8, "lora_alpha": 12} | KINDS[kind]
    settings |= {"dpo_beta": 0.3} if dpo else {}
    product = make_product(
        folders[family], rows, tmp_path, cut=cut, objective=objective, **settings
    )
    reference, layers = reference_of(product, folders[family])
    assert layers >= 2 * 4
    spelt: list[Any]
    if dpo:
        spelt = [ref.spell_pair(row) for row in rows]
        frozen, reference_P2 = reference.frozen(spelt), product.reference()
        start, _ = product.one_step(reference_P2)
        assert start == pytest.approx(math.log(2), abs=1e-6)
    else:
        spelt = [ref.spell(row, everything=False) for row in rows]
    move(product, 0)
    leaves = copy_weights(product, reference)
    found = product.one_step(reference_P2 if dpo else None)
    loss = reference.dpo_loss(spelt, frozen, beta=0.3) if dpo else reference.sft_loss(spelt)
    loss.backward()
    expected = {name: leaf.grad for name, leaf in leaves.items()}
    worst = ref.worst_relative_error(found[1], expected)
    WORST[kind] = max(WORST.get(kind, 0.0), worst)
    assert found[0] == pytest.approx(float(loss.detach()), rel=2e-6)
    assert worst <= GATE

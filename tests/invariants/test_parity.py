"""Loss and gradient of the product against float64, one sequence at a time.

Gate: the worst parameter's gradient within 1e-5, the loss within 2e-6 (relative).  Measured noise of
a correct float32 path is 1.5e-6.
"""

import random
from pathlib import Path

import pytest
import torch
from tests.invariants import reference as ref
from tests.invariants.product import CUTS, Product, make_product, model_folder
from transformers.pytorch_utils import Conv1D

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "phi3", "gpt2", "mixtral")
GATE, LOSS_GATE = 1e-5, 2e-6
WORST: dict[str, float] = {}


class Folders(dict[str, Path]):
    """A model folder for each family, made when first asked for."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def __missing__(self, family: str) -> Path:
        self[family] = model_folder(self.base / family, family)
        return self[family]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", autouse=True)
def report(record_testsuite_property):
    yield
    for name, value in sorted(WORST.items()):
        record_testsuite_property(name, value)
        print(f"worst relative gradient error, {name}: {value:.2e}")  # noqa: T201


def move(product: Product, seed: int) -> None:
    """Away from the start, so that policy and reference differ and no B is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(product.trainee.trained.items()):
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * 0.05 * (weight.std() if weight.any() else 1.0))


def copy_weights(product: Product, reference: ref.Reference) -> dict[str, torch.Tensor]:
    """Give the reference the product's weights; returns its leaves by the product's names."""
    adapters = product.trainee.adapters
    leaves = {}
    if adapters is None:
        theirs = dict(reference.model.named_parameters())
        for name, weight in product.trainee.trained.items():
            theirs[name].data.copy_(weight.detach().double())
            leaves[name] = theirs[name]
        return leaves
    reference.model.requires_grad_(False)
    weights = product.trainee.trained
    for name, layer in adapters.layers.items():
        lora_A, lora_B = (
            weights[f"base_model.model.{name}.lora_{side}.weight"]
            .detach()
            .double()
            .requires_grad_()
            for side in "AB"
        )
        transposed = isinstance(reference.model.get_submodule(name), Conv1D)
        reference.adapters[name] = ref.Adapter(lora_A, lora_B, layer.alpha / layer.rank, transposed)
        leaves[f"base_model.model.{name}.lora_A.weight"] = lora_A
        leaves[f"base_model.model.{name}.lora_B.weight"] = lora_B
    return leaves


def compare(label: str, product: Product, found, loss, leaves) -> None:
    loss.backward()
    expected = {
        name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
        for name, leaf in leaves.items()
    }
    worst = ref.worst_relative_error(found[1], expected)
    WORST[label] = max(WORST.get(label, 0.0), worst)
    assert found[0] == pytest.approx(float(loss.detach()), rel=LOSS_GATE)
    assert worst <= GATE


METHODS = {"full": {"method": "full"}, "lora": {"method": "lora", "lora_dim": 8, "lora_alpha": 12}}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sft_gradient(family, method, cut, seed, folders, tmp_path):
    rows = ref.conversations(seed)
    everything = bool(seed)
    train_on = "all" if everything else "assistant"
    product = make_product(
        folders[family], rows, tmp_path, cut=cut, train_on=train_on, **METHODS[method]
    )
    move(product, seed)
    reference = ref.Reference(folders[family])
    leaves = copy_weights(product, reference)
    found = product.one_step()
    loss = reference.sft_loss([ref.spell(row, everything=everything) for row in rows])
    compare(f"SFT {method}", product, found, loss, leaves)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_dpo_gradient(family, method, cut, seed, folders, tmp_path):
    rows = ref.pairs(seed)
    product = make_product(
        folders[family], rows, tmp_path, cut=cut, objective="dpo", dpo_beta=0.3, **METHODS[method]
    )
    reference = ref.Reference(folders[family])
    spelt = [ref.spell_pair(row) for row in rows]
    frozen = reference.frozen(spelt)
    reference_P2 = product.reference()
    move(product, seed)
    leaves = copy_weights(product, reference)
    found = product.one_step(reference_P2)
    loss = reference.dpo_loss(spelt, frozen, beta=0.3)
    compare(f"DPO {method}", product, found, loss, leaves)


def test_positions_restart_at_every_root(folders, tmp_path):
    """RoPE hides wrong positions, so they are looked at themselves."""
    product = make_product(folders["llama"], ref.conversations(0), tmp_path)
    from luthier.data.packing.pack import pack

    batch = pack([s for e in product.examples for s in e.sequences], share=False)
    for node in batch.nodes:
        assert batch.positions[node.start : node.stop].tolist() == list(
            range(node.stop - node.start)
        )


def test_rows_are_what_the_hand_written_table_says(folders, tmp_path):
    rows = ref.conversations(random.Random(5).randint(0, 99))
    product = make_product(folders["llama"], rows, tmp_path)
    for row, example in zip(rows, product.examples, strict=True):
        (sequence,) = example.sequences
        spelt = ref.spell(row, everything=False)
        assert sequence.ids.tolist() == spelt.ids
        assert sequence.weights.tolist() == spelt.weights

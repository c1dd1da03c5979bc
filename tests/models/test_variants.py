"""DoRA, PiSSA and LoRA+: as PEFT has them, in value, gradient and file."""

import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tests.models.test_adapters import IDS, assert_equal_logits, logits, peft_base, stir
from tests.tiny import tiny_model_folder

from luthier.engine.optim import Updater
from luthier.models.adapter_files import load_adapter, save_adapter
from luthier.models.adapters import Adapters, attach
from luthier.models.load import load_base
from luthier.models.variants import principal, row_norms

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
FAMILIES = ("llama", "qwen2", "gpt2")  # plain, with biases, with transposed weights


def targets_of(family: str) -> list[str]:
    return ["c_attn", "mlp.c_proj"] if family == "gpt2" else ["q_proj", "down_proj"]


def saved(adapters: Adapters, path, base) -> None:
    path.mkdir()
    save_adapter(adapters, path, str(base))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "kind", [{"dora": True}, {"principal": True}, {"principal": True, "rank_stabilised": True}]
)
def test_peft_reads_it_and_merging_changes_nothing(tmp_path, family, kind):
    folder = tiny_model_folder(tmp_path / "base", family)
    model = load_base(folder, dtype=torch.float32)
    base = logits(model)
    adapters = attach(model, rank=3, alpha=5, targets=targets_of(family), seed=0, **kind)
    assert_equal_logits(logits(model), base)  # whatever its start, it changes nothing yet
    stir(adapters)
    mine = logits(model)
    assert (mine - base).abs().max() > 1e-2
    saved(adapters, tmp_path / "adapter", folder)
    theirs = PeftModel.from_pretrained(peft_base(folder), tmp_path / "adapter").eval()
    assert_equal_logits(mine, logits(theirs, attention="own"))
    merged = theirs.merge_and_unload()
    assert_equal_logits(mine, logits(merged, attention="own"))
    again = load_base(folder, dtype=torch.float32)
    read = load_adapter(again, tmp_path / "adapter")
    assert_equal_logits(logits(again), mine)
    assert read.merge() == len(adapters.layers)
    assert_equal_logits(logits(again), mine)
    adapters.merge()  # of the model that was trained, whose base PiSSA changed
    assert_equal_logits(logits(model), mine)


def test_a_dora_of_peft_is_read_and_its_gradients_are_ours(tmp_path):
    folder = tiny_model_folder(tmp_path / "base", "qwen2")
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"], use_dora=True)
    theirs = get_peft_model(peft_base(folder), config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    model = load_base(folder, dtype=torch.float32)
    adapters = load_adapter(model, tmp_path / "adapter")
    model.set_attn_implementation("sdpa")
    size = torch.linspace(-1, 1, IDS.numel())[None, :, None]
    (model(IDS).logits * size).sum().backward()
    (theirs(IDS).logits * size).sum().backward()
    expected = {n: w.grad for n, w in theirs.named_parameters() if w.grad is not None}
    mine = dict(adapters.named_trained())
    assert len(expected) == len(mine) == 3 * len(adapters.layers)
    for name, grad in expected.items():
        own = mine[
            name.replace(".default", "").removesuffix(".weight")
            + ".weight" * ("lora_m" not in name)
        ]
        assert own.grad is not None
        assert grad.abs().max() > 1e-3
        torch.testing.assert_close(own.grad, grad, rtol=1e-4, atol=1e-5)


def test_a_principal_start_is_that_of_peft(tmp_path):
    folder = tiny_model_folder(tmp_path / "base", "llama")
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj"], init_lora_weights="pissa")
    theirs = get_peft_model(peft_base(folder), config)
    model = load_base(folder, dtype=torch.float32)
    attach(model, rank=3, alpha=5, targets=["q_proj"], seed=0, principal=True)
    for number in range(2):
        mine = model.get_submodule(f"model.layers.{number}.self_attn.q_proj")
        other = theirs.base_model.model.model.layers[number].self_attn.q_proj
        torch.testing.assert_close(
            mine.base.weight, other.base_layer.weight.data, atol=1e-6, rtol=1e-5
        )
        product = other.lora_B["default"].weight @ other.lora_A["default"].weight
        torch.testing.assert_close(mine.lora_B @ mine.lora_A, product, atol=1e-6, rtol=1e-5)


def test_principal_directions_of_a_wide_matrix_are_found_to_float32():
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(1030, 40, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(60, 40, generator=generator)).Q
    weight = left * (0.8 ** torch.arange(40)) @ right.t()
    lora_A, lora_B = principal(weight, 8, torch.Generator().manual_seed(1))
    rest = weight - lora_B @ lora_A
    assert math.isclose(torch.linalg.matrix_norm(rest, 2).item(), 0.8**8, rel_tol=1e-4)


def test_row_norms_are_those_of_the_sum():
    generator = torch.Generator().manual_seed(0)
    weight, lora_A, lora_B = (
        torch.randn(shape, generator=generator) for shape in ((7, 11), (3, 11), (7, 3))
    )
    whole = (weight.double() + 0.7 * lora_B.double() @ lora_A.double()).norm(dim=1)
    torch.testing.assert_close(row_norms(weight, lora_A, lora_B, 0.7).double(), whole)


def test_an_adapter_of_dora_without_a_magnitude_is_refused(tmp_path):
    from safetensors.torch import save_file

    from luthier.errors import AdapterError

    folder = tiny_model_folder(tmp_path / "base", "llama")
    model = load_base(folder, dtype=torch.float32)
    saved(
        attach(model, rank=2, alpha=2, targets=["q_proj"], seed=0, dora=True),
        tmp_path / "a",
        folder,
    )
    path = tmp_path / "a" / "adapter_model.safetensors"
    state = load_file(path)
    name = next(name for name in state if "magnitude" in name)
    save_file({n: v for n, v in state.items() if n != name}, path)
    with pytest.raises(AdapterError, match="lora_magnitude_vector"):
        load_adapter(load_base(folder, dtype=torch.float32), tmp_path / "a")


def test_lora_plus_gives_b_a_multiple_of_the_rate():
    weights = {f"layer.lora_{side}.weight": torch.nn.Parameter(torch.ones(2, 2)) for side in "AB"}
    updater = Updater(
        weights, weight_decay=0.1, rates={"layer.lora_B.weight": 16.0}, max_grad_norm=0.0
    )
    updater.allocate()
    for weight in weights.values():
        weight.grad = torch.full((2, 2), 3.0)
    updater.apply(1e-3)
    # The first step of Adam is the rate itself, and decay is a tenth of it.
    moved = {name[-8:-7]: (1 - weight).detach() for name, weight in weights.items()}
    torch.testing.assert_close(moved["A"], torch.full((2, 2), 1e-3 + 1e-4), rtol=1e-4, atol=0)
    torch.testing.assert_close(moved["B"], torch.full((2, 2), 16e-3 + 16e-4), rtol=1e-3, atol=0)

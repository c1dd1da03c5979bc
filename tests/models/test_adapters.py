"""Adapters: ours load in PEFT, PEFT's in ours, with equal logits; targets, files, merging."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.tiny import tiny_model_folder
from transformers import AutoModelForCausalLM

from luthier.errors import AdapterError, NonFiniteError, TargetError, UnsafeWeightsError
from luthier.gallery import family_of
from luthier.models.adapter_files import load_adapter, save_adapter
from luthier.models.adapters import attach
from luthier.models.build import generation_mode
from luthier.models.load import load_base
from luthier.models.quantise import Quantisation, QuantisedLinear
from luthier.models.targets import choose_targets, default_targets

# PEFT asks transformers for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

IDS = torch.arange(3, 27)[None]
WITH_PEFT = ("llama", "gpt2", "phi3", "qwen2", "gemma3")


@torch.no_grad()
def logits(model, *, attention: str | None = None):
    if attention is None:
        with generation_mode(model):
            return model(IDS).logits
    return model(IDS).logits


def assert_equal_logits(mine, theirs) -> None:
    """Within 1e-6 of the size of the logits: float32 rounding, nothing else."""
    size = theirs.abs().max()
    assert size > 1, "logits without size would hide a fault"
    assert (mine - theirs).abs().max() <= 2e-6 * size


def stir(adapters) -> None:
    """Move every trained weight off its start, the same way each time."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, weight in adapters.named_trained():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)


def peft_base(folder: Path):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


@pytest.mark.parametrize("family", WITH_PEFT)
@pytest.mark.parametrize(
    "options",
    [
        {"rank": 4, "alpha": 8, "targets": None},
        {"rank": 3, "alpha": 5, "targets": "all-linear", "rank_stabilised": True},
    ],
)
def test_peft_reads_our_adapter(tmp_path, family, options):
    folder = tiny_model_folder(tmp_path / "base", family)
    model = load_base(folder, dtype=torch.float32)
    targets = options["targets"] or default_targets(model, family_of(family_type(folder)))
    base = logits(model)
    adapters = attach(model, **{**options, "targets": targets}, seed=0)
    assert adapters.is_fresh
    assert_equal_logits(logits(model), base)
    stir(adapters)
    (tmp_path / "adapter").mkdir()
    save_adapter(adapters, tmp_path / "adapter", str(folder))
    theirs = PeftModel.from_pretrained(peft_base(folder), tmp_path / "adapter").eval()
    assert (logits(model) - base).abs().max() > 1e-2
    assert_equal_logits(logits(model), logits(theirs, attention="own"))
    loaded = {n.replace(".default", "") for n, w in theirs.named_parameters() if "lora_" in n}
    assert loaded == set(adapters.state()), "PEFT adapts exactly the layers that we do"


@pytest.mark.parametrize("family", WITH_PEFT)
@pytest.mark.parametrize(
    "extra",
    [
        {"use_rslora": True},
        {"rank_pattern": "by family"},
        {"modules_to_save": ["lm_head"]},
    ],
    ids=["rslora", "patterns", "head"],
)
def test_we_read_an_adapter_of_peft(tmp_path, family, extra):
    folder = tiny_model_folder(tmp_path / "base", family)
    names = ["c_attn", "attn.c_proj"] if family == "gpt2" else ["qkv_proj", "o_proj"]
    names = names if family in {"gpt2", "phi3"} else ["q_proj", "o_proj", "down_proj"]
    if "rank_pattern" in extra:
        extra = {"rank_pattern": {rf"0\..*{names[0]}": 2}, "alpha_pattern": {names[1]: 3}}
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=names,
        task_type="CAUSAL_LM",
        fan_in_fan_out=family == "gpt2",
        **extra,
    )
    theirs = get_peft_model(peft_base(folder), config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    model = load_base(folder, dtype=torch.float32)
    adapters = load_adapter(model, tmp_path / "adapter")
    assert_equal_logits(logits(model), logits(theirs, attention="own"))
    # And written by us again, it still means the same to PEFT.
    (tmp_path / "again").mkdir()
    save_adapter(adapters, tmp_path / "again", str(folder))
    again = PeftModel.from_pretrained(peft_base(folder), tmp_path / "again").eval()
    torch.testing.assert_close(
        logits(again, attention="own"), logits(theirs, attention="own"), atol=0, rtol=0
    )


def family_type(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_the_start_of_a_layer_depends_on_its_name_and_the_seed_alone(tmp_path):
    folder = tiny_model_folder(tmp_path)
    states = []
    for targets, seed in ((["q_proj"], 0), (["q_proj", "v_proj"], 0), (["q_proj"], 1)):
        adapters = attach(
            load_base(folder, dtype=torch.bfloat16), rank=4, alpha=4, targets=targets, seed=seed
        )
        states.append(adapters.state())
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])
    assert states[0][name].dtype == torch.float32
    bound = 1 / 32**0.5
    assert 0.9 * bound < states[0][name].abs().max() <= bound


def test_only_the_adapter_requires_a_gradient(tmp_path):
    model = load_base(tiny_model_folder(tmp_path), dtype=torch.float32)
    adapters = attach(
        model, rank=4, alpha=4, targets="all-linear", modules_to_save=["embed_tokens"], seed=0
    )
    trained = {id(weight) for _, weight in adapters.named_trained()}
    assert {id(weight) for weight in model.parameters() if weight.requires_grad} == trained


@pytest.mark.parametrize(
    ("family", "targets", "expected"),
    [
        ("llama", ["q_proj", "v_proj"], 4),
        ("llama", "all-linear", 14),
        ("llama", r".*layers\.1\..*(q|v)_proj", 2),
        ("gpt2", ["c_attn", "attn.c_proj"], 4),
        ("phi3", ["qkv_proj"], 2),
        ("mixtral", ["q_proj", "k_proj", "v_proj", "o_proj"], 8),
    ],
)
def test_targets_by_name_suffix_and_expression(tmp_path, family, targets, expected):
    model = load_base(tiny_model_folder(tmp_path, family), dtype=torch.float32)
    assert len(choose_targets(model, targets)) == expected


@pytest.mark.parametrize(
    ("family", "targets", "message"),
    [
        ("llama", ["q_proj", "qproj", "w1"], "qproj is the end of no module's name; w1"),
        ("llama", [], "no name is given"),
        ("llama", "nothing.*", "matches none of 14 layers"),
        ("llama", "[q_proj", "cannot be matched"),
        ("llama", ["lm_head"], "is the head or the embedding: name it in modules_to_save"),
        ("llama", ["embed_tokens"], "is the head or the embedding"),
        ("llama", ["input_layernorm"], "is a LlamaRMSNorm, not a linear layer"),
        ("mixtral", "all-linear", "all-linear would include experts"),
        ("qwen3_moe", ["q_proj", "down_proj"], "down_proj includes the experts"),
        ("mixtral", ["experts"], "includes the experts"),
    ],
)
def test_targets_that_cannot_be_adapted_are_named_with_those_that_can(
    tmp_path, family, targets, message
):
    model = load_base(tiny_model_folder(tmp_path, family), dtype=torch.float32)
    with pytest.raises(TargetError) as caught:
        attach(model, rank=4, alpha=4, targets=targets, seed=0)
    assert message in str(caught.value)
    assert "q_proj" in caught.value.fix
    assert not any(weight.requires_grad for weight in model.parameters()), "nothing was attached"


def test_switched_off_the_model_is_the_base_to_the_bit(tmp_path):
    model = load_base(tiny_model_folder(tmp_path, tie=True), dtype=torch.bfloat16)
    base = logits(model)
    adapters = attach(
        model,
        rank=4,
        alpha=4,
        targets="all-linear",
        modules_to_save=["embed_tokens", "lm_head"],
        seed=0,
    )
    stir(adapters)
    assert not adapters.is_fresh
    assert not torch.equal(logits(model), base)
    with adapters.disabled():
        assert torch.equal(logits(model), base)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("quantisation", [None, Quantisation(), Quantisation(8, "int8")])
def test_merged_equals_adapted(tmp_path, family, quantisation):
    model = load_base(
        tiny_model_folder(tmp_path, family), dtype=torch.float32, quantisation=quantisation
    )
    adapters = attach(
        model, rank=4, alpha=12, targets="all-linear", modules_to_save=["lm_head"], seed=0
    )
    stir(adapters)
    adapted = logits(model)
    merged = adapters.merge()
    assert merged == len(adapters.layers) + 1
    assert not any(isinstance(module, QuantisedLinear) for module in model.modules())
    assert_equal_logits(logits(model), adapted)
    with pytest.raises(AdapterError, match="merged already"):
        adapters.merge()


def test_state_goes_out_and_comes_back(tmp_path):
    folder = tiny_model_folder(tmp_path)
    first, second = (
        attach(load_base(folder, dtype=torch.float32), rank=4, alpha=4, targets=["q_proj"], seed=s)
        for s in (0, 1)
    )
    stir(first)
    second.load_state(first.state())
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state().values(), second.state().values(), strict=True)
    )
    with pytest.raises(AdapterError, match="not those of this adapter"):
        second.load_state({})


def saved(tmp_path: Path) -> tuple[Path, Path]:
    folder = tiny_model_folder(tmp_path / "base")
    adapters = attach(
        load_base(folder, dtype=torch.float32), rank=4, alpha=4, targets=["q_proj"], seed=0
    )
    (tmp_path / "adapter").mkdir()
    save_adapter(adapters, tmp_path / "adapter", "org/base")
    return folder, tmp_path / "adapter"


def change(folder: Path, **fields) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "of kind 'IA3', luthier applies 'LORA'"),
        ({"use_dora": True}, "not all three"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"lora_alpha": "absent"}, "lora_alpha is None"),
        ({"r": 0}, "r is 0, 1 to 65,536"),
        ({"r": 8}, "the adapter is of rank 4"),
        ({"a_field_of_the_future": {"x": 1}}, "a_field_of_the_future"),
        ({"rank_pattern": {"(?!a)b": 4}}, "rank_pattern has the entry"),
    ],
)
def test_adapters_of_another_kind_are_refused_with_both_sides(tmp_path, fields, message):
    folder, adapter = saved(tmp_path)
    change(adapter, **fields)
    with pytest.raises(AdapterError) as caught:
        load_adapter(load_base(folder, dtype=torch.float32), adapter)
    assert message in str(caught.value)


def test_incomplete_and_foreign_adapter_files_are_refused(tmp_path):
    folder, adapter = saved(tmp_path)
    weights = adapter / "adapter_model.safetensors"
    state = load_file(weights)
    first = next(iter(state))

    def refuse(tensors: dict, message: str) -> None:
        save_file(tensors, weights)
        with pytest.raises(AdapterError) as caught:
            load_adapter(load_base(folder, dtype=torch.float32), adapter)
        assert message in str(caught.value)

    refuse({}, "has no tensors")
    refuse(
        {**state, "base_model.model.lm_head.weight": torch.ones(264, 32)},
        "nor declared in modules_to_save",
    )
    refuse({k: v for k, v in state.items() if k != first}, "has no lora_A")
    refuse({k: v * float("nan") for k, v in state.items()}, "NaN or infinity")
    refuse(
        {k.replace("q_proj", "zz_proj"): v for k, v in state.items()},
        "is no linear layer of LlamaForCausalLM",
    )
    weights.unlink()
    with pytest.raises(AdapterError, match="is missing"):
        load_adapter(load_base(folder, dtype=torch.float32), adapter)
    (adapter / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(UnsafeWeightsError):
        load_adapter(load_base(folder, dtype=torch.float32), adapter)


def test_an_adapter_of_another_base_is_refused(tmp_path):
    _, adapter = saved(tmp_path)
    other = tiny_model_folder(tmp_path / "other", hidden_size=64)
    with pytest.raises(AdapterError, match="does not fit this base"):
        load_adapter(load_base(other, dtype=torch.float32), adapter)


def test_weights_that_are_not_numbers_are_not_saved(tmp_path):
    model = load_base(tiny_model_folder(tmp_path / "base"), dtype=torch.float32)
    adapters = attach(model, rank=4, alpha=4, targets=["q_proj"], seed=0)
    with torch.no_grad():
        next(iter(adapters.layers.values())).lora_B[0, 0] = float("nan")
    with pytest.raises(NonFiniteError):
        save_adapter(adapters, tmp_path, "org/base")
    assert not list(tmp_path.glob("adapter*"))


def test_files_carry_plain_names_and_a_complete_config(tmp_path):
    _, adapter = saved(tmp_path)
    names = load_file(adapter / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.") and ".default" not in name for name in names)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj"]
    assert (config["r"], config["lora_alpha"], config["bias"]) == (4, 4, "none")
    assert config["base_model_name_or_path"] == "org/base"


@pytest.mark.parametrize("whole", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize("saved", ["both", "one"])
def test_an_adapter_that_keeps_a_tied_pair_tied_loads(tmp_path, whole, saved):
    folder = tiny_model_folder(tmp_path / "base", tie=True)
    theirs = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], modules_to_save=[whole],
            ensure_weight_tying=True,
        ),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    theirs.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    pair = sorted(
        name for name in state if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    )
    if saved == "one":
        for name in pair[1:]:
            del state[name]
        save_file(state, path, metadata={"format": "pt"})
    ours = load_base(folder, dtype=torch.float32)
    load_adapter(ours, tmp_path / "adapter")
    assert_equal_logits(logits(ours), logits(theirs, attention="their own"))

"""Loading: right to the bit, quantised on the way, and hostile folders end in a sentence."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import FAMILIES, tiny_model_folder
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

import luthier
from luthier.errors import (
    ArchitectureError,
    CapacityError,
    DamagedWeightsError,
    ModelError,
    QuantisationError,
    RemoteCodeError,
    TokenizerError,
    UnsafeWeightsError,
)
from luthier.kernels.finite import is_finite
from luthier.models.build import generation_mode, make_config
from luthier.models.load import Target, load_base, random_on
from luthier.models.quantise import Quantisation, QuantisedLinear
from luthier.sources.check import check_tokenizer_fits, read_config
from luthier.sources.weights import read_header

IDS = torch.arange(3, 27)[None]


def logits(model):
    with torch.no_grad(), generation_mode(model):
        return model(IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tie", [False, True])
def test_a_loaded_model_is_the_one_that_was_saved(tmp_path, family, tie):
    folder = tiny_model_folder(tmp_path, family, tie=tie)
    report: list[str] = []
    model = load_base(folder, dtype=torch.float32, report=report)
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    expected = theirs.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    for name, buffer in theirs.named_buffers():  # rotary frequencies are in no file
        assert torch.equal(model.get_buffer(name), buffer), name
    with torch.no_grad():
        torch.testing.assert_close(logits(model), theirs(IDS).logits, atol=1e-5, rtol=1e-5)
    assert any("dropout of the base model set to 0" in line for line in report)
    assert not any(weight.requires_grad for weight in model.parameters())
    head = model.get_output_embeddings().weight
    assert (head is model.get_input_embeddings().weight) == tie


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parameters_take_the_dtype_and_rotary_frequencies_stay_float32(tmp_path, dtype):
    model = load_base(tiny_model_folder(tmp_path), dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}
    assert model.config.dtype == dtype
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype).eval()
    with torch.no_grad():
        assert torch.equal(logits(model), theirs(IDS).logits)


def test_loading_changes_no_class_of_transformers(tmp_path):
    from transformers.models.llama import modeling_llama

    def attributes() -> dict[str, object]:
        classes = {n: c for n, c in vars(modeling_llama).items() if isinstance(c, type)}
        return {f"{n}.{a}": v for n, c in classes.items() for a, v in vars(c).items()}

    before = attributes()
    load_base(tiny_model_folder(tmp_path), dtype=torch.float32, quantisation=Quantisation())
    assert attributes() == before


def test_shards_give_the_same_model(tmp_path):
    folder = tiny_model_folder(tmp_path)
    whole = load_base(folder, dtype=torch.float32)
    split(folder)
    assert torch.equal(logits(load_base(folder, dtype=torch.float32)), logits(whole))
    quantised = load_base(folder, dtype=torch.float32, quantisation=Quantisation())
    assert not any(value.is_meta for value in quantised.state_dict().values())


def split(folder: Path) -> None:
    """Spread the weights over two shards, matrices and their biases apart."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards: dict[str, dict[str, torch.Tensor]] = {"a.safetensors": {}, "b.safetensors": {}}
    for number, (name, value) in enumerate(state.items()):
        shards["ab"[number % 2] + ".safetensors"][name] = value
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_a_head_that_differs_is_not_tied_whatever_the_config_says(tmp_path):
    folder = tiny_model_folder(tmp_path, tie=False)
    edit(folder, tie_word_embeddings=True)
    report: list[str] = []
    model = load_base(folder, dtype=torch.float32, report=report)
    assert any("not tied" in line for line in report)
    assert torch.equal(
        model.lm_head.weight, load_file(folder / "model.safetensors")["lm_head.weight"]
    )


def test_random_weights_depend_on_the_seed_alone(tmp_path):
    folder = tiny_model_folder(tmp_path)
    first, again, other = (
        load_base(folder, dtype=torch.float32, from_scratch_seed=seed).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("quantisation", [None, Quantisation(), Quantisation(8, "int8")])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_random_weights_are_made_on_the_device_by_the_models_own_rules(
    tmp_path, family, quantisation
):
    folder = tiny_model_folder(tmp_path, family)
    config = make_config(read_config(folder), [])
    target = Target(torch.bfloat16, quantisation, torch.device("cpu"))
    model, again = (random_on(config, seed, target) for seed in (3, 3))
    assert not any(value.is_meta for value in [*model.parameters(), *model.buffers()])
    state, second = model.state_dict(), again.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in state.items())
    plain = load_base(folder, dtype=torch.bfloat16, from_scratch_seed=3).state_dict()
    for name, value in plain.items():
        if name in state and value.is_floating_point():
            assert state[name].dtype == torch.bfloat16
            spread = float(value.float().std()) if value.numel() > 1 else 0.0
            assert float(state[name].float().std()) == pytest.approx(spread, rel=0.2, abs=1e-6)
    quantised = [m for m in model.modules() if isinstance(m, QuantisedLinear)]
    assert bool(quantised) == (quantisation is not None)
    assert torch.isfinite(logits(model.eval())).all()


class _Largest(TorchDispatchMode):
    """The largest tensor that an operator makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {a.data_ptr() for a in args if isinstance(a, torch.Tensor)}
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and made.data_ptr() not in given:
                self.bytes = max(self.bytes, made.nbytes)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_finite_check_makes_no_tensor_of_the_size_it_checks(dtype):
    value = torch.randn(300, 70).to(dtype)
    with _Largest() as largest:
        assert is_finite(value)
    assert largest.bytes <= 8
    for bad in (float("nan"), float("inf"), -float("inf")):
        broken = value.clone()
        broken[123, 45] = bad
        assert not is_finite(broken)
    assert is_finite(torch.empty(0, dtype=dtype))
    assert is_finite(torch.arange(3))


def test_no_other_finite_check_of_whole_tensors_is_left():
    source = Path(luthier.__file__).parent
    found = [
        path.name
        for path in source.rglob("*.py")
        if "torch.isfinite(" in path.read_text("utf-8") and path.name != "finite.py"
    ]
    assert found == []


@pytest.mark.parametrize(
    "quantisation", [Quantisation(), Quantisation(4, "fp4", True), Quantisation(8, "int8")]
)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_a_quantised_model_computes_with_its_dequantised_weights(tmp_path, family, quantisation):
    folder = tiny_model_folder(tmp_path, family)
    model = load_base(folder, dtype=torch.float32, quantisation=quantisation)
    plain = load_base(folder, dtype=torch.float32)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, QuantisedLinear)}
    assert layers
    assert "lm_head" not in layers
    for name, layer in layers.items():
        original = plain.get_submodule(name).weight
        weight = layer.dequantised().t() if layer.conv1d else layer.dequantised()
        size = original.abs().max()
        assert (weight - original).abs().max() < size * (0.01 if quantisation.bits == 8 else 0.25)
        with torch.no_grad():
            original.copy_(weight)
    torch.testing.assert_close(logits(model), logits(plain), atol=2e-5, rtol=1e-5)


def test_keeping_dequantised_weights_changes_no_bit(tmp_path):
    model = load_base(
        tiny_model_folder(tmp_path), dtype=torch.bfloat16, quantisation=Quantisation(double=True)
    )
    before = logits(model)
    for module in model.modules():
        if isinstance(module, QuantisedLinear):
            module.keep_dequantised()
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), before)


def test_int8_rows_of_zeros_stay_zero_and_infinity_is_refused():
    weight = torch.randn(4, 8)
    weight[2] = 0
    layer = QuantisedLinear(weight, None, Quantisation(8, "int8"), compute_dtype=torch.float32)
    assert not layer.dequantised()[2].any()
    weight[1, 1] = 1e6
    with pytest.raises(QuantisationError, match="cannot be held in 8 bits"):
        QuantisedLinear(weight, None, Quantisation(8, "int8"), compute_dtype=torch.float32)
    with pytest.raises(QuantisationError, match="do not exist"):
        Quantisation(8, "nf4")


def test_a_quantised_layer_takes_a_quarter_of_16_bits(tmp_path):
    layer = QuantisedLinear(torch.randn(64, 64), None, Quantisation(), compute_dtype=torch.bfloat16)
    assert layer.num_bytes == 64 * 64 // 2 + 64 * 4


def edit(folder: Path, **fields) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model_type": "absent"}, ModelError, "model_type is None"),
        ({"model_type": "never_seen"}, ArchitectureError, "not built into transformers"),
        (
            {"model_type": "never_seen", "auto_map": {"AutoConfig": "x.Y"}},
            RemoteCodeError,
            "code of its own",
        ),
        ({"num_hidden_layers": 10**6}, ModelError, "num_hidden_layers is 1000000"),
        ({"hidden_size": 10**9}, ModelError, "hidden_size is 1000000000"),
        ({"num_attention_heads": -4}, ModelError, "num_attention_heads is -4"),
        ({"num_key_value_heads": 3}, ModelError, "not a multiple of num_key_value_heads 3"),
        ({"head_dim": None, "hidden_size": 33}, ModelError, "hidden_size 33 is not a multiple"),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            QuantisationError,
            "already quantised (gptq)",
        ),
        ({"is_encoder_decoder": True}, ArchitectureError, "encoder-decoder"),
        ({"hidden_act": "no_such_function"}, ModelError, "no_such_function"),
        ({"vocab_size": 300}, DamagedWeightsError, "the config makes it [300, 32]"),
        ({"num_hidden_layers": 3}, DamagedWeightsError, "lacks model.layers.2"),
    ],
)
def test_configs_that_make_no_model_are_refused(tmp_path, fields, error, message):
    folder = tiny_model_folder(tmp_path)
    edit(folder, **fields)
    with pytest.raises(ModelError) as caught:
        load_base(folder, dtype=torch.float32)
    assert isinstance(caught.value, error)
    assert message in str(caught.value)


def test_code_that_is_not_needed_is_ignored_and_said(tmp_path):
    folder = tiny_model_folder(tmp_path, "phi3")
    edit(folder, auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('run!')")
    report: list[str] = []
    load_base(folder, dtype=torch.float32, report=report)
    assert any("no code of the model is run" in line for line in report)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"hidden_size": NaN}', "[" * 100_000])
def test_a_config_that_is_not_json_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError):
        load_base(tmp_path, dtype=torch.float32)


def test_folders_without_safetensors_are_refused_and_pickle_is_never_opened(tmp_path):
    folder = tiny_model_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load_base(folder, dtype=torch.float32)
    (folder / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"only as model\.gguf"):
        load_base(folder, dtype=torch.float32)
    canary = tmp_path / "canary"
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())
    with pytest.raises(UnsafeWeightsError, match=r"only as pytorch_model\.bin"):
        load_base(folder, dtype=torch.float32)
    assert not canary.exists()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_base(tmp_path / "nothing", dtype=torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("quantisation", [None, Quantisation()])
def test_weights_that_are_not_numbers_are_refused_by_name(tmp_path, value, quantisation):
    folder = tiny_model_folder(tmp_path)
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(state, folder / "model.safetensors")
    with pytest.raises(
        DamagedWeightsError, match=r"layers\.1\.mlp\.up_proj\.weight .* NaN or infinity"
    ):
        load_base(folder, dtype=torch.float32, quantisation=quantisation)


def test_a_weight_too_large_for_float16_is_refused_with_the_way_out(tmp_path):
    folder = tiny_model_folder(tmp_path)
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"][0] = 1e6
    save_file(state, folder / "model.safetensors")
    with pytest.raises(DamagedWeightsError) as caught:
        load_base(folder, dtype=torch.float16)
    assert "--torch_dtype bfloat16" in caught.value.fix


def raw(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def one(dtype="F32", shape=(2,), offsets=(0, 8), name="a") -> str:
    return f'"{name}":' + json.dumps(
        {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its header claims 0 bytes"),
        (b"\0" * 4, "header claims"),
        (raw(b"{}", length=2**63), "header claims"),
        (raw(b"{}", length=200 * 2**20), "header claims"),
        (raw(b"{nonsense"), "is not JSON"),
        (raw(b"[]"), "is not a JSON object"),
        (raw(b"[" * 100_000), "nested more than 200 deep"),
        (
            raw(("{" + one() + "}").encode(), b"\0" * 7),
            "its tensors take 8 bytes, the file holds 7",
        ),
        (
            raw(("{" + one() + "}").encode(), b"\0" * 9),
            "its tensors take 8 bytes, the file holds 9",
        ),
        (
            raw(("{" + one() + "," + one(name="b", offsets=(4, 12)) + "}").encode(), b"\0" * 12),
            "overlaps",
        ),
        (
            raw(("{" + one() + "," + one(name="b", offsets=(12, 20)) + "}").encode(), b"\0" * 20),
            "leaves a hole",
        ),
        (
            raw(("{" + one() + "," + one() + "}").encode(), b"\0" * 8),
            "is given twice in one object",
        ),
        (raw(("{" + one(dtype="F99") + "}").encode(), b"\0" * 8), "unknown dtype"),
        (raw(("{" + one(shape=(3,)) + "}").encode(), b"\0" * 8), "needs 12 bytes, it has 8"),
        (raw(("{" + one(shape=(-2,)) + "}").encode(), b"\0" * 8), "not a count"),
        (raw(("{" + one(shape=(0,), offsets=(0, 0)) + "}").encode()), "holds nothing"),
        (raw(b'{"a": 3}'), "lacks dtype"),
    ],
)
def test_damaged_safetensors_end_in_a_sentence(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedWeightsError) as caught:
        read_header(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m | {"model.norm.weight": "../../etc/passwd"},
            "places tensor 'model.norm.weight'",
        ),
        (lambda m: m | {"model.norm.weight": "/etc/passwd"}, "places tensor"),
        (lambda m: m | {"extra": "c.safetensors"}, "lacks c.safetensors"),
        (lambda m: m | {"extra": "a.safetensors"}, "index and file disagree"),
        (
            lambda m: {n: {"a": "b", "b": "a"}[s[0]] + s[1:] for n, s in m.items()},
            "index and file disagree",
        ),
        (lambda m: {}, "has no weight_map"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path, change, message):
    folder = tiny_model_folder(tmp_path)
    split(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": change(json.loads(index.read_text())["weight_map"])})
    )
    with pytest.raises(DamagedWeightsError) as caught:
        load_base(folder, dtype=torch.float32)
    assert message in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = tiny_model_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match="is a link to"):
        load_base(folder, dtype=torch.float32)


def test_a_tokenizer_larger_than_the_embeddings_is_refused():
    check_tokenizer_fits(264, 264)
    with pytest.raises(TokenizerError, match="has 265 tokens, the model embeds 264"):
        check_tokenizer_fits(265, 264)


def test_random_weights_that_do_not_fit_are_refused_before_they_are_made(tmp_path):
    folder = tiny_model_folder(tmp_path)
    edit(
        folder,
        hidden_size=65_536,
        num_hidden_layers=40,
        intermediate_size=2**19,
        num_attention_heads=64,
    )
    with pytest.raises(CapacityError, match="random weights of this config take"):
        load_base(folder, dtype=torch.float32, from_scratch_seed=0)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_a_tied_model_stored_by_its_head_alone_is_the_same_model(tmp_path, family):
    folder = tiny_model_folder(tmp_path, family, tie=True)
    wanted = logits(load_base(folder, dtype=torch.float32))
    path = folder / "model.safetensors"
    state = load_file(path)
    (name,) = [name for name in state if name.endswith(("embed_tokens.weight", "wte.weight"))]
    state["lm_head.weight"] = state.pop(name)
    save_file(state, path, metadata={"format": "pt"})
    model = load_base(folder, dtype=torch.float32)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(logits(model), wanted)

"""Load a base model: checked, filled tensor by tensor, quantised on the way if asked.

A weight is read, checked for values that are not numbers, cast (or quantised), and only then is
the next one read: with a quantised base the 16-bit model is never whole in memory.  Types whose
files are laid out otherwise than the model (experts in single files, stacked in memory) are read
by transformers, after the same checks of the same files.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from luthier.errors import CapacityError, DamagedWeightsError, QuantisationError
from luthier.kernels.attention import ATTENTION
from luthier.kernels.finite import is_finite
from luthier.models.build import build, generation_config, make_config
from luthier.models.quantise import Quantisation, QuantisedLinear
from luthier.sources.check import ignored_code, read_config
from luthier.sources.weights import TensorSpec, check_hashes, find_weights
from luthier.units import format_bytes

_FLOATS = {"F64", "F32", "F16", "BF16"}
_DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
# Buffers that old versions of transformers saved and new ones compute.
_COMPUTED = (".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq", ".rotary_emb.cos_cached")


def load_base(
    folder: Path,
    *,
    dtype: torch.dtype,
    quantisation: Quantisation | None = None,
    device: torch.device | str = "cpu",
    from_scratch_seed: int | None = None,
    report: list[str] | None = None,
) -> PreTrainedModel:
    """The transformers model of a folder, frozen, in evaluation mode, with luthier's attention.

    Args:
        folder: Holds config.json and, unless from scratch, safetensors.
        dtype: Of the parameters, norms included: float32, bfloat16 or float16.
        quantisation: Hold the matrices of the layers in 4 or 8 bits; embeddings and head stay.
        device: Where the parameters go.
        from_scratch_seed: Random weights by the model's own rules, from this seed; no file is read.
        report: Gets one sentence for everything about the model that is not as its files say.

    Raises:
        ModelError: And its kinds; see `read_config` and `find_weights`.
        DamagedWeightsError: A tensor is missing, of another shape, or holds NaN or infinity.
        CapacityError: Random weights would not fit the memory of this machine.
    """
    report = [] if report is None else report
    fields = read_config(folder)
    if notice := ignored_code(fields):
        report.append(notice)
    config = make_config(fields, report)
    if from_scratch_seed is not None:
        to = torch.device(device)
        if to.type == "cpu":
            model = _from_scratch(config, from_scratch_seed, dtype)
        else:
            model = random_on(config, from_scratch_seed, Target(dtype, quantisation, to))
    else:
        model = _from_files(
            folder, config, Target(dtype, quantisation, torch.device(device)), report
        )
        if (generation := generation_config(folder)) is not None:
            model.generation_config = generation
    if quantisation is not None:
        quantise_rest(model, quantisation, dtype, torch.device(device))
        _report_experts(model, report)
    config.dtype = dtype
    model.requires_grad_(False)
    return model.to(device).eval()


class Target:
    """Where tensors go and as what."""

    def __init__(
        self, dtype: torch.dtype, quantisation: Quantisation | None, device: torch.device
    ) -> None:
        self.dtype, self.quantisation, self.device = dtype, quantisation, device


def _from_scratch(config: PretrainedConfig, seed: int, dtype: torch.dtype) -> PreTrainedModel:
    shapes = build(config, storage=False)
    needed = 4 * sum(weight.numel() for weight in shapes.parameters())
    total = psutil.virtual_memory().total
    if needed > total:
        raise CapacityError(
            f"random weights of this config take {format_bytes(needed)}, this machine has {format_bytes(total)}",
            why="they are made in float32 in host memory",
            fix="make the config smaller: num_hidden_layers, hidden_size, vocab_size",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config, storage=True)
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


@torch.no_grad()
def random_on(config: PretrainedConfig, seed: int, target: Target) -> PreTrainedModel:
    """Random weights by the model's own rules, made where they will be used, module by module.

    Never more than one module is there in float32, nor more than one block unquantised.  Other numbers than on the CPU: the generator is
    the device's.
    """
    model = build(config, storage=False)
    owners = {name for name, _ in quantisable(model)} if target.quantisation else set()
    devices = [target.device] if target.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        waiting: list[str] = []
        for name, module in reversed(list(model.named_modules())):  # a block may set its layers'
            own = dict(module.named_parameters(recurse=False))
            for leaf, value in own.items():
                if value.is_meta:
                    _put(module, leaf, torch.empty(value.shape, device=target.device))
            model._init_weights(module)
            for leaf in own:
                weight = getattr(module, leaf)
                weight.data = weight.data.to(target.dtype)
            waiting += [name] if name in owners else []
            if name.rpartition(".")[2].isdigit() or not name:
                for layer in waiting:
                    made: Tensor = model.get_submodule(layer).weight.detach()
                    assert target.quantisation is not None, "nothing waits without"
                    _replace(model, layer, made, target.quantisation, target.dtype)
                waiting.clear()
    model.tie_weights()
    return model


def _from_files(
    folder: Path, config: PretrainedConfig, target: Target, report: list[str]
) -> PreTrainedModel:
    files = find_weights(folder)
    check_hashes(files, folder)
    specs = {name: spec for tensors in files.values() for name, spec in tensors.items()}
    if odd := sorted(name for name, spec in specs.items() if _is_packed(spec)):
        raise QuantisationError(
            f"tensor {odd[0]} of {folder} is {specs[odd[0]].dtype}",
            why="weights in 8 bits or fewer need scales that only their own method understands",
            fix="give the original model, in 16 or 32 bits",
        )
    if config.tie_word_embeddings and _head_differs(folder, files, build(config, storage=False)):
        config.tie_word_embeddings = False
        report.append(
            "head and embeddings differ in the file: they are not tied, whatever its config says"
        )
    model = build(config, storage=False)
    if get_model_conversion_mapping(model, add_legacy=False):
        return _by_transformers(folder, config, target)
    names = _match(model, specs, folder, report)
    for path in files:
        _fill(model, path, names, target)
    model.tie_weights()
    return model


def _is_packed(spec: TensorSpec) -> bool:
    return spec.dtype.startswith("F8") or (spec.dtype in {"U8", "I8"} and len(spec.shape) > 1)


def _match(
    model: PreTrainedModel, specs: Mapping[str, TensorSpec], folder: Path, report: list[str]
) -> dict[str, str]:
    """File name -> model name, when every tensor of the model is there once and in its shape."""
    wanted = model.state_dict()
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    prefix = model.base_model_prefix + "."
    names, unused = {}, []
    for name in specs:
        found = next(
            (n for n in (name, prefix + name, name.removeprefix(prefix)) if n in wanted), None
        )
        if found is not None:
            names[name] = found
        elif not name.endswith(_COMPUTED):
            unused.append(name)
    # A tied pair may be stored by either of its names; the one that tying copies from is filled.
    filled = set(names.values())
    alone = {head: source for head, source in tied.items() if source not in filled}
    names = {name: alone.get(place, place) for name, place in names.items()}
    filled = set(names.values())
    missing = [name for name in sorted(set(wanted) - filled) if tied.get(name) not in filled]
    wrong = [
        f"{name} is {list(specs[name].shape)}, the config makes it {list(wanted[place].shape)}"
        for name, place in names.items()
        if specs[name].shape != tuple(wanted[place].shape)
    ]
    if missing or wrong:
        lacks = f"lacks {', '.join(missing[:5])}" + (
            f" and {len(missing) - 5} more" if missing[5:] else ""
        )
        raise DamagedWeightsError(
            f"the weights of {folder} do not fit its config",
            why="; ".join(([lacks] if missing else []) + wrong[:5]),
            fix="fetch the model again; config.json and *.safetensors must be of the same model",
        )
    if unused:
        report.append(
            f"{len(unused)} tensors of the file are not part of this model: {', '.join(unused[:3])}"
        )
    return names


def _fill(model: PreTrainedModel, path: Path, names: Mapping[str, str], target: Target) -> None:
    owners = {name for name, _ in quantisable(model)} if target.quantisation else set()
    with safe_open(path, framework="pt") as file:
        place_of = {name: names[name] for name in file.keys() if name in names}  # noqa: SIM118
        for name in reading_order(place_of):
            stored = file.get_tensor(name)
            fill_one(model, place_of[name], stored, target, owners, f"{name} of {path}")


def reading_order(names: Iterable[str]) -> list[str]:
    """Biases and the like first: a quantised layer takes its bias with it."""
    return sorted(names, key=lambda name: name.endswith(".weight"))


def fill_one(
    model: PreTrainedModel,
    place: str,
    stored: Tensor,
    target: Target,
    quantised: Collection[str],
    name: str,
    *,
    check: Callable[[Tensor, str], None] | None = None,
) -> None:
    """Give a model one tensor of a file, cast, or quantised where its layer is among `quantised`."""
    check = check or _check_finite
    owner, _, leaf = place.rpartition(".")
    if leaf == "weight" and owner in quantised and target.quantisation is not None:
        check(stored, name)
        _replace(model, owner, stored.to(target.device), target.quantisation, target.dtype)
        return
    value = torch.empty(stored.shape, dtype=target.dtype, device=target.device)
    if not stored.is_floating_point():
        value = torch.empty_like(stored, device=target.device)
    value.copy_(stored)  # a copy of our own: the file may change while we run
    check(value, name)
    _put(model.get_submodule(owner), leaf, value)


def _put(module: nn.Module, leaf: str, value: Tensor) -> None:
    if leaf in module._buffers:
        setattr(module, leaf, value)
    else:
        setattr(module, leaf, nn.Parameter(value, requires_grad=False))


def _check_finite(value: Tensor, name: str) -> None:
    if not is_finite(value):
        kind = _DTYPE_NAMES.get(value.dtype, str(value.dtype))
        raise DamagedWeightsError(
            f"tensor {name} holds NaN or infinity in {kind}",
            why="a model with one such value gives no number at all"
            + ("; float16 ends at 65,504" if value.dtype == torch.float16 else ""),
            fix="fetch the model again"
            + (", or: --torch_dtype bfloat16" if value.dtype == torch.float16 else ""),
        )


def quantisable(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The linear layers of the body; not the head, and not gates that choose experts."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        gate = name.rsplit(".", 1)[-1] in {"gate", "router", "shared_expert_gate"}
        if isinstance(module, nn.Linear | Conv1D) and module is not head and not gate:
            yield name, module


def _replace(
    model: PreTrainedModel,
    name: str,
    weight: Tensor,
    quantisation: Quantisation,
    dtype: torch.dtype,
) -> None:
    old = model.get_submodule(name)
    bias = getattr(old, "bias", None)
    if bias is not None and bias.is_meta:
        # In another shard: filled in place later, `_put` finds the attribute.
        bias = bias.detach()
    layer = QuantisedLinear(
        weight, bias, quantisation, compute_dtype=dtype, conv1d=isinstance(old, Conv1D), name=name
    )
    model.set_submodule(name, layer)


def quantise_rest(
    model: PreTrainedModel, quantisation: Quantisation, dtype: torch.dtype, device: torch.device
) -> None:
    """Quantise what was not quantised while it was read: random weights, and what transformers loaded.

    On the device, one weight at a time: the 16-bit model is never there, and no CPU works for minutes.
    """
    for name, module in list(quantisable(model)):
        weight: Tensor = module.weight.detach()  # type: ignore[operator]
        _replace(model, name, weight.to(device), quantisation, dtype)


def _report_experts(model: PreTrainedModel, report: list[str]) -> None:
    stacked = [weight for weight in model.parameters() if weight.dim() == 3]
    if size := sum(weight.nbytes for weight in stacked):
        report.append(f"{format_bytes(size)} of experts stay unquantised: they are stacked tensors")


def _by_transformers(folder: Path, config: PretrainedConfig, target: Target) -> PreTrainedModel:
    with _quiet():
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=target.dtype,
            attn_implementation=ATTENTION,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    problems = [f"lacks {name}" for name in sorted(info["missing_keys"])]
    problems += [
        f"{name} is {old}, the config makes it {new}" for name, old, new in info["mismatched_keys"]
    ]
    problems += [str(message) for message in info.get("error_msgs", ())]
    if problems:
        raise DamagedWeightsError(
            f"the weights of {folder} do not fit its config",
            why="; ".join(problems[:5]),
            fix="fetch the model again; config.json and *.safetensors must be of the same model",
        )
    for name, weight in model.named_parameters():
        _check_finite(weight, f"{name} of {folder}")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bar; ours says more."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _head_differs(
    folder: Path, files: Mapping[Path, Mapping[str, TensorSpec]], model: PreTrainedModel
) -> bool:
    """Whether a file that is said to tie its head holds a head with other values."""

    def stored(wanted: str) -> Tensor | None:
        short = wanted.removeprefix(model.base_model_prefix + ".")
        for path, tensors in files.items():
            for name in (wanted, short):
                if name in tensors:
                    with safe_open(path, framework="pt") as file:
                        value: Tensor = file.get_tensor(name)
                        return value
        return None

    for head, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        first, second = stored(head), stored(source)
        if first is not None and second is not None and not torch.equal(first, second):
            return True
    return False

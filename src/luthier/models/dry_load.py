"""Load a model that is not there: the steps of `load`, on tensors that may have no data.

For the dry run of a plan, under `FakeTensorMode`: the same modules, dtypes and quantisation come out,
and the same temporaries come and go, in the order in which a file's tensors are read.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import PreTrainedModel

from luthier.models import load
from luthier.models.build import build, make_config
from luthier.models.quantise import Quantisation

_STORED = {"float16": torch.float16, "float32": torch.float32}


def dry_load(
    fields: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    quantisation: Quantisation | None,
    from_scratch: bool,
    mapped: Callable[[], AbstractContextManager[None]],
) -> PreTrainedModel:
    """The model of a `config.json`, as `load_base` would give it.

    Args:
        fields: Content of the file.
        from_scratch: Whether the weights are made, not read.
        mapped: Within it, tensors that are made are files mapped into memory.

    Raises:
        ModelError: And its kinds, as `load_base`.
    """
    config = make_config(fields, [])
    if from_scratch:
        model = build(config, storage=True)
        for weight in model.parameters():
            weight.data = weight.data.to(dtype)
    else:
        model = build(config, storage=False)
        stored = _STORED.get(str(fields.get("torch_dtype", fields.get("dtype"))), torch.bfloat16)
        _fill(model, load.Target(dtype, quantisation, torch.device("cpu")), stored, mapped)
        model.tie_weights()
    if quantisation is not None:
        load.quantise_rest(model, quantisation, dtype)
    config.dtype = dtype
    model.requires_grad_(False)
    return model.eval()


def _fill(
    model: PreTrainedModel,
    target: load.Target,
    stored: torch.dtype,
    mapped: Callable[[], AbstractContextManager[None]],
) -> None:
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    wanted = {name: value for name, value in model.state_dict().items() if name not in tied}
    owners = {name for name, _ in load.quantisable(model)} if target.quantisation else set()
    for name in load.reading_order(wanted):
        kind = stored if wanted[name].is_floating_point() else wanted[name].dtype
        with mapped():
            value = torch.empty(wanted[name].shape, dtype=kind, device="cpu")
        load.fill_one(model, name, value, target, owners, name)

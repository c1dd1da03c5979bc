"""Load a model that is not there: the steps of `load`, on tensors that may have no data.

For the dry run of a plan, under `FakeTensorMode`: the same modules, dtypes and quantisation come out,
and the same temporaries come and go, in the order in which a file's tensors are read.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from luthier.models import load
from luthier.models.build import build, make_config
from luthier.models.quantise import Quantisation

_STORED = {"float16": torch.float16, "float32": torch.float32}


class Disk(Protocol):
    """Who counts what is read."""

    def file(self, size: int) -> AbstractContextManager[None]:
        """Within, a file of so many bytes is mapped into memory."""
        ...

    def part(self, *, quantised: bool) -> AbstractContextManager[None]:
        """Within, a tensor that is made is a part of that file; one that will be quantised is
        copied to the device first, where that is another."""
        ...

    def keep_file(self, size: int) -> None:
        """So many bytes of a mapped file stay, beside those that are the model's weights."""
        ...


def dry_load(
    fields: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    quantisation: Quantisation | None,
    from_scratch: bool,
    disk: Disk,
) -> PreTrainedModel:
    """The model of a `config.json`, as `load_base` would give it.

    Args:
        fields: Content of the file.
        from_scratch: Whether the weights are made, not read.
        disk: Told of the file that is read.

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
        _fill(model, load.Target(dtype, quantisation, torch.device("cpu")), stored, disk)
        model.tie_weights()
        if get_model_conversion_mapping(model, add_legacy=False) and stored == dtype:
            # transformers stacks experts in new tensors and leaves the others in the mapped file,
            # which therefore stays whole.
            disk.keep_file(sum(w.nbytes for w in model.parameters() if w.dim() == 3))
    if quantisation is not None:
        load.quantise_rest(model, quantisation, dtype, torch.device("cpu"))
    config.dtype = dtype
    model.requires_grad_(False)
    return model.eval()


def _fill(
    model: PreTrainedModel,
    target: load.Target,
    stored: torch.dtype,
    disk: Disk,
) -> None:
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    wanted = {name: value for name, value in model.state_dict().items() if name not in tied}
    owners = {name for name, _ in load.quantisable(model)} if target.quantisation else set()

    def check(value: Tensor, name: str) -> None:
        """Nothing: smallest and largest value take no room."""

    kinds = {n: stored if v.is_floating_point() else v.dtype for n, v in wanted.items()}
    with disk.file(sum(kinds[name].itemsize * value.numel() for name, value in wanted.items())):
        for name in load.reading_order(sorted(wanted)):
            with disk.part(quantised=name.removesuffix(".weight") in owners):
                value = torch.empty(wanted[name].shape, dtype=kinds[name], device="cpu")
            load.fill_one(model, name, value, target, owners, name, check=check)

"""Types of settings that other tools spell otherwise, or write as one value or as several."""

import os
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field


def _listed(value: object) -> object:
    listed = (value,) if isinstance(value, str | os.PathLike) else value
    if isinstance(listed, list | tuple):
        return tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in listed)
    return listed


def _named(**names: str) -> BeforeValidator:
    """Spellings of other tools for the same value."""
    return BeforeValidator(
        lambda value: names.get(value, value) if isinstance(value, str) else value
    )


def _one_tracker(value: object) -> object:
    names = list(value) if isinstance(value, list | tuple) else [value]
    if names in ([], [None]):
        return "none"
    if len(names) > 1 or names == ["all"]:
        raise ValueError("a run reports to one tracker: none, tensorboard, wandb or mlflow")
    return names[0]


Strings = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed)]
Questions = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=4096, pattern=r"\S")], ...],
    BeforeValidator(_listed),
    Field(max_length=8),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    _named(fp32="float32", float="float32", bf16="bfloat16", fp16="float16", half="float16"),
]
Optimiser = Annotated[
    Literal["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"],
    _named(
        adamw="adamw_torch",
        adamw_torch_fused="adamw_torch",
        adamw_bnb_8bit="adamw_8bit",
        paged_adamw="paged_adamw_32bit",
    ),
]
PairLoss = Annotated[
    Literal["sigmoid", "sigmoid_norm", "hinge", "robust", "ipo", "simpo", "orpo"],
    _named(dpo="sigmoid", slic="hinge", rdpo="robust", cdpo="sigmoid"),
]
Recomputation = Annotated[
    Literal["auto", "none", "full"],
    BeforeValidator(lambda value: {"true": "full", "false": "none"}.get(str(value).lower(), value)),
]
BestBy = Annotated[Literal["loss", "accuracy"], _named(eval_loss="loss", eval_accuracy="accuracy")]
Tracker = Annotated[
    Literal["none", "tensorboard", "wandb", "mlflow"], BeforeValidator(_one_tracker)
]

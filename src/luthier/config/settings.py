"""The settings of a run.  This class is the flags, the YAML file, the HTTP body, the web form and
the reference page; no default is written anywhere else.

`None` means "chosen when the run is planned, and printed with its reason"; which value that is, is
in `config/defaults.py`.  Files and flags are read by `config/read.py`, which knows aliases, names
of other tools and where a value came from; this class only knows what is allowed.
"""

import codecs
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from luthier.config.kinds import (
    BestBy,
    Dtype,
    Optimiser,
    PairLoss,
    Questions,
    Recomputation,
    Strings,
    Tracker,
)
from luthier.config.rules import REFERENCE_FREE, contradictions, implied

GROUPS = {
    "model": "model",
    "method": "method",
    "data": "dataset",
    "amount": "num_train_epochs",
    "optimiser": "learning_rate",
    "memory": "gradient_checkpointing",
    "watching": "logging_steps",
    "run": "output_dir",
}
"""Headings of help and reference: the title of a group and its first setting."""


_OF_NO_FILE = {"punycode", "idna", "undefined", "unicode-escape", "raw-unicode-escape"}


class Settings(BaseModel):
    """Flat and frozen.  Unknown names are refused; the text under a field is its help."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    model: str = Field(min_length=1, max_length=4096)
    """What to start from: a gallery name, a folder, a hub id, a run, or an adapter folder, whose
    adapter is then where training starts."""

    revision: str | None = None
    """Branch, tag or commit of a hub model."""

    from_scratch: bool = False
    """Start from random weights; `model` then needs only its config and tokenizer."""

    load_in_4bit: bool = False
    """Hold the frozen base in 4 bits; with `method: lora` this means `qlora`."""

    load_in_8bit: bool = False
    """Hold the frozen base in 8 bits; with `method: lora` this means `qlora`."""

    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """The 16 levels of a 4-bit base: `nf4` fits normally distributed weights."""

    bnb_4bit_use_double_quant: bool = False
    """Quantise the scales of the 4-bit base too; saves 0.37 bits per weight."""

    torch_dtype: Dtype = "auto"
    """Precision of the base weights and of compute.  `auto`: bfloat16 where the device has it,
    float16 on older GPUs, float32 on other processors."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """What is trained: an adapter, an adapter on a quantised base, or every weight."""

    objective: Literal["sft", "dpo", "kto", "text"] = "sft"
    """What is learned: answers, preferences between two answers, answers each with a label, or plain
    text."""

    lora_dim: int = Field(32, ge=0, le=8192)
    """Rank of the adapter.  0 means full-parameter training."""

    lora_alpha: float | None = Field(None, gt=0)
    """The adapter is scaled by `lora_alpha / lora_dim`.  Not given: equal to `lora_dim`."""

    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of adapter inputs set to zero in training; the base model's own dropout is always 0."""

    use_rslora: bool = False
    """Scale the adapter by `lora_alpha` over the root of `lora_dim`: large ranks keep learning."""

    use_dora: bool = False
    """Train a magnitude for every row of the adapted weights besides, and the adapter as their
    direction.  Slower; few tools but PEFT read it: merge it for the others."""

    init_lora_weights: Literal["default", "pissa"] = "default"
    """Where an adapter begins: at zero, or with `pissa` at the base's principal directions, which
    leave the base meanwhile.  Its file has twice the rank and fits the base as published."""

    loraplus_lr_ratio: float = Field(1.0, ge=1, le=1000)
    """Learning rate of the B matrices as a multiple of that of A.  LoRA+ paper: 16."""

    lora_target_modules: Strings | None = Field(None, min_length=1)
    """Which linear layers get an adapter, by the end of their names, or `all-linear`.
    Not given: the four attention matrices of the model's family."""

    modules_to_save: Strings = ()
    """Modules trained in full and saved beside the adapter, such as `lm_head`."""

    dpo_beta: float = Field(0.1, gt=0, le=1000)
    """Pull towards the reference model; larger stays closer.  Paper: 0.1 to 0.5.  In `simpo` the
    scale of the reward (2 where not given), in `orpo` the weight of the odds ratio."""

    dpo_loss_type: PairLoss = "sigmoid"
    """`sigmoid` is DPO as published, `sigmoid_norm` the same per token of each answer; `hinge` asks
    nothing of pairs that are apart, `ipo` regresses the margin to 1 / (2 beta), `robust` takes
    swapped pairs into account; `simpo` and `orpo` need no reference model."""

    dpo_label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose preference is the wrong way round: `sigmoid`, `sigmoid_norm` and
    `simpo` expect them, `robust` takes their effect out of the mean."""

    dpo_sft_weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the chosen answer's own loss per token, added to that of the pair."""

    simpo_gamma: float = Field(1.0, ge=0, le=1000)
    """Margin between the rewards that `simpo` asks for.  Paper: 0.3 to 1.6, half of beta at first."""

    kto_desirable_weight: float = Field(1.0, gt=0, le=1000)
    """Weight of the wanted answers of `kto`; the others have 1.  Paper: such that weight times
    wanted rows is 1 to 1.33 times the others."""

    neftune_noise_alpha: float = Field(0.0, ge=0, le=1000)
    """Size of the noise that training adds to embeddings (NEFTune); 0 adds none.  Paper: 5 to 15."""

    master_weights: Literal["float32", "none"] = "float32"
    """Full-parameter training in 16 bits: `float32` keeps the bits that small updates need,
    `none` rounds at random instead and saves 2 bytes per weight."""

    dataset: Strings = Field(min_length=1)
    """Files, folders or hub ids to learn from."""

    columns: dict[str, str] | None = None
    """Names in the rows for names luthier knows, as in `{prompt: question, completion: answer}`, or
    a text over several of them, as in `{prompt: "{question} A. {A} B. {B}", completion: answer}`."""

    encoding: str | None = Field(None, min_length=1)
    """Encoding of the data files.  Not given: UTF-8, with or without byte-order mark."""

    eval_dataset: Strings = ()
    """Files to evaluate on, never learned from."""

    eval_split: float = Field(0.0, ge=0)
    """Rows of `dataset` held out for evaluation: a share below 1, or a whole number of rows."""

    system_prompt: str | None = None
    """System text for rows that have none of their own."""

    apply_chat_template: bool = True
    """Render rows with the model's chat template.  `false`: rows carry their own markup."""

    chat_template: str | None = None
    """A Jinja template, a file that holds one, or a gallery name, in place of the model's own."""

    chat_template_kwargs: dict[str, object] = Field(default_factory=dict)
    """Arguments for the chat template, such as `{enable_thinking: false}`."""

    train_on: Literal["assistant", "last_assistant", "all"] | None = None
    """Which tokens carry loss.  Not given: the assistant's turns, and all of a `text` row."""

    seq_length: int = Field(2048, ge=8, le=16_777_216)
    """Longest sequence in tokens; a smaller limit of the model wins and is reported."""

    truncation: Literal["prompt_start", "answer_end", "drop", "refuse"] = "prompt_start"
    """What happens to longer rows: oldest turns go first, the answer's end goes, the row goes, or
    the run is refused."""

    bad_rows: Literal["drop", "refuse"] = "drop"
    """`drop` leaves out up to 1 % of rows, each listed in the ledger; `refuse` stops at any."""

    share_prefixes: Literal["auto"] | bool = "auto"
    """Compute the beginning that several sequences share once.  `auto`: where it saves something
    and `lora_dropout` is 0."""

    num_train_epochs: float | None = Field(None, gt=0, le=10_000)
    """Passes over the data, parts of one included.  Not given: by objective."""

    max_steps: int | None = Field(None, ge=1, le=1_000_000_000)
    """Optimiser steps to stop after, whatever `num_train_epochs` says."""

    per_device_train_batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = (
        "auto"
    )
    """Samples per device and accumulation round.  `auto`: 16 samples a step for SFT, 8 pairs for
    DPO, the same on every machine."""

    gradient_accumulation_steps: int = Field(1, ge=1, le=1_000_000)
    """Rounds per optimiser step.  How a round is cut to fit memory is the engine's business."""

    micro_batch_tokens: Annotated[int, Field(ge=8)] | Literal["auto"] = "auto"
    """Most tokens computed at once.  `auto`: what fits the device's memory."""

    devices: int = Field(1, ge=1, le=1024)
    """How many devices train together, each on its share of every step."""

    learning_rate: float | None = Field(None, gt=0, le=1)
    """Peak learning rate.  Not given: by method and objective."""

    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "cosine"
    """Course of the learning rate; `linear` and `cosine` fall to 0."""

    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0; `constant` has none."""

    optim: Optimiser = "adamw_torch"
    """AdamW with float32 or 8-bit state; the paged forms move state to host memory when the GPU is
    full."""

    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the running mean of gradients."""

    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the running mean of squared gradients."""

    adam_epsilon: float = Field(1e-8, gt=0, le=1)
    """Added to the denominator of the update."""

    weight_decay: float = Field(0.0, ge=0, le=1)
    """Decoupled weight decay, on matrices only: never on biases, norms or embeddings."""

    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm.  0: never."""

    gradient_checkpointing: Recomputation = "auto"
    """Compute activations again in the backward pass to save memory: `none` or `full`.
    `auto`: only where memory asks for it."""

    logging_steps: PositiveInt = 1
    """Steps between two lines of progress."""

    eval_steps: PositiveInt | Literal["epoch"] = "epoch"
    """Steps between two evaluations, or `epoch`."""

    metric_for_best_model: BestBy = "loss"
    """The held-out figure that decides which checkpoint is the best."""

    early_stopping_patience: PositiveInt | None = None
    """Stop after this many evaluations without a better one.  Not given: never."""

    sample_prompts: Questions = ()
    """Questions that are answered at every evaluation, greedily, at most 64 tokens each: one or
    several, at most 8.  Repeat the flag for several."""

    save_steps: PositiveInt | Literal["epoch"] = 200
    """Steps between two checkpoints, or `epoch`.  There is always one at the end."""

    save_total_limit: PositiveInt | None = 2
    """Checkpoints kept besides the best one.  `null`: all."""

    report_to: Tracker = "none"
    """Where to report to besides `events.jsonl` of the run directory, which always holds every
    figure: TensorBoard event files, Weights & Biases, or MLflow."""

    output_dir: str | None = Field(None, min_length=1, max_length=1024)
    """The run directory itself.  Not given: `runs/<date>-<model>-<dataset>`."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Everything random in a run follows from it."""

    deterministic: bool = False
    """Bit-identical repetition on a GPU too, at some cost in speed.  On the CPU it always holds."""

    resume: bool = False
    """Continue the run in `output_dir` from its last good checkpoint."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with the model as it was at step 0."""
        compared = self.objective == "dpo" and self.dpo_loss_type not in REFERENCE_FREE
        return compared or self.objective == "kto"

    @model_validator(mode="before")
    @classmethod
    def _implications(cls, given: Any) -> Any:
        return {**given, **implied(given)} if isinstance(given, Mapping) else given

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, os.PathLike) and info.field_name in PATHS:
            return os.fspath(value)
        takes = BOOLEANS.get(info.field_name or "")
        if isinstance(value, bool) and takes is None:
            raise ValueError(f"{str(value).lower()} is not a value of this setting")
        if takes and not isinstance(value, bool):
            word = {"true": True, "false": False}.get(str(value).lower(), value)
            if not isinstance(word, bool) and word not in takes:
                raise ValueError(f"should be {', '.join(['true', 'false', *takes[1:]])}")
            return word
        return value

    @field_validator("devices", mode="before")
    @classmethod
    def _a_count(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip("+-").isdigit():
            raise ValueError(
                "counts devices, of CUDA where there is one, of the CPU otherwise; "
                "CUDA_VISIBLE_DEVICES= in front of the command chooses the CPU"
            )
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            name = value and codecs.lookup(value).name
        except LookupError:
            raise ValueError("no such encoding; cp1252, utf-16 and gb18030 are some") from None
        if name in _OF_NO_FILE:
            raise ValueError(f"{name} is an encoding of names or literals, not of files of text")
        return name

    @field_validator("eval_split")
    @classmethod
    def _share_or_rows(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("should be a share below 1 or a whole number of rows")
        return value

    @field_validator("output_dir", "model", "dataset", "eval_dataset", mode="after")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        for text in (value,) if isinstance(value, str) else value or ():
            if any(ord(character) < 32 for character in text):
                raise ValueError("control characters, such as a new line, have no place in a path")
        return value

    @model_validator(mode="after")
    def _contradictions(self, info: ValidationInfo) -> Self:
        given = (info.context or {}).get("given", self.model_fields_set)
        if found := contradictions(self.__dict__, given):
            raise ValueError("\n".join(found))
        return self


def _boolean_fields() -> dict[str, tuple[Any, ...]]:
    """Settings that may be true or false, with the words they take besides."""
    found: dict[str, tuple[Any, ...]] = {"gradient_checkpointing": ()}
    for name, field in Settings.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        if bool in kinds:
            words = [word for kind in kinds for word in get_args(kind) if isinstance(word, str)]
            found[name] = ("", *words)
    return found


BOOLEANS = _boolean_fields()
PATHS = frozenset({"model", "chat_template", "output_dir"})

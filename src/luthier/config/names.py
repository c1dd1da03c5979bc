"""Names that other tools give to our settings, and settings of theirs that mean something else here.

An alias is another spelling of one setting.  A foreign setting is translated by a function, or
has nothing to do here; either way it is reported, never skipped in silence.
"""

from collections.abc import Callable, Mapping
from typing import Any

_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "model": ("model_name_or_path", "base_model", "model_name", "model_id", "foundation_model"),
    "revision": ("model_revision",),
    "load_in_4bit": ("use_4bit",),
    "load_in_8bit": ("use_8bit",),
    "bnb_4bit_use_double_quant": ("use_nested_quant", "use_double_quant", "double_quantization"),
    "torch_dtype": ("dtype",),
    "method": ("finetuning_type", "training_type", "train_type"),
    "objective": ("stage", "training_objective"),
    "lora_dim": ("lora_rank", "r", "lora_r", "rank"),
    "lora_target_modules": ("target_modules", "lora_target"),
    "neftune_noise_alpha": ("neftune_alpha",),
    "use_dora": ("lora_use_dora",),
    "use_rslora": ("rslora",),
    "loraplus_lr_ratio": ("lora_plus_ratio", "loraplus_ratio"),
    "modules_to_save": ("additional_target", "lora_modules_to_save"),
    "dpo_beta": ("beta", "pref_beta"),
    "dpo_loss_type": ("loss_type", "pref_loss"),
    "dpo_label_smoothing": ("label_smoothing", "dpo_label_smoothing_factor"),
    "dpo_sft_weight": ("rpo_alpha", "pref_ftx"),
    "kto_desirable_weight": ("desirable_weight", "kto_chosen_weight"),
    "dataset": ("datasets", "dataset_name", "dataset_path", "data", "train_dataset", "train_file"),
    "eval_dataset": ("validation_dataset", "val_dataset", "eval_file", "validation_file"),
    "eval_split": ("val_size", "val_set_size", "validation_split", "eval_ratio"),
    "system_prompt": ("default_system",),
    "seq_length": (
        "max_seq_length",
        "max_length",
        "max_seq_len",
        "sequence_len",
        "cutoff_len",
        "model_max_length",
    ),
    "num_train_epochs": ("epochs", "num_epochs", "n_epochs"),
    "per_device_train_batch_size": ("batch_size", "per_device_batch_size", "micro_batch_size"),
    "gradient_accumulation_steps": ("grad_accum", "accumulation_steps"),
    "devices": ("num_gpus", "nproc_per_node", "num_devices"),
    "learning_rate": ("lr",),
    "lr_scheduler_type": ("lr_scheduler", "scheduler"),
    "optim": ("optimizer", "optimiser"),
    "adam_epsilon": ("adam_eps",),
    "max_grad_norm": ("gradient_clipping", "clip_grad_norm"),
    "gradient_checkpointing": ("activation_checkpointing",),
    "early_stopping_patience": ("patience",),
    "output_dir": ("output_path",),
    "seed": ("random_seed",),
    "resume": ("resume_from_checkpoint",),
}

ALIASES = {alias: name for name, aliases in _SPELLINGS.items() for alias in aliases}


class ForeignError(Exception):
    """A setting of another tool asks for something that is refused; the message says why."""


Translation = tuple[dict[str, object], str]  # settings of ours, and the sentence that reports it


def truth(value: object) -> bool:
    """True and false as they are written in files and on command lines."""
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ForeignError("should be true or false")


def _says(sentence: str) -> Callable[[object], Translation]:
    return lambda value: ({}, sentence)


def _dtype(dtype: str) -> Callable[[object], Translation]:
    def translate(value: object) -> Translation:
        if truth(value):
            return {"torch_dtype": dtype}, f"means torch_dtype: {dtype}"
        return {}, "torch_dtype decides the precision"

    return translate


def _compute_dtype(value: object) -> Translation:
    dtype = str(value).removeprefix("torch.")
    return {"torch_dtype": dtype}, f"means torch_dtype: {dtype}"


def _remote_code(value: object) -> Translation:
    if truth(value):
        raise ForeignError("a model's own code is never run: it could do anything on this machine")
    return {}, "code of models is never run"


def _bias(value: object) -> Translation:
    if value != "none":
        raise ForeignError("biases stay as they are beside an adapter; only `none` is possible")
    return {}, "biases are never trained beside an adapter"


def _text_field(value: object) -> Translation:
    if value == "text":
        return {}, "the format of rows is recognised from their names"
    return {"columns": {"text": value}}, f"means columns: {{text: {value}}}"


def _strategy(setting: str) -> Callable[[object], Translation]:
    def translate(value: object) -> Translation:
        if value == "epoch":
            return {setting: "epoch"}, f"means {setting}: epoch"
        return {}, f"{setting} decides"

    return translate


def _warmup_steps(value: Any) -> Translation:
    try:
        share = float(value)
    except (TypeError, ValueError):
        raise ForeignError("should be a number") from None
    if share >= 1:
        raise ForeignError(
            "warm-up is a share of the steps here: warmup_ratio = warmup_steps / steps"
        )
    return {"warmup_ratio": share}, f"means warmup_ratio: {share:g}"


def _on_inputs(value: object) -> Translation:
    part = "all" if truth(value) else "assistant"
    return {"train_on": part}, f"means train_on: {part}"


def _answers_only(value: object) -> Translation:
    return _on_inputs(not truth(value))


def _bits(value: object) -> Translation:
    if str(value) not in ("4", "8"):
        raise ForeignError("4 and 8 bits are possible")
    return {f"load_in_{value}bit": True}, f"means load_in_{value}bit: true"


_PADDING = "nothing is padded here"
_LOADING = "rows are read and tokenised once, before the first step"

FOREIGN: Mapping[str, Callable[[object], Translation]] = {
    "assistant_only_loss": _answers_only,
    "bf16": _dtype("bfloat16"),
    "bias": _bias,
    "bnb_4bit_compute_dtype": _compute_dtype,
    "completion_only_loss": _answers_only,
    "dataloader_num_workers": _says(_LOADING),
    "dataloader_pin_memory": _says(_LOADING),
    "dataset_num_proc": _says(_LOADING),
    "dataset_text_field": _text_field,
    "device_map": _says("devices decides where the model goes"),
    "do_eval": _says("eval_dataset or eval_split decides"),
    "do_train": _says("luthier train trains"),
    "eval_strategy": _strategy("eval_steps"),
    "evaluation_strategy": _strategy("eval_steps"),
    "fp16": _dtype("float16"),
    "gradient_checkpointing_kwargs": _says("gradient_checkpointing is enough"),
    "group_by_length": _says(f"{_PADDING}, so there is nothing to group"),
    "load_best_model_at_end": _says("the best checkpoint is always kept"),
    "logging_dir": _says("events.jsonl in the run directory holds every figure"),
    "logging_strategy": _says("logging_steps decides"),
    "max_prompt_length": _says("seq_length and truncation decide"),
    "overwrite_output_dir": _says("nothing is ever overwritten; resume: true continues a run"),
    "packing": _says("sequences are always packed, without seeing each other"),
    "padding_side": _says(_PADDING),
    "per_device_eval_batch_size": _says("the result of an evaluation does not depend on its batch"),
    "pretraining_tp": _says("devices decides how work is shared"),
    "quantization_bit": _bits,
    "remove_unused_columns": _says(_LOADING),
    "save_strategy": _strategy("save_steps"),
    "task_type": _says("every model here is a causal language model"),
    "tf32": _says("torch_dtype decides the precision"),
    "train_on_inputs": _on_inputs,
    "trust_remote_code": _remote_code,
    "use_cache": _says("training needs no cache, chat always has one"),
    "warmup_steps": _warmup_steps,
}

FOREIGN_BOOLEANS = frozenset(
    [
        "assistant_only_loss",
        "bf16",
        "completion_only_loss",
        "dataloader_pin_memory",
        "do_eval",
        "do_train",
        "fp16",
        "group_by_length",
        "load_best_model_at_end",
        "overwrite_output_dir",
        "packing",
        "remove_unused_columns",
        "tf32",
        "train_on_inputs",
        "trust_remote_code",
        "use_cache",
    ]
)


def unused(name: str, value: object) -> str | None:
    """A sentence for a value of one of our settings that other tools use to say "not set"."""
    if name == "max_steps" and str(value) == "-1":
        return "max_steps: -1 means num_train_epochs decides"
    return None

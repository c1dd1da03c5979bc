"""The model card of a result: what it was made from, how, and what was measured."""

from collections.abc import Mapping
from typing import Any

from luthier.config.settings import Settings

_SHOWN = (
    "method",
    "objective",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "seq_length",
    "lora_dim",
    "lora_alpha",
    "lora_dropout",
    "dpo_beta",
    "lr_scheduler_type",
    "warmup_ratio",
    "optim",
    "weight_decay",
    "max_grad_norm",
    "load_in_4bit",
    "load_in_8bit",
    "torch_dtype",
    "seed",
)
_ONLY = {"lora_dim": "lora", "lora_alpha": "lora", "lora_dropout": "lora", "dpo_beta": "dpo"}


def card(
    settings: Settings,
    *,
    base: str,
    version: str,
    data: Mapping[str, Any],
    history: Mapping[str, Any],
) -> str:
    """Markdown with a front matter that hubs read.

    Args:
        base: What the base model is called.
        data: The content of `data.json`.
        history: Held-out means by moment: before, best, last.
    """
    what = "an adapter for" if settings.method != "full" else "a fine-tuned copy of"
    lines = ["---", f"base_model: {base}", "library_name: luthier", "---", ""]
    lines += [f"# {base}, fine-tuned", "", f"This is {what} {base}, made by luthier {version}."]
    lines += ["", "## Training", "", "| setting | value |", "|---|---|"]
    for name in _SHOWN:
        only = _ONLY.get(name)
        relevant = only is None or only in (settings.objective, settings.method.removeprefix("q"))
        value = getattr(settings, name)
        if relevant and value is not None:
            lines.append(f"| `{name}` | {value} |")
    lines += ["", "## Data", ""]
    for part, report in data.items():
        rows = report.get("used", report.get("rows", "?"))
        lines.append(f"- {part}: {rows} rows")
    if history:
        names = [name for name in ("before", "best", "last") if name in history]
        lines += ["", "## Held-out figures", "", f"| | {' | '.join(names)} |"]
        lines.append("|---" * (len(names) + 1) + "|")
        for metric in sorted(history[names[0]]):
            cells = [f"{history[name].get(metric, float('nan')):.4f}" for name in names]
            lines.append(f"| {metric} | {' | '.join(cells)} |")
    lines += ["", "The licence of the base model applies, and the terms of the data.", ""]
    return "\n".join(lines)

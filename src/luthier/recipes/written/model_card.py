"""The model card of a result: what it was made from, how, and what was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from luthier.config.settings import Settings
from luthier.gallery import find_model

Kind = Literal["adapter", "merged", "model", "gguf", "ollama"]

_SHOWN = (
    "method", "objective", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "devices", "seq_length", "train_on", "lora_dim", "lora_alpha", "lora_dropout",
    "lora_target_modules", "dpo_beta", "dpo_loss_type", "dpo_sft_weight", "lr_scheduler_type", "warmup_ratio", "optim",
    "weight_decay", "max_grad_norm", "load_in_4bit", "load_in_8bit", "torch_dtype", "seed",
)  # fmt: skip
_WHAT: dict[Kind, str] = {
    "adapter": "This is an adapter for {base}",
    "merged": "This is {base} with an adapter merged into it",
    "model": "This is {base}, every weight of it trained further",
}


def card(
    *,
    kind: Kind,
    base: str,
    version: str,
    settings: Settings | None = None,
    data: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
    notes: Mapping[str, str] | None = None,
    proof: Sequence[str] = (),
) -> str:
    """Markdown with a front matter that hubs read.

    Args:
        kind: What lies beside the card.
        base: What the base model is called; of a folder only its name is written.
        version: Of luthier.
        settings: Of the training, if it is known.
        data: The content of `data.json`.
        history: Held-out means by moment: before, best, last.
        notes: Further facts, such as what was measured when merging.
        proof: What others read of the folder, a line each.
    """
    shown = Path(base).name if Path(base).is_absolute() else base
    known = find_model(base)
    licence = known.licence if known else "see the base model"
    library = "peft" if kind == "adapter" else "transformers"
    lines = [
        "---",
        f"base_model: {shown}",
        f"library_name: {library}",
        "tags: [luthier]",
        "---",
        "",
    ]
    lines += [f"# {shown}, fine-tuned", ""]
    lines += [f"{_WHAT[kind].format(base=shown)}, made by luthier {version}.", ""]
    lines += ["| | |", "|---|---|", f"| base model | {shown} |", f"| its licence | {licence} |"]
    lines += [f"| {name} | {text} |" for name, text in (notes or {}).items()]
    if settings is not None:
        lines += ["", "## Training", "", "| setting | value |", "|---|---|", *_settings(settings)]
    if data:
        lines += ["", "## Data", "", *(_rows(part, report) for part, report in data.items())]
    if history:
        lines += ["", "## Held-out figures", "", *_figures(history)]
    if proof:
        lines += ["", "## Opened by others", "", *(f"- {line}" for line in proof)]
    lines += ["", "The licence of the base model applies, and the terms of the data.", ""]
    return "\n".join(lines)


def _settings(settings: Settings) -> list[str]:
    kinds = {settings.objective, settings.method.removeprefix("q")}
    shown = []
    for name in _SHOWN:
        group = next((kind for kind in ("lora", "dpo") if name.startswith(f"{kind}_")), None)
        value = getattr(settings, name)
        if (group is None or group in kinds) and value is not None:
            shown.append(f"| `{name}` | {_plain(value)} |")
    return shown


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _rows(part: str, report: Mapping[str, Any]) -> str:
    rows = report.get("rows", "?")
    if not isinstance(rows, Mapping):
        return f"- {part}: {rows} rows"
    used = f"- {part}: {rows['used']:,} of {rows['read']:,} rows"
    return used + (f", {rows['cut']:,} of them cut" if rows.get("cut") else "")


def _figures(history: Mapping[str, Any]) -> list[str]:
    names = [name for name in ("before", "best", "last") if name in history]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for metric in sorted(history[names[0]]):
        cells = [f"{history[name].get(metric, float('nan')):.4f}" for name in names]
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    losses = [history.get(name, {}).get("loss") for name in ("before", "best")]
    if None not in losses and losses[0] < losses[1]:
        lines += ["", "The loss before training was lower than at every evaluation since."]
    return lines

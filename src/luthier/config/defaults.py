"""Defaults that depend on the method, the objective or the data: a value and its reason.

Whatever is `None` or `auto` in the settings and needs no knowledge of memory is decided here and
nowhere else.
"""

from typing import Literal

Method = Literal["lora", "qlora", "full"]
Objective = Literal["sft", "dpo", "kto", "text"]

LARGE = 30_000_000_000
SMALL = 1_000_000_000
SAMPLES_PER_STEP = {"sft": 16, "text": 16, "dpo": 8, "kto": 16}
MIN_STEPS_PER_EPOCH = 10


def learning_rate_default(
    method: Method,
    objective: Objective,
    *,
    from_scratch: bool = False,
    num_params: int | None = None,
) -> tuple[float, str]:
    """Peak learning rate and why.

    Args:
        method: What is trained.
        objective: What is learned.
        from_scratch: Whether the weights are random at first.
        num_params: Parameters of the base model, where known.

    Source: QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, table 9): 2e-4, and 1e-4
    from 33B; Llama 2 (Touvron et al. 2023, https://arxiv.org/abs/2307.09288, section 3.1): 2e-5;
    DPO (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, appendix B): 1e-6; Zephyr
    (https://github.com/huggingface/alignment-handbook, recipes/zephyr-7b-beta): 5e-6 for DPO of a
    QLoRA; LoRA without regret (Schulman et al. 2025, https://thinkingmachines.ai/blog/lora):
    adapters want about ten times the rate of full-parameter training.
    """
    size = num_params or 0
    if from_scratch:
        return 1e-3, "random weights of a small model take large steps"
    if objective in ("dpo", "kto"):
        name = objective.upper()
        if method == "full":
            return 1e-6, f"{name} of every weight: as in the DPO paper"
        if 0 < size < SMALL:
            return 2e-5, f"{name} of an adapter on a base below 1B parameters"
        return 5e-6, f"{name} of an adapter: as published for DPO of Zephyr-7B"
    if method == "full":
        if size >= LARGE:
            return 1e-5, "every weight of a base of 30B parameters or more: half of Llama 2's 2e-5"
        return 2e-5, "every weight: as in Llama 2's own fine-tuning"
    if size >= LARGE:
        return 1e-4, "an adapter on a base of 30B parameters or more: QLoRA paper, table 9"
    return 2e-4, "an adapter: QLoRA paper, table 9, ten times what every weight would take"


def num_train_epochs_default(objective: Objective) -> tuple[float, str]:
    """Passes over the data and why."""
    if objective == "sft":
        return 3.0, "answers are learned in three passes; held-out loss says whether fewer do"
    if objective in ("dpo", "kto"):
        return 1.0, "preferences are overfitted from the second pass on"
    return 1.0, "plain text is read once"


def lora_alpha_default(lora_dim: int) -> tuple[float, str]:
    """Numerator of the adapter's scale and why."""
    return float(lora_dim), "equal to lora_dim, so that the adapter's scale is 1"


def per_device_batch_default(
    objective: Objective, *, num_samples: int, accumulation: int = 1, devices: int = 1
) -> tuple[int, str]:
    """Samples per device and accumulation round and why; memory has no say in it.

    Args:
        objective: 16 samples a step for SFT and text, 8 pairs for DPO, to begin with.
        num_samples: Training samples; halves the step until an epoch has at least 10 of them.
        accumulation: Rounds per step.
        devices: Devices that share a step.
    """
    wanted = SAMPLES_PER_STEP[objective]
    kind = "pairs" if objective == "dpo" else "samples"
    reason = f"{wanted} {kind} a step for {objective}"
    step = wanted
    while step > 1 and num_samples < step * MIN_STEPS_PER_EPOCH:
        step //= 2
    if step < wanted:
        reason = (
            f"{step} {kind} a step, so that {num_samples} make at least {num_samples // step} steps"
        )
    return max(1, step // (accumulation * devices)), reason

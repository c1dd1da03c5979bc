"""Where the rules are from."""

from typing import NamedTuple


class Source(NamedTuple):
    """A paper, a guide, or a measurement of ours, and where to read it."""

    title: str
    where: str


SOURCES = {
    "lora": Source("LoRA, Hu et al. 2021", "https://arxiv.org/abs/2106.09685, section 7"),
    "qlora": Source("QLoRA, Dettmers et al. 2023", "https://arxiv.org/abs/2305.14314, section 4"),
    "dpo": Source("DPO, Rafailov et al. 2023", "https://arxiv.org/abs/2305.18290, appendix B"),
    "zephyr": Source("Zephyr, Tunstall et al. 2023", "https://arxiv.org/abs/2310.16944, section 4"),
    "less": Source(
        "LoRA Learns Less and Forgets Less, Biderman et al. 2024",
        "https://arxiv.org/abs/2405.09673, sections 4 and 5",
    ),
    "regret": Source(
        "LoRA Without Regret, Schulman et al. 2025", "https://thinkingmachines.ai/blog/lora"
    ),
    "tinker": Source(
        "Tinker cookbook, get_lr",
        "https://github.com/thinking-machines-lab/tinker-cookbook, hyperparam_utils.py",
    ),
    "chinese_llama": Source(
        "Chinese LLaMA, Cui et al. 2023", "https://arxiv.org/abs/2304.08177, section 2"
    ),
    "length": Source(
        "Disentangling Length from Quality in DPO, Park et al. 2024",
        "https://arxiv.org/abs/2403.19159, section 3",
    ),
    "lima": Source("LIMA, Zhou et al. 2023", "https://arxiv.org/abs/2305.11206, section 2"),
    "pai": Source(
        "Hosted fine-tuning guides",
        "epochs 2 to 10, alpha 0.5 to 2 times the rank, dpo_beta 0.1 to 0.5",
    ),
    "luthier": Source("luthier, measured", "docs/advisor.md, bench/advisor"),
    "plan": Source("luthier, this machine", "the memory formulas of luthier.planner"),
    "data": Source("luthier, this data", "counted with the model's own tokenizer and template"),
}
"""By key: what the rules cite."""

"""A pair whose sides begin with different turns."""

from luthier.data.doctor.rule import BadRowRule


class PairPromptsDiffer(BadRowRule):
    """A pair whose sides begin with different turns."""

    code = "pair-prompts-differ"
    title = "the sides of a pair answer different prompts"
    why = "DPO compares two answers to one prompt; with two prompts it learns to prefer a question"
    example = {
        "chosen": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
        "rejected": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "4"}],
    }
    fix = "begin both sides with the same turns"

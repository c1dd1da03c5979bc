"""A row that the objective does not learn from."""

from luthier.data.doctor.rule import BadRowRule


class ObjectiveMismatch(BadRowRule):
    """A row that the objective does not learn from."""

    code = "objective-mismatch"
    title = "rows of another objective"
    why = "a run stops at these rows before it begins"
    example = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
    fix = "--objective dpo for pairs, --objective sft for conversations, --objective text for texts"

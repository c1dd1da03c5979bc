"""A pair whose two answers are the same."""

from luthier.data.doctor.rule import BadRowRule


class ChosenEqualsRejected(BadRowRule):
    """A pair whose two answers are the same."""

    code = "chosen-equals-rejected"
    title = "chosen and rejected are the same"
    why = "the gradient of such a pair is zero: it costs two forward passes and teaches nothing"
    example = {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "4"}
    fix = "luthier data fix FILE --output NEW drops these rows; or write an answer that is worse"

"""When a plan says no: the error, and the way to train all the same."""

from luthier.errors import CapacityError
from luthier.planner.plan import Plan
from luthier.units import format_bytes

IGNORE = "--ignore-plan"
"""The flag with which a run starts although its plan says that it does not fit."""


def does_not_fit(plan: Plan) -> CapacityError:
    """The error of a run that its device cannot hold."""
    part, size = max(plan.parts.items(), key=lambda item: item[1])
    first = next((change for change in plan.changes if "device" not in change.settings), None)
    fix = f"{IGNORE} trains all the same"
    if first is not None:
        fix = f"{as_flags(first.settings)}   (or, to train all the same: {IGNORE})"
    elif plan.changes:
        fix = f"a larger device: {plan.changes[0].settings['device']}; or: {IGNORE}"
    return CapacityError(
        f"this run needs {format_bytes(plan.peak_bytes)}, "
        f"{plan.device.name} has {format_bytes(plan.device.memory_bytes)}",
        why=f"the peak is in {plan.peak_where}; the largest part is {part}, {format_bytes(size)}",
        fix=fix,
    )


def as_flags(settings: dict[str, object]) -> str:
    """Settings as words of a command line."""
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in settings.items()
    }
    return " ".join(f"--{name} {text}" for name, text in texts.items())

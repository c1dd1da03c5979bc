"""A turn of somebody whose role is not known."""

from luthier.data.doctor.rule import BadRowRule


class RoleUnknown(BadRowRule):
    """A turn of somebody whose role is not known."""

    code = "role-unknown"
    title = "a role that is not known"
    why = "who speaks decides what is learned, and it is not guessed"
    example = {
        "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "teacher", "content": "4"}]
    }
    fix = "columns: {assistant_role: NAME} says that a role is the assistant"

"""How many sample answers the environment asks for; looked at before torch is loaded."""

import os

from luthier.errors import EnvironmentVariableError

VARIABLE = "LUTHIER_SAMPLES"
MOST = 8


def wanted() -> int:
    """How many samples are asked for.

    Raises:
        EnvironmentVariableError: The variable holds no number from 0 to 8.
    """
    text = os.environ.get(VARIABLE, "0")
    if text.isdigit() and int(text) <= MOST:
        return int(text)
    raise EnvironmentVariableError(
        f"{VARIABLE}={text[:100]!r} is not a number of samples",
        why=f"it is a whole number from 0 to {MOST}",
        fix=f"unset {VARIABLE}",
    )

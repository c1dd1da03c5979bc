"""Whether results are opened by others before they are published; light, so that junk is refused early."""

import os

from luthier.errors import EnvironmentVariableError

SKIP = "LUTHIER_NO_PROOF"
"""Set to 1 in the environment, a result is published without being opened by transformers first."""


def skips_proof() -> bool:
    """Whether the environment asks to leave the proof out.

    Raises:
        EnvironmentVariableError: The variable holds something else than yes or no.
    """
    said = os.environ.get(SKIP, "").strip().lower()
    if said not in ("1", "true", "yes", "", "0", "false", "no"):
        raise EnvironmentVariableError(
            f"{SKIP}={said[:40]!r} means neither yes nor no",
            why="1 publishes a result without opening it in transformers; 0 opens it, as without it",
            fix=f"unset {SKIP}",
        )
    return said in ("1", "true", "yes")

"""Optional parts: named with the command that installs them before anything fails without them."""

import importlib.util

from luthier.errors import MissingExtraError


def require_serve() -> None:
    """Whether the service can run here.

    Raises:
        MissingExtraError: A package of the `[serve]` extra is missing.
    """
    needed = ("fastapi", "uvicorn", "python_multipart")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"luthier serve needs {', '.join(missing)}",
            why="the service is an extra, so that training alone stays small",
            fix="pip install 'luthier[serve]'",
        )


def require_gguf() -> None:
    """Whether GGUF files can be written here.

    Raises:
        MissingExtraError: The package of the `[export]` extra is missing.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(
            "an export to GGUF needs the package gguf",
            why="the container of llama.cpp's files is an extra, so that training alone stays small",
            fix="pip install 'luthier[export]'",
        )

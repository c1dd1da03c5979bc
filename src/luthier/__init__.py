"""luthier fine-tunes large language models: `luthier.train(...)`, `luthier.load(...)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luthier.errors import LuthierError
    from luthier.recipes.api import Run, load, train

    __version__: str

__all__ = ["LuthierError", "Run", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that light parts stay free of torch."""
    if name not in __all__:
        raise AttributeError(f"module 'luthier' has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("luthier")
    from importlib import import_module

    home = "luthier.errors" if name == "LuthierError" else "luthier.recipes.api"
    return getattr(import_module(home), name)

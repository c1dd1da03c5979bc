"""The one door to bitsandbytes.

On a CPU with bfloat16 instructions bitsandbytes (0.49 to 0.50, backends/cpu/ops.py) looks for a
kernel on a hub while it is imported: a network access, which offline ends in a warning and behind
some firewalls in a long wait.  The kernel serves inference of its own layers, which luthier does
not use, so for the time of the import the package that would fetch it counts as absent.
"""

import importlib
import logging
import sys
from types import ModuleType
from typing import Any

from luthier.errors import MissingExtraError

_FETCHER = "kernels"  # the package bitsandbytes would fetch with
_ABSENT = object()


def bitsandbytes() -> Any:
    """The package, imported without network access and without its warning about that.

    Raises:
        MissingExtraError: bitsandbytes cannot be imported here.
    """
    loaded = sys.modules.get("bitsandbytes")
    if isinstance(loaded, ModuleType) and hasattr(loaded, "functional"):
        return loaded
    before: Any = sys.modules.get(_FETCHER, _ABSENT)
    sys.modules[_FETCHER] = None  # type: ignore[assignment]  # the interpreter's own mark for "absent"
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.addFilter(_not_about_fetching)
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise MissingExtraError(
            f"bitsandbytes cannot be imported: {error}",
            why="quantised bases and 8-bit or paged optimisers are made with it",
            fix="pip install bitsandbytes",
        ) from error
    finally:
        logger.removeFilter(_not_about_fetching)
        if before is _ABSENT:
            del sys.modules[_FETCHER]
        else:
            sys.modules[_FETCHER] = before


def _not_about_fetching(record: logging.LogRecord) -> bool:
    return "kernels-community" not in record.getMessage()

"""Data sets named by a hub id, `owner/name`: fetched once into the local cache, then plain files."""

import importlib
import re
from pathlib import Path

from luthier.errors import FileAccessError, MissingExtraError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATTERNS = [
    "*.parquet",
    "*.json",
    "*.jsonl",
    "*.jsonl.gz",
    "*.json.gz",
    "*.csv",
    "*.tsv",
    "*.txt",
    "*.arrow",
]


def is_hub_id(name: str) -> bool:
    """Whether a name that is no path here has the form of a hub id."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).parts[0].startswith(".")


def fetch(name: str) -> Path:
    """The folder with the data files of a hub data set, downloaded where it is not cached.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        FileAccessError: It cannot be fetched; one sentence says why.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtraError(
            f"{name} is not a file here, and to fetch it from the hub huggingface_hub is needed",
            why="fetching data sets is an optional feature",
            fix="pip install 'luthier[hub]', or give the path of a file",
        ) from error
    try:
        return Path(hub.snapshot_download(name, repo_type="dataset", allow_patterns=_PATTERNS))
    except (OSError, ValueError, RuntimeError) as error:  # what huggingface_hub raises, by its base
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise FileAccessError(
            f"{name} is not a file here and cannot be fetched from the hub",
            why=f"{type(error).__name__}: {reason}",
            fix=f"check the name and the connection, or download it: hf download --repo-type dataset {name}",
        ) from error

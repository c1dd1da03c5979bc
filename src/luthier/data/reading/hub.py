"""Data sets named by a hub id, `owner/name`: fetched once into the local cache, then plain files."""

import importlib
import re
from pathlib import Path

from luthier.errors import FileAccessError, MissingExtraError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATTERNS = ["*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "*.json.gz", "*.csv"]


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


def choose_split(name: str, files: list[Path]) -> list[Path]:
    """The files to train on: those with `train` in the name, else all but test and validation.

    Raises:
        FileAccessError: Every file is held out by its name.
    """
    if train := [file for file in files if "train" in file.name.lower()]:
        return train
    held_out = ("test", "valid", "eval", "dev")
    kept = [file for file in files if not any(word in file.name.lower() for word in held_out)]
    if not kept:
        raise FileAccessError(
            f"{name} has only held-out files: {', '.join(file.name for file in files[:5])}",
            why="files named test, valid, eval or dev are not trained on unless named themselves",
            fix=f"--dataset {files[0]}",
        )
    return kept

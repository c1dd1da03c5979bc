"""Models at hand under a name: those that were pulled, and folders that were added.

One small file a name below `LUTHIER_HOME/models/registry`; the weights are where it says.
"""

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from luthier.bounded import decode
from luthier.durable import make_folders, write_atomic
from luthier.errors import ModelError, ModelNotFoundError, RunExistsError
from luthier.gallery.catalogue import find_model
from luthier.runs.place import home

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
RESERVED = ("starter",)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model at hand.

    Args:
        name: What it is called: a gallery name, a hub id, or the name it was added under.
        kind: Fetched by luthier, or a folder of the user's.
        hub: Its hub id, where known.
        revision: The commit it was pulled at.
        num_bytes: Of its files, when it was registered.
    """

    name: str
    path: Path
    kind: Literal["pulled", "added"]
    hub: str | None = None
    revision: str | None = None
    num_bytes: int = 0

    @property
    def there(self) -> bool:
        """Whether the folder is still where it was."""
        return (self.path / "config.json").is_file()


def models_folder() -> Path:
    """Where pulled models are put."""
    return home() / "models"


def local_models() -> list[LocalModel]:
    """Every model at hand, by name; those whose folder is gone are among them."""
    folder = _registry()
    if not folder.is_dir():
        return []
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def find_local(name: str) -> LocalModel | None:
    """The model at hand of this gallery name, hub id or added name, upper and lower case alike."""
    if not _NAME.fullmatch(name):
        return None
    known = find_model(name)
    keys = [name, *((known.name, known.hub) if known else ())]
    for key in keys:
        if key and (path := _registry() / f"{_slug(key)}.json").is_file():
            return _read(path)
    return None


def add(
    folder: Path,
    name: str,
    *,
    kind: Literal["pulled", "added"] = "added",
    hub: str | None = None,
    revision: str | None = None,
) -> LocalModel:
    """Give a folder a name.  What is in it is for the caller to check: `models.at_hand` does.

    Raises:
        ModelError: The name is none, or taken by another folder of the user's.
    """
    check_free(folder, name)
    path = folder.resolve()
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    model = LocalModel(name, path, kind, hub, revision, size)
    body = asdict(replace(model, path=path)) | {"path": str(path)}
    make_folders(_registry())
    write_atomic(_registry() / f"{_slug(name)}.json", json.dumps(body, indent=1) + "\n")
    return model


def check_free(folder: Path, name: str) -> None:
    """Refuse a name that cannot be given to this folder.

    Raises:
        ModelError: It is no name, reserved, or another folder's.
        RunExistsError: The same name is a folder of the user's elsewhere.
    """
    if not _NAME.fullmatch(name) or name.lower() in RESERVED:
        raise ModelError(
            f"{name[:200]!r} cannot be the name of a model",
            why="letters, digits, . _ and -, with at most one /; starter is taken",
            fix="--name my-model",
        )
    taken = find_local(name)
    if (
        taken is not None
        and taken.there
        and taken.path != folder.resolve()
        and taken.kind == "added"
    ):
        raise RunExistsError(
            f"{name} is already {taken.path}",
            why="a name means one folder",
            fix=f"choose another name, or: luthier gallery forget {name}",
        )


def forget(name: str) -> LocalModel:
    """Take a name away; the folder stays as it is.

    Raises:
        ModelNotFoundError: There is no such name.
    """
    model = find_local(name)
    if model is None:
        raise ModelNotFoundError(
            f"no model at hand is called {name[:200]!r}",
            why="those that were pulled or added are",
            fix="luthier gallery list --local",
        )
    (_registry() / f"{_slug(model.name)}.json").unlink()
    return model


def _registry() -> Path:
    return models_folder() / "registry"


def _slug(name: str) -> str:
    return name.lower().replace("/", "@")  # a sign that no name has


def _read(path: Path) -> LocalModel:
    try:
        body = decode(path.read_text("utf-8"))
        return LocalModel(**{**body, "path": Path(body["path"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path} does not say where a model is",
            why=f"{type(error).__name__}: {str(error)[:120]}",
            fix=f"rm '{path}', then pull or add the model again",
        ) from error

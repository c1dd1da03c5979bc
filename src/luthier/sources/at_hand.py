"""Bringing models to this machine: pull one from a hub, or give a folder a name.  No torch.

Both are looked at before they get a name: the config makes a model that is trained here, the weights
are safetensors that agree with their index, and there is a tokenizer.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from luthier.data.limited.opening import open_folder
from luthier.durable import looks_complete, read_manifest
from luthier.errors import HubError, ModelError, ModelNotFoundError, RunExistsError, TokenizerError
from luthier.gallery import GalleryModel, find_model
from luthier.sources.check import check_tokenizer_fits, read_config
from luthier.sources.download import Fetcher, Progress, discard
from luthier.sources.http import Client
from luthier.sources.hub import (
    MODELSCOPE,
    hub_endpoint,
    hub_token,
    list_hub,
    list_modelscope,
    modelscope_id,
)
from luthier.sources.local import LocalModel, add, check_free, find_local, models_folder
from luthier.sources.weights import find_weights

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_CACHED = ("*.json", "*.safetensors", "tokenizer*", "merges.txt", "*.jinja")
TIMEOUT_S = 30.0


def pull(
    name: str,
    *,
    to: Path | None = None,
    revision: str | None = None,
    mirror: str | None = None,
    modelscope: bool = False,
    timeout_s: float = TIMEOUT_S,
    pause_s: float = 1.0,
    progress: Progress | None = None,
) -> LocalModel:
    """Fetch a model from a hub and register it; a complete one is not fetched again.

    Args:
        name: A gallery name or a hub id.
        to: The folder it becomes; otherwise one below `LUTHIER_HOME/models`.
        revision: Branch, tag or commit.
        mirror: Address of a hub that speaks the same protocol; `HF_ENDPOINT` does the same.
        modelscope: Ask ModelScope instead.
        timeout_s: Longest silence of the hub.
        pause_s: Before the second try; doubled for each further one.
        progress: Told of each piece.

    Raises:
        ModelNotFoundError: No such model; the nearest names of the gallery are given.
        HubError: The hub fails; what came is kept, and the next call goes on there.
        DiskFullError, DamagedWeightsError, UnsafeWeightsError, ModelError: As they say.
    """
    known = find_model(name)
    hub = _hub_id(name, known)
    if modelscope:
        client = Client(MODELSCOPE if mirror is None else mirror, timeout_s=timeout_s)
        listing, asked = list_modelscope, modelscope_id(hub)
    else:
        client = Client(hub_endpoint(mirror), token=hub_token(), timeout_s=timeout_s)
        listing, asked = list_hub, hub
    final = to.expanduser().absolute() if to is not None else None
    _check_target(final)
    fetcher = Fetcher(client, pause_s=pause_s, progress=progress or _silent)
    model = fetcher.ask(lambda: listing(client, asked, revision))
    if final is None:
        final = models_folder() / hub.replace("/", "--") / model.revision[:12]

    _check_same(final, hub, model.revision)

    def inspect(folder: Path) -> None:
        _check_text(folder, known, called=f"what {client.host} sends as {hub}")

    fetcher.fetch(model, final, inspect)
    try:
        find_weights(final)
    except ModelError:
        discard(final)
        raise
    return add(final, known.name if known else hub, kind="pulled", hub=hub, revision=model.revision)


def add_folder(folder: Path, name: str | None = None) -> LocalModel:
    """Give a model folder a name, by which every command finds it; nothing is copied.

    Args:
        name: Otherwise that of the folder.  A name of the gallery is for a copy of that model.

    Raises:
        ModelError: And its kinds, for a folder that is no model, or a name that is taken.
        TokenizerError: It has no tokenizer, or one that does not fit.
    """
    path = folder.expanduser().absolute()
    if not path.is_dir():
        raise ModelNotFoundError(
            f"{folder} is no folder",
            why="a model is a folder with config.json, *.safetensors and a tokenizer",
            fix="luthier gallery add PATH/TO/FOLDER",
        )
    called = name or path.name
    check_free(path, called)
    known = find_model(called)
    config = _check_text(path, known, called=str(folder))
    find_weights(path)
    rows = config.get("vocab_size")
    if isinstance(rows, int):
        check_tokenizer_fits(open_folder(path).vocab_size, rows)
    return add(path, known.name if known else called, hub=known.hub if known else None)


def fetch(hub: str, revision: str | None, *, progress: Progress | None = None) -> Path:
    """The folder of a hub id: at hand, in the cache of other tools, or fetched now.

    Raises:
        ModelError: And its kinds, as `pull`.
    """
    if (found := cached(hub, revision)) is not None:
        return found
    try:
        return pull(hub, revision=revision, progress=progress).path
    except HubError as error:
        raise ModelNotFoundError(
            f"{hub} cannot be fetched from the hub: {error.what}",
            why=error.why,
            fix=f"{error.fix}; or give a local folder",
        ) from error


def cached(hub: str, revision: str | None) -> Path | None:
    """Where a hub id is on this machine, without a look at the hub; None if it is not."""
    held = find_local(hub)
    if held is not None and held.there and (revision is None or held.revision == revision):
        return held.path
    try:
        library = import_module("huggingface_hub")
    except ImportError:  # then nothing of other tools can be found through it either
        return None
    try:
        found = Path(
            library.snapshot_download(
                hub, revision=revision, local_files_only=True, allow_patterns=list(_CACHED)
            )
        )
        find_weights(found)
    except (OSError, ValueError):  # not there; or broken off, and a ModelError is a ValueError
        return None
    return found if (found / "config.json").is_file() else None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer of its own."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _hub_id(name: str, known: GalleryModel | None) -> str:
    if known is None:
        return name
    if known.hub is None:
        raise ModelNotFoundError(
            f"{known.name} is not on a hub",
            why="it ships inside of luthier",
            fix=f"use it as it is: --model {known.name}",
        )
    return known.hub


def _check_target(final: Path | None) -> None:
    if final is None or looks_complete(final):
        return
    if final.is_file() or (final.is_dir() and any(final.iterdir())):
        raise RunExistsError(
            f"{final} is there already, and is no model that was pulled",
            why="nothing is overwritten",
            fix="--to a folder that does not exist yet",
        )
    if final.is_dir():
        final.rmdir()  # an empty folder, made in advance


def _check_same(final: Path, hub: str, revision: str) -> None:
    """Refuse a folder that holds another model, or the same one at another revision."""
    if not looks_complete(final):
        return
    record = read_manifest(final)["record"]
    if record.get("revision") != revision:
        raise RunExistsError(
            f"{final} holds {record.get('hub')} at {str(record.get('revision'))[:12]}",
            why=f"{hub} at {revision[:12]} was asked for, and nothing is overwritten",
            fix="--to a folder that does not exist yet",
        )


def _check_text(folder: Path, known: GalleryModel | None, *, called: str) -> dict[str, Any]:
    """Config and tokenizer of a folder; the config of a gallery name has the numbers of its card."""
    config = read_config(folder)
    if known is not None and (wrong := _differences(known.architecture, config)):
        raise ModelError(
            f"{called} is not {known.name}: {'; '.join(wrong)}",
            why="a name of the gallery is for a copy of that very model",
            fix="take the hub itself, another --mirror, or for a folder another --name",
        )
    if not has_tokenizer(folder):
        raise TokenizerError(
            f"{called} has no tokenizer",
            why="tokenizer.json, tokenizer.model or vocab.json is needed",
            fix="copy the tokenizer of the base model into the folder",
        )
    return config


def _differences(card: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {config[name]}, not {value}"
        for name, value in card.items()
        if config.get(name) is not None and config[name] != value
    ]


def _silent(name: str, done: int, total: int) -> None:
    """Nobody is watching."""

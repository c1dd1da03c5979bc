"""From what the setting `model` says to folders on this machine.

A name is looked up in this order: the gallery's built-in model, a folder (a model, an adapter, a
run), a name that was pulled or added, a gallery name, a run by its name, a hub id.  An adapter
brings its base with it; a base is never fetched because an adapter names it.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from luthier.bounded import decode
from luthier.errors import (
    AdapterError,
    ModelError,
    ModelNotFoundError,
    RunNotFoundError,
)
from luthier.gallery import Family, all_models, family_of, find_model, nearest_names
from luthier.reach import check_model_folder, check_reach
from luthier.runs import RunDirectory
from luthier.sources import at_hand
from luthier.sources.adapter_config import CONFIG as ADAPTER_CONFIG
from luthier.sources.adapter_config import WEIGHTS, check_weights_there, read_adapter_config
from luthier.sources.check import read_config
from luthier.sources.download import Progress
from luthier.sources.local import LocalModel, find_local
from luthier.sources.weights import refuse_second_merge

MAX_HOPS = 8  # run on adapter on run ...

Fetch = Callable[[str, str | None], Path]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the parts of a model are.

    Args:
        name: What the base is called in files that outlive this machine's paths: a gallery name or
            hub id where there is one, else the folder as it was given.
        base: Folder with config and weights.
        adapter: Folder of the adapter that training starts from, or that chat applies.
        tokenizer: Folder of the tokenizer: the adapter's or run's own if it has one.
        family: From the gallery, with the template that fits this config.
        config: The base's `config.json`.
        run: The run this came from, if it did.
    """

    name: str
    base: Path
    adapter: Path | None
    tokenizer: Path
    family: Family
    config: dict[str, Any]
    run: Path | None = None

    @property
    def base_for_others(self) -> str:
        """The base as other tools find it, wherever they run: a hub id, or the absolute folder."""
        on_hub = _looks_like_hub_id(self.name) and not Path(self.name).expanduser().is_dir()
        return self.name if on_hub else str(self.base.resolve())


def resolve_source(
    model: str, *, revision: str | None = None, progress: Progress | None = None
) -> ModelSource:
    """Find the base, the adapter and the tokenizer that a `model` setting means.

    Args:
        model: `starter`, a gallery name, a hub id, or a folder: a model, an adapter or a run; or
            the name of a run.
        revision: Branch, tag or commit of a hub id.
        progress: Told of each piece where the model has to be fetched first.

    Raises:
        ModelNotFoundError: Nothing has that name; the nearest names of the gallery are given.
        AdapterError: An adapter's base is a URL, or a path that is not on this machine.
        ModelError: What was found is not a model that can be loaded.
    """

    def fetch(hub: str, wanted: str | None) -> Path:
        return at_hand.fetch(hub, wanted, progress=progress)

    return _resolve(model, revision, hops=0, fetch=fetch)


def resolve_local(model: str) -> ModelSource | None:
    """The same without a look at the hub; None where only the hub can tell.

    Raises:
        ModelError: And its kinds, as `resolve_source`.
    """

    try:
        return _resolve(model, None, hops=0, fetch=_not_here)
    except _OnHubError:
        return None


class _OnHubError(Exception):
    """A model that would have to be looked for on the hub."""


def _not_here(hub: str, revision: str | None) -> Path:
    raise _OnHubError(hub)


def _resolve(model: str, revision: str | None, *, hops: int, fetch: Fetch) -> ModelSource:
    if hops > MAX_HOPS:
        raise ModelError(
            f"{model} is an adapter on an adapter, {MAX_HOPS} times over",
            why="a base that leads back to itself has no weights",
            fix="merge the adapter: luthier export RUN --to merged --output FOLDER",
        )
    text = model.strip()
    if not text:
        raise _not_found(model, "an empty name is nothing")
    if text == "starter":
        return _folder("starter", starter_folder())
    path = Path(text).expanduser()
    if path.is_dir():
        check_reach(path)
        return _any_folder(text, path, hops=hops, fetch=fetch)
    if path.is_file():
        raise ModelNotFoundError(
            f"{text} is a file",
            why="a model is a folder with config.json, *.safetensors and a tokenizer",
            fix=f"give the folder: {path.parent}",
        )
    if (held := find_local(text)) is not None and _is_wanted(held, revision):
        return _held(held)
    if (known := find_model(text)) is not None and known.hub:
        return _folder(known.hub, fetch(known.hub, revision))
    if "://" in text:
        raise _not_found(text, "a URL is not fetched")
    if (run := _run_named(text)) is not None:
        return _run(text, run, hops=hops, fetch=fetch)
    if _looks_like_hub_id(text):
        return _folder(text, fetch(text, revision))
    raise _not_found(text, "it is no folder here, no name of the gallery, no run and no hub id")


def _is_wanted(held: LocalModel, revision: str | None) -> bool:
    """A model at hand is of one commit; another revision is another model."""
    return revision is None or (held.revision or "").startswith(revision)


def _held(held: LocalModel) -> ModelSource:
    if not held.there:
        raise ModelNotFoundError(
            f"{held.name} was at {held.path}, which is gone",
            why="a pulled or added model is used from where it was put",
            fix=f"luthier gallery forget {held.name}, then pull or add it again",
        )
    return _folder(held.hub or str(held.path), held.path)


def starter_folder() -> Path:
    """The model that ships in the package.

    Raises:
        ModelNotFoundError: This installation lacks it.
    """
    with as_file(files("luthier") / "starter") as path:
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(
                "the starter model is not in this installation",
                why=f"{path} has no config.json",
                fix="pip install --force-reinstall luthier",
            )
        return path


def _any_folder(text: str, path: Path, *, hops: int, fetch: Fetch) -> ModelSource:
    if (path / ADAPTER_CONFIG).is_file():
        return _adapter(path, hops=hops, fetch=fetch)
    if (path / "config.json").is_file():
        return _folder(text, path)
    if (run := _run_named(text)) is not None:
        return _run(text, run, hops=hops, fetch=fetch)
    return _folder(text, path)  # says what a model folder needs


def _folder(name: str, path: Path) -> ModelSource:
    if path.is_dir():
        check_model_folder(path)
    config = read_config(path)
    return ModelSource(name, path, None, path, family_of(config), config)


def _adapter(path: Path, *, hops: int, fetch: Fetch) -> ModelSource:
    check_model_folder(path)
    named = read_adapter_config(path).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        raise AdapterError(
            f"the adapter {path} names no base",
            why="base_model_name_or_path in its adapter_config.json is empty",
            fix=f"write the base's folder or hub id there: {path / ADAPTER_CONFIG}",
        )
    return _on_base(path, named.strip(), hops=hops, fetch=fetch)


def _on_base(path: Path, named: str, *, hops: int, fetch: Fetch) -> ModelSource:
    """The adapter `path` on the base that is called `named`."""
    beside = path / named  # relative to the adapter, when the two were moved together
    here = named if Path(named).is_absolute() or not beside.is_dir() else str(beside)
    absent = Path(named).is_absolute() and not Path(named).is_dir()
    if absent and Path(named).parts[-2:] == ("luthier", "starter"):
        here, absent = "starter", False  # the package's own, of an installation that has moved
    if "://" in named or absent:
        raise AdapterError(
            f"the adapter {path} was trained on {named}, which is not here",
            why="a URL, or a path of another machine, is never fetched",
            fix=f"write the base's folder or hub id into {path / ADAPTER_CONFIG}: base_model_name_or_path",
        )
    base = _resolve(here, None, hops=hops + 1, fetch=_only_local(fetch, path))
    if base.adapter is not None:
        raise AdapterError(
            f"the adapter {path} was trained on {named}, which is an adapter itself",
            why="one adapter is applied to a base, not two",
            fix="merge the first: luthier export RUN --to merged --output FOLDER",
        )
    if (path / "adapter_model.bin").is_file():
        check_weights_there(path)  # a pickle alone is refused before anything is copied
    refuse_second_merge(path / WEIGHTS, base.base)
    tokenizer = path if at_hand.has_tokenizer(path) else base.tokenizer
    return ModelSource(base.name, base.base, path, tokenizer, base.family, base.config)


def _run(text: str, run: RunDirectory, *, hops: int, fetch: Fetch) -> ModelSource:
    """A run's result: an adapter on the base its settings name, or a whole model."""
    result = run.result
    if result.is_dir():
        check_reach(result)
        check_model_folder(result)
    if (result / ADAPTER_CONFIG).is_file():
        trained_from = _resolve(_model_of(run), None, hops=hops + 1, fetch=fetch)
        refuse_second_merge(result / WEIGHTS, trained_from.base)
        tokenizer = result if at_hand.has_tokenizer(result) else trained_from.tokenizer
        return ModelSource(
            trained_from.name,
            trained_from.base,
            result,
            tokenizer,
            trained_from.family,
            trained_from.config,
            run.path,
        )
    if (result / "config.json").is_file():
        whole = _folder(text, result)
        return ModelSource(whole.name, result, None, result, whole.family, whole.config, run.path)
    raise ModelNotFoundError(
        f"the run {text} has no result yet",
        why=f"its state: {run.status()}",
        fix=f"luthier train {run.settings_file} --output_dir {run.path} --resume true",
    )


def _model_of(run: RunDirectory) -> str:
    try:
        fields = decode(run.settings_file.read_bytes())
        model = fields.get("settings", fields)["model"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{run.settings_file} does not say which model the run was trained on: {error}",
            why="the base of an adapter is found through the settings of its run",
            fix=f"give the adapter's folder instead: {run.result}",
        ) from error
    if not isinstance(model, str):
        raise ModelError(
            f"{run.settings_file} has model {model!r}", why="a name or folder is needed"
        )
    return model


def _run_named(text: str) -> RunDirectory | None:
    try:
        return RunDirectory.open(text)
    except RunNotFoundError:
        return None


def _only_local(fetch: Fetch, adapter: Path) -> Fetch:
    """Look at what is here only: an adapter that somebody sent must not start a download."""
    if fetch is _not_here:
        return fetch

    def local(hub: str, revision: str | None) -> Path:
        found = at_hand.cached(hub, revision)
        if found is None:
            raise AdapterError(
                f"the adapter {adapter} was trained on {hub}, which is not on this machine",
                why="a base is not fetched because an adapter names it",
                fix=f"luthier gallery pull {hub}",
            )
        return found

    return local


def _looks_like_hub_id(text: str) -> bool:
    owner, _, name = text.partition("/")
    plain = all(part and not part.startswith((".", "-")) for part in (owner, name))
    return plain and "/" not in name and "\\" not in text and " " not in text


def _not_found(text: str, why: str) -> ModelNotFoundError:
    close = nearest_names(text) or [model.name for model in all_models()][:3]
    return ModelNotFoundError(
        f"there is no model {text[:200]!r}",
        why=why,
        fix=f"luthier gallery list; nearest: {', '.join([*_folders_like(text), *close])}",
    )


def _folders_like(text: str) -> list[str]:
    """Model folders that a misspelt path may have meant."""
    wanted = Path(text).expanduser()
    try:
        beside = [path for path in wanted.parent.iterdir() if (path / "config.json").is_file()]
    except OSError:  # no such folder, or not to be read
        return []
    close = difflib.get_close_matches(wanted.name, [path.name for path in beside], n=2, cutoff=0.6)
    return [str(wanted.parent / name) for name in close]

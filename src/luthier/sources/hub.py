"""What a hub says about a model: its revision, and its files with sizes and checksums.

Two protocols: that of the Hugging Face hub, which mirrors speak too, and that of ModelScope.
Nothing is believed about names: a file called `../x` makes the whole repository suspect.

Source: https://huggingface.co/docs/hub/api; the checksum of a small file is that of a git blob.
"""

import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luthier.bounded import decode
from luthier.errors import HubError, ModelError, ModelNotFoundError, UnsafeWeightsError
from luthier.gallery.catalogue import find_model, nearest_names
from luthier.sources.http import Client, StatusError

HUB = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_FILES = 10_000

Checksum = Literal["sha256", "git-sha1"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}")
_HEX = re.compile(r"[0-9a-f]+")
_TEXT_FILES = (
    "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.json",
)  # fmt: skip
_TEXT_KINDS = re.compile(
    r"(tokenizer[\w.-]*\.(json|model|txt)|[\w.-]+\.jinja|(LICENSE|NOTICE)[\w.-]*)"
)
_CODE = re.compile(r"\.(py|pyc|so|sh|bin|pt|pth|pkl|ckpt)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model on a hub; an empty `digest` where the hub gave no checksum or size."""

    name: str
    num_bytes: int
    kind: Checksum
    digest: str


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model at one revision.

    Args:
        revision: The commit, in full; of ModelScope, which names none, a hash over its files.
        address: Where the files are, below the endpoint; a name is added.
    """

    hub: str
    endpoint: str
    revision: str
    address: str
    files: tuple[RemoteFile, ...]

    def path_of(self, file: RemoteFile) -> str:
        """The path of a file below the endpoint."""
        return f"{self.address}/{urllib.parse.quote(file.name)}"


def hub_endpoint(mirror: str | None = None) -> str:
    """The address asked: the mirror given, else `HF_ENDPOINT`, else the hub itself."""
    return mirror or os.environ.get("HF_ENDPOINT") or HUB


def hub_token() -> str | None:
    """The token in the environment, if any; it is written nowhere."""
    return os.environ.get("HF_TOKEN", "").strip() or None


def list_hub(client: Client, hub: str, revision: str | None = None) -> RemoteModel:
    """The files of a model of the Hugging Face hub, or of a mirror.

    Raises:
        ModelNotFoundError: No such model or revision; the nearest names of the gallery are given.
        HubError: It is gated, the hub cannot be used, or its list is not to be trusted.
        StatusError, BrokenOffError: For the caller to try again.
    """
    _check_id(hub, revision)
    asked = urllib.parse.quote(revision or "main", safe="")
    try:
        body = client.json(f"/api/models/{hub}/revision/{asked}", blobs="true")
    except StatusError as error:
        raise refusal(error, hub, client.host, revision) from error
    commit, siblings = _field(body, "sha"), _field(body, "siblings")
    if not isinstance(commit, str) or not _HEX.fullmatch(commit) or len(commit) < 7:
        raise _strange(client.host, f"the revision of {hub} is {commit!r:.80}")
    files = [_hub_file(entry, client.host) for entry in _entries(siblings, client.host)]
    return RemoteModel(hub, client.endpoint, commit, f"/{hub}/resolve/{commit}", tuple(files))


def list_modelscope(client: Client, hub: str, revision: str | None = None) -> RemoteModel:
    """The files of a model of ModelScope; raises as `list_hub`."""
    _check_id(hub, revision)
    branch = revision or "master"
    try:
        body = client.json(f"/api/v1/models/{hub}/repo/files", Revision=branch, Recursive="True")
    except StatusError as error:
        raise refusal(error, hub, client.host, revision) from error
    entries = _entries(_field(_field(body, "Data"), "Files"), client.host)
    files = []
    for entry in entries:
        name = check_name(_field(entry, "Path"), client.host)
        if entry.get("Type") != "tree":
            files.append(_file(name, entry.get("Size"), "sha256", entry.get("Sha256")))
    listed = json.dumps([[file.name, file.digest] for file in files]).encode()
    revision_of_files = hashlib.sha256(listed).hexdigest()[:40]
    address = f"/models/{hub}/resolve/{urllib.parse.quote(branch, safe='')}"
    return RemoteModel(hub, client.endpoint, revision_of_files, address, tuple(files))


def check_name(name: Any, host: str) -> str:
    """The name of a file, if it stays inside of the folder it is put into.

    Raises:
        HubError: It does not, or is no plain name.
    """
    parts = name.split("/") if isinstance(name, str) else []
    plain = all(part and part not in (".", "..") and len(part) < 200 for part in parts)
    if not parts or not plain or "\\" in name or ":" in name or not name.isprintable():
        raise _strange(host, f"it lists a file called {str(name)[:120]!r}")
    return str(name)


def text_files(model: RemoteModel) -> list[RemoteFile]:
    """Config, tokenizer, templates and licence, at the top of the repository; never code."""
    return [
        file
        for file in model.files
        if "/" not in file.name
        and (file.name in _TEXT_FILES or _TEXT_KINDS.fullmatch(file.name))
        and not _CODE.search(file.name)
    ]


def index_file(model: RemoteModel) -> RemoteFile | None:
    """The file that says which tensor is in which shard, where there is one."""
    return next((file for file in model.files if file.name == INDEX), None)


def weight_files(model: RemoteModel, index: bytes | None) -> list[RemoteFile]:
    """The safetensors files that make up the model, and no second copy of them.

    Args:
        index: The content of `index_file`, where there is one.

    Raises:
        UnsafeWeightsError: There are only pickled weights.
        ModelError: There are no weights, or of another kind; or the index names what is not there.
    """
    by_name = {file.name: file for file in model.files}
    if index is None:
        if SINGLE in by_name:
            return [by_name[SINGLE]]
        raise _no_weights(model)
    try:
        shards = sorted(set(decode(index)["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise HubError(
            f"{INDEX} of {model.hub} names no files",
            why=f"it is no JSON with a weight_map: {str(error)[:100]}",
            fix="take another revision: --revision COMMIT",
        ) from error
    wrong = [
        shard
        for shard in shards
        if not str(shard).endswith(".safetensors") or "/" in str(shard) or shard not in by_name
    ]
    if wrong or not shards:
        raise HubError(
            f"{INDEX} of {model.hub} names {str(wrong[:1] or 'nothing')[:120]}, which is not there",
            why="every shard is a .safetensors file beside the index",
            fix="take another revision: --revision COMMIT",
        )
    return [by_name[shard] for shard in shards]


def refusal(error: StatusError, hub: str, host: str, revision: str | None = None) -> Exception:
    """What a status other than 2xx means to a person; the error itself if it may pass."""
    if error.passing:
        return error
    if error.status in (401, 403) and error.code != "RepoNotFound":
        return HubError(
            f"{host} does not give out {hub}: status {error.status}",
            why="it is gated or private: its licence has to be accepted with an account, whose "
            "token is sent along"
            + ("" if hub_token() is None else "; the token in HF_TOKEN is not enough"),
            fix=f"accept it at {HUB}/{hub}, then: export HF_TOKEN=hf_... and pull again",
        )
    if error.status in (401, 404, 410):
        about = f"revision {revision} of {hub}" if error.code == "RevisionNotFound" else hub
        close = [name for name in nearest_names(hub) if name != hub]
        return ModelNotFoundError(
            f"{host} has no {about}",
            why=f"it answers with status {error.status} {error.code}".rstrip(),
            fix="check the name, luthier gallery list"
            + (f"; nearest in the gallery: {', '.join(close)}" if close else ""),
        )
    return HubError(
        f"{host} refuses to give out {hub}: status {error.status} {error.code}".rstrip(),
        why="it is not a status that goes away by trying again",
        fix="check the address of the hub: --mirror URL",
    )


def modelscope_id(name: str) -> str:
    """The id on ModelScope of a gallery name or hub id; an id that the gallery does not know stays.

    Raises:
        ModelNotFoundError: The gallery knows the model, and no copy of it there.
    """
    model = find_model(name)
    if model is None:
        return name
    if model.modelscope is None:
        raise ModelNotFoundError(
            f"no copy of {model.name} on ModelScope is known",
            why="its card in the gallery names none",
            fix=f"luthier gallery pull {model.name}, or give the id there: OWNER/NAME",
        )
    return model.modelscope


def _check_id(hub: str, revision: str | None) -> None:
    if not _HUB_ID.fullmatch(hub) or ".." in hub:
        close = nearest_names(hub)
        raise ModelNotFoundError(
            f"{hub[:200]!r} is no gallery name and no hub id",
            why="a hub id is OWNER/NAME",
            fix="luthier gallery list" + (f"; nearest: {', '.join(close)}" if close else ""),
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise HubError(
            f"{revision[:200]!r} is no revision", why="it is a branch, a tag or a commit"
        )


def _field(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, Mapping) else None


def _entries(found: Any, host: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise _strange(host, "it lists no files")
    if len(found) > MAX_FILES:
        raise _strange(host, f"it lists {len(found):,} files, {MAX_FILES:,} at most are read")
    return found


def _hub_file(entry: Mapping[str, object], host: str) -> RemoteFile:
    name = check_name(entry.get("rfilename"), host)
    lfs = entry.get("lfs")
    if isinstance(lfs, Mapping):
        return _file(name, lfs.get("size", entry.get("size")), "sha256", lfs.get("sha256"))
    return _file(name, entry.get("size"), "git-sha1", entry.get("blobId"))


def _file(name: str, size: Any, kind: Checksum, digest: Any) -> RemoteFile:
    """A file whose size or checksum is missing is listed with none, and refused when it is wanted."""
    length = {"sha256": 64, "git-sha1": 40}[kind]
    text = digest.lower() if isinstance(digest, str) else ""
    known = type(size) is int and size >= 0 and len(text) == length and _HEX.fullmatch(text)
    return RemoteFile(name, size, kind, text) if known else RemoteFile(name, 0, kind, "")


def _strange(host: str, what: str) -> HubError:
    return HubError(
        f"the list of files that {host} sends is not used: {what}",
        why="every file is a plain name with a size and a checksum, and stays in its folder",
        fix="use the hub itself or another mirror: --mirror URL",
    )


def _no_weights(model: RemoteModel) -> ModelError:
    names = [file.name for file in model.files]
    if "adapter_config.json" in names:
        return ModelError(
            f"{model.hub} is an adapter, not a model",
            why="it holds adapter_config.json and no weights of its own",
            fix=f"hf download {model.hub} --local-dir FOLDER, then --model FOLDER",
        )
    if pickled := [name for name in names if re.search(r"\.(bin|pt|pth|ckpt)$", name)]:
        return UnsafeWeightsError(
            f"{model.hub} has its weights only as {pickled[0]}",
            why="pickled files can run code when they are opened; luthier fetches safetensors only",
            fix="take a revision with *.safetensors (--revision refs/pr/N), or let "
            "https://huggingface.co/spaces/safetensors/convert make one",
        )
    if other := [name for name in names if re.search(r"\.(gguf|onnx|h5|msgpack)$", name)]:
        return ModelError(
            f"{model.hub} has its weights only as {other[0]}",
            why="luthier fine-tunes models in safetensors; GGUF, ONNX, TensorFlow and Flax are not read",
            fix="give the hub id of the original model",
        )
    return ModelError(
        f"{model.hub} has no weights",
        why=f"{SINGLE}, or {INDEX} with its shards, is needed",
        fix="check the name: luthier gallery list",
    )

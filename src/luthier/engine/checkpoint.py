"""Checkpoints: complete or absent, checked before use, the same bytes for the same state.

`checkpoints/step-000200/` holds one safetensors file per group of tensors, `state.json`, and the
manifest, which names every tensor with its shape.  Which one is newest is computed, not stored.
"""

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from luthier.bounded import decode
from luthier.durable import (
    DurableFolder,
    NewerFormatError,
    looks_complete,
    remove_folder,
    verify_folder,
)
from luthier.engine.environment import environment
from luthier.errors import CheckpointError, NonFiniteError, ResumeError, RunError
from luthier.kernels.finite import is_finite

KIND = "checkpoint"
STATE = "state.json"
_NAME = re.compile(r"step-(\d{6,})")
_SLACK_BYTES = 2**20
_CHUNK_BYTES = 64 * 2**20
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
}
Groups = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a save did."""

    path: Path
    bytes: int
    seconds: float
    removed: tuple[str, ...] = ()  # older checkpoints that made room
    warnings: tuple[str, ...] = ()  # what could not be tidied up; the checkpoint itself is safe


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint that was verified byte by byte."""

    step: int
    tensors: dict[str, dict[str, Tensor]]  # file stem -> name -> tensor
    state: dict[str, Any]
    fingerprints: dict[str, str]
    path: Path
    skipped: list[str] = field(default_factory=list)  # newer ones that are damaged, and why
    environment: dict[str, Any] = field(default_factory=dict)  # of the process that saved


def checkpoint_name(step: int) -> str:
    """The folder name of a step: `step-000200`."""
    return f"step-{step:06d}"


def list_checkpoints(run_checkpoints: Path) -> list[tuple[int, Path]]:
    """Every checkpoint folder with its step, oldest first; not verified."""
    if not run_checkpoints.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in run_checkpoints.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match and path.is_dir())


def save_checkpoint(
    run_checkpoints: Path,
    *,
    step: int,
    tensors: Groups,
    state: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    keep: int | None = None,
    protect: Collection[int] = (),
) -> CheckpointInfo:
    """Save one step durably, then let older checkpoints go.

    Args:
        run_checkpoints: The folder of all checkpoints of the run.
        tensors: File stem -> name -> tensor; on any device, not changed while this runs.
        state: Plain JSON values, finite; tuples come back as lists, keys as strings.
        fingerprints: What the run depends on, name -> value; compared by `check_fingerprints`.
        keep: How many checkpoints stay, at least 1, this one and the protected ones included;
            None keeps all.
        protect: Steps that stay whatever `keep` says: the best one, the one resumed from.

    Raises:
        NonFiniteError: A tensor holds NaN or infinity; nothing was written.
        DiskFullError: Not enough space; the checkpoints there are intact.
        RunError: Any other failure of the file system; likewise.
    """
    started = time.monotonic()
    _refuse_non_finite(step, tensors)
    record = {
        "step": step,
        "fingerprints": dict(fingerprints),
        "environment": environment(),
        "tensors": {stem: describe(group) for stem, group in tensors.items()},
    }
    body = json.dumps(dict(state), sort_keys=True, allow_nan=False, indent=1)
    size = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    names = sum(len(name) + 200 for group in tensors.values() for name in group)
    needed = size + 2 * names + len(body) + _SLACK_BYTES
    target = run_checkpoints / checkpoint_name(step)
    with DurableFolder(target, kind=KIND, record=record, needed_bytes=needed, replace=True) as new:
        for stem, group in tensors.items():
            new.write(f"{stem}.safetensors", _safetensors(group))
        new.write(STATE, body)
    removed, warnings = _rotate(run_checkpoints, step, keep, protect)
    return CheckpointInfo(
        target, new.num_bytes, time.monotonic() - started, tuple(removed), tuple(warnings)
    )


def load_latest(
    run_checkpoints: Path, *, device: torch.device | str = "cpu"
) -> LoadedCheckpoint | None:
    """The newest checkpoint that is intact; None when nothing was ever saved.

    Raises:
        NewerFormatError: A checkpoint was written by a newer luthier; going back would lose work.
        CheckpointError: There are checkpoints and every one is damaged.
    """
    skipped: list[str] = []
    for _, path in reversed(list_checkpoints(run_checkpoints)):
        try:
            loaded = load_checkpoint(path, device=device)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            skipped.append(error.what)
        else:
            loaded.skipped.extend(skipped)
            return loaded
    if skipped:
        raise CheckpointError(
            f"{run_checkpoints} has no intact checkpoint: {'; '.join(skipped)}",
            why="a damaged one is never used, and a run with lost work does not start over unasked",
            fix=f"restore it from a copy; or start at step 0 with: rm -r '{run_checkpoints}'",
        )
    return None


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> LoadedCheckpoint:
    """One checkpoint, every hash verified first.

    Raises:
        NewerFormatError: It was written by a newer luthier.
        CheckpointError: It is incomplete, damaged, edited, or under the name of another step.
    """
    record = verify_folder(path, kind=KIND)["record"]
    if path.name != checkpoint_name(record["step"]):
        raise CheckpointError(
            f"{path} is the checkpoint of step {record['step']}",
            why="its name must be that of its step, or an older state could pass for a newer one",
            fix=f"mv '{path}' '{path.with_name(checkpoint_name(record['step']))}'",
        )
    return LoadedCheckpoint(
        step=record["step"],
        tensors={
            stem: load_file(path / f"{stem}.safetensors", device=str(device))
            for stem in record["tensors"]
        },
        state=decode((path / STATE).read_bytes()),
        fingerprints=record["fingerprints"],
        path=path,
        environment=record["environment"],
    )


def check_fingerprints(
    saved: Mapping[str, str], current: Mapping[str, str], *, may_change: Collection[str] = ()
) -> list[str]:
    """Refuse to continue a run when something it depends on is no longer the same.

    Args:
        may_change: Names of what may differ.

    Returns:
        A sentence for each allowed change, with both values.

    Raises:
        ResumeError: Anything else has changed; every change is listed, with both values.
    """
    changes = {
        name: f"{name} was {saved.get(name, 'not there')}, is {current.get(name, 'not there')}"
        for name in sorted({*saved, *current})
        if saved.get(name) != current.get(name)
    }
    refused = [text for name, text in changes.items() if name not in may_change]
    if refused:
        raise ResumeError(
            f"this run cannot be continued, {len(refused)} thing(s) it depends on have changed: "
            + "; ".join(refused),
            why="the rest of the run would not be that of the run that was begun",
            fix="put back what has changed, or begin a new run with another --output_dir",
        )
    return list(changes.values())


def check_tensors(
    loaded: LoadedCheckpoint,
    stem: str,
    expected: Mapping[str, Tensor],
    *,
    subject: str = "trained weights",
) -> None:
    """Refuse a group of tensors whose names, shapes or dtypes are not those of `expected`.

    Raises:
        ResumeError: With every difference.
    """
    saved, now = describe(loaded.tensors.get(stem, {})), describe(expected)
    problems = [f"{name} is missing" for name in sorted(now.keys() - saved.keys())]
    problems += [f"{name} is not expected" for name in sorted(saved.keys() - now.keys())]
    problems += [
        f"{name} was {saved[name]}, is {now[name]}"
        for name in sorted(saved.keys() & now.keys())
        if saved[name] != now[name]
    ]
    if problems:
        shown = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        raise ResumeError(
            f"{loaded.path}: {len(problems)} of the {subject} do not fit: {shown}",
            why="every tensor of a checkpoint must have its place in the run that continues it",
            fix="begin a new run with another --output_dir",
        )


def describe(group: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> dtype and shape, as in `F32[8, 64]`."""
    return {
        name: f"{_DTYPES[tensor.dtype]}{list(tensor.shape)}"
        for name, tensor in sorted(group.items())
    }


def _safetensors(group: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, piece by piece; a function of names and values alone.

    Source: https://github.com/huggingface/safetensors#format; widest dtype first keeps it aligned.
    """
    order = sorted(group, key=lambda name: (-group[name].element_size(), name))
    header: dict[str, Any] = {}
    start = 0
    for name in order:
        tensor = group[name]
        stop = start + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = group[name].detach().contiguous().reshape(-1).view(torch.uint8)
        for piece in flat.split(_CHUNK_BYTES):
            yield memoryview(piece.cpu().numpy())


def _refuse_non_finite(step: int, tensors: Groups) -> None:
    bad = [
        f"{stem}/{name}"
        for stem, group in tensors.items()
        for name, tensor in group.items()
        if not is_finite(tensor)
    ]
    if bad:
        shown = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise NonFiniteError(
            f"step {step}: {len(bad)} tensor(s) hold NaN or infinity: {shown}",
            why="a checkpoint that is not a number is never published; the one before it is intact",
            fix="lower --learning_rate, and look at the rows of this step: luthier runs show RUN",
        )


def _rotate(
    run_checkpoints: Path, step: int, keep: int | None, protect: Collection[int]
) -> tuple[list[str], list[str]]:
    """Called when `step` is durable: remove what is beyond `keep`, damaged ones first."""
    removed: list[str] = []
    warnings: list[str] = []
    if keep is None:
        return removed, warnings
    others = {number: path for number, path in list_checkpoints(run_checkpoints) if number != step}
    stays = {number for number in others if number in protect}
    room = max(0, keep - 1 - len(stays))
    rest = [n for n in sorted(others, reverse=True) if n not in stays and looks_complete(others[n])]
    stays.update(rest[:room])
    for number in sorted(others.keys() - stays):
        try:
            remove_folder(others[number])
            removed.append(others[number].name)
        except RunError as error:
            warnings.append(f"an old checkpoint stays: {error.what}")
    return removed, warnings

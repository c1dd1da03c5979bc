"""Counts the bytes of every storage that torch code allocates, without the memory being there.

Runs above `FakeTensorMode`: tensors have shapes and no data, so an 8B model takes no memory and
little time, and Python's and autograd's own references decide when a storage is freed, as in a real
run.  Views share a storage and count once.

The trap is what a fake operator does not show: memory that the real one takes and gives back inside
(casts, scratch, blocks of attention).  `Target.workspace` declares it for the device that is
planned for.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Op = Any
Run = Callable[..., Any]


class PlannedDevice(Protocol):
    """What of a device decides which copies there are in memory."""

    @property
    def copies_files(self) -> bool:
        """Whether what is read from a file has to be copied to the device."""
        ...

    def block_bytes(self, size: int) -> int:
        """What its allocator counts for a storage of `size` bytes."""
        ...

    def mapped_bytes(self, size: int) -> int:
        """What it counts for a file of `size` bytes that is mapped into memory."""
        ...

    def workspace(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
        """Bytes that the real operator takes and gives back inside, beside its results."""
        ...

    def expand(self, op: Op) -> Run | None:
        """A Python form of an operator whose inside is torch code, to be tracked itself."""
        ...


class StorageTracker(TorchDispatchMode):
    """Adds up storages as they come and go; entered above a `FakeTensorMode`.

    Values cannot be read from fake tensors: a number asked for is 1, a truth value is True.

    Attributes:
        now: Bytes held.
        peaks: Most bytes held in each phase.
        phase: What is going on, set by the caller.
        scope: Part that an unlabelled storage allocated now belongs to, set by the caller.
    """

    def __init__(self, target: PlannedDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target = target
        self.now = 0
        self.phase, self.scope = "loading", "workspace"
        self.peaks: dict[str, int] = {}
        self.peak = 0
        self._peak_at, self._peak_workspace = 0, 0
        self.peak_phase = ""
        self._log: list[int] = []  # +serial: allocated; -serial: freed
        self._bytes: list[int] = [0]
        self._scopes: list[str] = [""]
        self._labels: dict[int, str] = {}
        self._known: dict[int, tuple[int, Any]] = {}  # address of the storage -> serial, reference
        self._ignored = False

    def __torch_dispatch__(
        self, func: Op, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        if name == "aten::_local_scalar_dense":
            return _number(args[0])
        if name == "aten::equal":
            return True
        if (expanded := self.target.expand(func)) is not None:
            with self:
                return expanded(*args, **kwargs)
        out = func(*args, **kwargs)
        self._see(out)
        if extra := self.target.workspace(func, args, kwargs, out):
            self._note_peak(self.now + extra, extra)
        return out

    def _see(self, out: Any) -> None:
        leaves = (out,) if isinstance(out, Tensor) else tree_leaves(out)
        for tensor in leaves:
            if not isinstance(tensor, Tensor) or tensor.is_meta:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in self._known:
                continue
            self._allocate(storage)

    def _allocate(self, storage: Any) -> None:
        # What is ignored is known all the same: a view of it, made later, is no new storage.
        size = 0 if self._ignored else self.target.block_bytes(storage.nbytes())
        address, serial = storage._cdata, len(self._bytes)
        self._bytes.append(size)
        self._scopes.append(self.scope)
        self._log.append(serial)
        self._known[address] = (serial, weakref.ref(storage, lambda _: self._free(address)))
        self.now += size
        self._note_peak(self.now, 0)

    def _free(self, address: int) -> None:
        serial, _ = self._known.pop(address)
        self._log.append(-serial)
        self.now -= self._bytes[serial]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard costs as much as the counting

    def keep_file(self, size: int) -> None:
        """Count bytes of a mapped file that stay."""
        self.hold(self.target.mapped_bytes(size), "runtime")

    def hold(self, size: int, part: str) -> None:
        """Count bytes that are held from now on and that no tensor shows."""
        self._bytes.append(size)
        self._scopes.append(part)
        self._log.append(len(self._bytes) - 1)
        self.now += size
        self._note_peak(self.now, 0)

    def _note_peak(self, held: int, workspace: int) -> None:
        if held > self.peaks.get(self.phase, -1):
            self.peaks[self.phase] = held
        if held > self.peak:
            self.peak, self.peak_phase = held, self.phase
            self._peak_at, self._peak_workspace = len(self._log), workspace

    def enter(self, phase: str, scope: str = "workspace") -> None:
        """Begin a phase; what is held counts for it too."""
        self.phase, self.scope = phase, scope
        self._note_peak(self.now, 0)

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Within, new storages are not counted: they are the caller's own, or parts of a file."""
        self._ignored = True
        try:
            yield
        finally:
            self._ignored = False

    @contextmanager
    def part(self, *, quantised: bool) -> Iterator[None]:
        """Within, a tensor that is made is a part of a mapped file."""
        before, self._ignored = self._ignored, not (quantised and self.target.copies_files)
        try:
            yield
        finally:
            self._ignored = before

    @contextmanager
    def file(self, size: int) -> Iterator[None]:
        """Within, a file of `size` bytes is mapped into memory."""
        size = self.target.mapped_bytes(size)
        self.hold(size, "workspace")
        serial = len(self._bytes) - 1
        try:
            yield
        finally:
            self._log.append(-serial)
            self.now -= size

    def label(self, part: str, *tensors: Tensor) -> None:
        """Say what the storages of some tensors are; a later word replaces an earlier one."""
        for tensor in tensors:
            if (known := self._known.get(tensor.untyped_storage()._cdata)) is not None:
                self._labels[known[0]] = part

    def parts(self) -> dict[str, int]:
        """Bytes by part at the peak; they add up to `peak`."""
        live: dict[int, None] = {}
        for entry in self._log[: self._peak_at]:
            if entry > 0:
                live[entry] = None
            else:
                live.pop(-entry)
        found: dict[str, int] = {}
        for serial in live:
            part = self._labels.get(serial, self._scopes[serial])
            found[part] = found.get(part, 0) + self._bytes[serial]
        found["workspace"] = found.get("workspace", 0) + self._peak_workspace
        return found


def _number(tensor: Tensor) -> bool | int | float:
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.is_floating_point() else 1

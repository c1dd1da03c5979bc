"""What a plan is made for: this machine, or one that is only named (`T4 16GB`, `2x A100 80GB`).

No torch: NVIDIA GPUs are asked for through `nvidia-smi`, the rest through psutil.
"""

import os
import re
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, Self

import psutil

from luthier import children
from luthier.errors import DeviceError
from luthier.units import GIB, MIB, format_bytes

HOST_OF_NAMED = 64 * GIB
"""Host memory assumed beside a GPU that is not here."""

DISK_OF_NAMED = 500 * GIB
CPU_FLOPS_PER_CORE = 60e9
"""float32 multiply-adds of one AVX2 core, counted as 2; a guess until `machine.json` has a rate."""


class Card(NamedTuple):
    """A GPU by its data sheet.

    Args:
        sizes_mib: Memory of each variant as `nvidia-smi` reports it.
        tflops: Peak rate of dense 16-bit products with float32 sums.
    """

    sizes_mib: tuple[int, ...]
    capability: tuple[int, int]
    tflops: float


CARDS = {
    "B300": Card((275040,), (10, 3), 2250),
    "B200": Card((183359,), (10, 0), 2250),
    "H200": Card((143771,), (9, 0), 989),
    "H20": Card((97871,), (9, 0), 148),
    "H100": Card((81559, 95830), (9, 0), 989),
    "GH200": Card((97871,), (9, 0), 989),
    "A100": Card((40960, 81920), (8, 0), 312),
    "A800": Card((81920,), (8, 0), 312),
    "L40S": Card((46068,), (8, 9), 362),
    "L40": Card((46068,), (8, 9), 181),
    "L4": Card((23034,), (8, 9), 121),
    "A40": Card((46068,), (8, 6), 150),
    "A30": Card((24576,), (8, 0), 165),
    "A10G": Card((23028,), (8, 6), 70),
    "A10": Card((23028,), (8, 6), 125),
    "RTX A6000": Card((49140,), (8, 6), 155),
    "RTX 6000 Ada": Card((49140,), (8, 9), 364),
    "RTX 6000 Ada Generation": Card((49140,), (8, 9), 364),
    "RTX 5000 Ada Generation": Card((32760,), (8, 9), 261),
    "RTX 4000 Ada Generation": Card((20475,), (8, 9), 107),
    "RTX PRO 6000 Blackwell Workstation Edition": Card((97887,), (12, 0), 504),
    "RTX PRO 6000 Blackwell Server Edition": Card((97887,), (12, 0), 504),
    "RTX PRO 6000 Blackwell Max-Q Workstation Edition": Card((97887,), (12, 0), 439),
    "RTX PRO 6000 Blackwell": Card((97887,), (12, 0), 504),
    "RTX A5000": Card((24564,), (8, 6), 111),
    "RTX A4000": Card((16376,), (8, 6), 77),
    "RTX 5090": Card((32607,), (12, 0), 210),
    "RTX 5080": Card((16303,), (12, 0), 113),
    "RTX 5070 Ti": Card((16303,), (12, 0), 88),
    "RTX 4090": Card((24564,), (8, 9), 165),
    "RTX 4090 D": Card((24564,), (8, 9), 147),
    "RTX 4090 Laptop GPU": Card((16376,), (8, 9), 66),
    "RTX 4080": Card((16376,), (8, 9), 97),
    "RTX 4070 Ti SUPER": Card((16376,), (8, 9), 88),
    "RTX 4070": Card((12282,), (8, 9), 58),
    "RTX 4060": Card((8188, 16380), (8, 9), 30),
    "RTX 3090": Card((24576,), (8, 6), 71),
    "RTX 3080 Ti": Card((12288,), (8, 6), 68),
    "RTX 3080": Card((10240, 12288), (8, 6), 60),
    "RTX 3060": Card((12288,), (8, 6), 25),
    "Quadro RTX 8000": Card((49152,), (7, 5), 130),
    "RTX 2080 Ti": Card((11264,), (7, 5), 54),
    "T4": Card((15360,), (7, 5), 65),
    "V100": Card((16384, 32768), (7, 0), 112),
}
"""Sizes as `nvidia-smi` reports them; rates from NVIDIA's data sheets and architecture white papers
(dense, 16 bit, float32 accumulation: half of the advertised figure on GeForce cards)."""

_ASK = re.compile(
    r"^\s*(?:(?P<count>\d+)\s*[x*]\s*)?(?P<name>.*?)"
    r"(?:[\s-]*(?P<size>\d+(?:\.\d+)?)\s*(?P<unit>GiB|GB|G|MiB|MB)\s*)?$",
    re.IGNORECASE,
)
_UNITS = {"gib": GIB, "gb": GIB, "g": GIB, "mib": MIB, "mb": MIB}  # memory is sold in binary units


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device, how many of it, and the machine around it.

    Args:
        name: As people call it.
        memory_bytes: Of one device; of the host where `kind` is `cpu`.
        count: Devices that train together, each with the whole model.
        host_memory_bytes: Of the machine.
        disk_free_bytes: Where runs are written.
        bf16: Whether it multiplies bfloat16 natively.
        capability: CUDA compute capability; None on a CPU.
        peak_flops: Of one device in its 16-bit type (float32 on a CPU without bfloat16).
        measured: Whether it is this machine, and not a name.
        cores: Processor cores of the host, where they are known.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    count: int = 1
    host_memory_bytes: int = HOST_OF_NAMED
    disk_free_bytes: int = DISK_OF_NAMED
    bf16: bool = True
    capability: tuple[int, int] | None = None
    peak_flops: float = 0.0
    measured: bool = False
    cores: int = 1

    @property
    def cuda(self) -> bool:
        """Whether it is an NVIDIA GPU."""
        return self.kind == "cuda"

    @property
    def dtype(self) -> str:
        """What `torch_dtype: auto` becomes on it."""
        if self.bf16:
            return "bfloat16"
        return "float16" if self.cuda else "float32"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A device from words: `T4`, `RTX 4090`, `2x A100 80GB`, `cpu 24GB`, `GPU 12GB`.

        Raises:
            DeviceError: The name is not known and no size says what it holds.
        """
        match = _ASK.match(text.strip())
        if match is None or not text.strip():
            raise _unknown(text)
        count = int(match["count"] or 1)
        size = int(float(match["size"]) * _UNITS[match["unit"].lower()]) if match["size"] else None
        name = " ".join(match["name"].split()).strip(" ,-")
        if count < 1 or (size is not None and size < 256 * MIB):
            raise _unknown(text)
        if name.lower() in ("cpu", "host"):
            return cls._cpu(size, count)
        if name.lower() in ("", "gpu", "cuda") and size is not None:
            return cls(f"GPU, {format_bytes(size)}", "cuda", size, count, capability=(8, 0))
        return cls._card(text, name, size, count)

    @classmethod
    def _cpu(cls, size: int | None, count: int) -> Self:
        here = psutil.virtual_memory().total
        memory = size or here
        return cls(
            f"CPU, {format_bytes(memory)}",
            "cpu",
            memory,
            count,
            host_memory_bytes=memory,
            disk_free_bytes=_free_disk(),
            bf16=_cpu_has_bf16(),
            peak_flops=CPU_FLOPS_PER_CORE * _cores(),
            cores=_cores(),
        )

    @classmethod
    def _card(cls, text: str, name: str, size: int | None, count: int) -> Self:
        found = _find_card(name)
        if found is None:
            raise _unknown(text)
        title, card = found
        memory = _nearest_size(card, size)
        return cls(
            f"{title}, {format_bytes(memory)}",
            "cuda",
            memory,
            count,
            bf16=card.capability >= (8, 0),
            capability=card.capability,
            peak_flops=card.tflops * 1e12,
        )


def this_machine(count: int = 1) -> Device:
    """The devices of this machine: its first NVIDIA GPU if there is one, else the processor.

    Args:
        count: Devices that train together.
    """
    found = _nvidia()
    return this_gpu(*found[0], count=count) if found else this_processor(count)


def this_gpu(name: str, memory: int, capability: tuple[int, int], *, count: int = 1) -> Device:
    """A GPU that is here, by what its driver says of it.

    Args:
        memory: Bytes.
        capability: CUDA compute capability.
    """
    card = _find_card(name)
    return Device(
        name,
        "cuda",
        memory,
        count,
        host_memory_bytes=psutil.virtual_memory().total,
        disk_free_bytes=_free_disk(),
        bf16=capability >= (8, 0),
        capability=capability,
        peak_flops=card[1].tflops * 1e12 if card else 0.0,
        measured=True,
        cores=_cores(),
    )


def this_processor(count: int = 1) -> Device:
    """The processor of this machine, whether or not it has a GPU."""
    cpu = Device._cpu(None, count)
    return replace(cpu, name=f"CPU, {_cores()} cores", measured=True)


def _unknown(text: str) -> DeviceError:
    return DeviceError(
        f"--device {text!r} is not a device that is known",
        why=f"a name with a size, or one of: {', '.join(CARDS)}, cpu",
        fix='--device "T4 16GB", --device "2x A100 80GB", --device "GPU 12GB", --device "cpu 24GB"',
    )


def _plain(name: str) -> str:
    dropped = re.sub(
        r"nvidia|geforce|tesla|sxm\d?|pcie|nvl|hbm\d?e?|\bac\b|\bmig\b|-", " ", name.lower()
    )
    return "".join(re.sub(r"\b\d+\s*(gb|gib)\b", " ", dropped).split())


def _find_card(name: str) -> tuple[str, Card] | None:
    """The card whose name is all of `name`, without maker and form."""
    plain = _plain(name)
    for title, card in CARDS.items():
        if plain in (_plain(title), _plain(title).removeprefix("rtx")):
            return title, card
    return None


def _nearest_size(card: Card, size: int | None) -> int:
    sizes = [mib * MIB for mib in card.sizes_mib]
    if size is None:
        return sizes[0]
    near = min(sizes, key=lambda own: abs(own - size))
    return near if abs(near - size) <= 0.15 * near else size


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def _free_disk() -> int:
    return shutil.disk_usage(Path.cwd()).free


@cache
def _cpu_has_bf16() -> bool:
    """Whether the processor says that it multiplies bfloat16; as `kernels.cpu` asks torch."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    words = set(info.read_text("utf-8", "replace").split())
    return bool(words & {"avx512_bf16", "amx_tile", "svebf16"})


@cache
def _nvidia() -> tuple[tuple[str, int, tuple[int, int]], ...]:
    """Name, memory and capability of each GPU that a run would see; nothing without a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return ()
    query = "--query-gpu=name,memory.total,compute_cap,uuid"
    found = [
        (uuid, gpu)
        for line in _said_by(query, "--format=csv,noheader,nounits")
        if (row := _gpu(line)) is not None
        for uuid, gpu in [row]
    ]
    if visible is None:
        return tuple(gpu for _, gpu in found)
    slices = _slices(_said_by("-L"), found) if "MIG-" in visible else {}
    seen = []
    for word in (part.strip() for part in visible.split(",")):
        if word.isdigit() and int(word) < len(found):
            seen.append(found[int(word)][1])
        elif word in slices:
            seen.append(slices[word])
        else:  # the beginning of a name is enough for CUDA
            seen += [gpu for uuid, gpu in found if word and uuid.startswith(word)][:1]
    return tuple(seen)


def _said_by(*arguments: str) -> list[str]:
    """Lines that nvidia-smi prints; none where it is absent, fails or does not answer."""
    return (children.ask_program("nvidia-smi", *arguments, timeout_s=10) or "").splitlines()


_Gpu = tuple[str, int, tuple[int, int]]
_ROW = re.compile(
    r"(?P<name>.+), (?P<mib>\d+|\[N/A\]), (?P<major>\d+)\.(?P<minor>\d+), (?P<uuid>\S+)"
)
_CARD_LINE = re.compile(r"GPU \d+: .*\(UUID: (?P<uuid>\S+)\)")
_SLICE_LINE = re.compile(r"\s*MIG \S*?(?P<gb>\d+)gb\S*\s.*\(UUID: (?P<uuid>\S+)\)")


def _gpu(line: str) -> tuple[str, _Gpu] | None:
    """UUID and facts of a row; None where it is none ("No devices were found").

    A GPU that shares the memory of the host says `[N/A]` for its own.
    """
    match = _ROW.fullmatch(line.strip())
    if match is None:
        return None
    memory = psutil.virtual_memory().total if match["mib"] == "[N/A]" else int(match["mib"]) * MIB
    return match["uuid"], (match["name"], memory, (int(match["major"]), int(match["minor"])))


def _slices(lines: list[str], found: list[tuple[str, _Gpu]]) -> dict[str, _Gpu]:
    """The parts of GPUs that are cut (MIG), by UUID, from `nvidia-smi -L`.

    The row of a card gives the memory of the whole; the name of a part (`3g.40gb`) its own.
    """
    cards, slices = dict(found), {}
    card = None
    for line in lines:
        if (head := _CARD_LINE.match(line)) is not None:
            card = cards.get(head["uuid"])
        elif (part := _SLICE_LINE.match(line)) is not None and card is not None:
            name, _, capability = card
            title = f"{name} MIG {part['gb']}GB"
            slices[part["uuid"]] = (title, int(part["gb"]) * GIB, capability)
    return slices

"""Which devices there are to lease, and who has them, without torch."""

import os

from luthier import children
from luthier.locks import Owner, read_owner
from luthier.runs import lease_file

_PATIENCE_S = 20.0


def machine_devices() -> list[str]:
    """Names of what jobs can be given: `cuda:0` and so on, or `cpu` where there is no GPU.

    `CUDA_VISIBLE_DEVICES` of the server limits what its jobs get.
    """
    query = ("--query-gpu=index", "--format=csv,noheader")
    said = children.ask_program("nvidia-smi", *query, timeout_s=_PATIENCE_S) or ""
    found = [line.strip() for line in said.splitlines() if line.strip().isdigit()]
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        here = {*found}
        names = [word.strip() for word in shown.split(",") if word.strip()]
        found = [name for name in names if name in here or name.startswith(("GPU-", "MIG-"))]
    return [f"cuda:{name}" for name in found] if found else ["cpu"]


def holder(device: str) -> Owner | None:
    """The live process that has a device, whichever command it is."""
    owner = read_owner(lease_file(device))
    return owner if owner is not None and owner.alive else None

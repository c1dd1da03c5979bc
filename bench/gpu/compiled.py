"""Compile every Triton kernel for every generation of GPU, which needs no GPU, and write the table.

    python bench/gpu/compiled.py

Widths are those of Qwen3-8B.  Registers and spills are what the assembler of the triton package says.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from luthier.kernels.triton.present import kernel

CAPABILITIES = (75, 80, 89, 90, 120)
TABLE = Path(__file__).parents[1] / "results" / "triton_kernels.json"

_HALF = {75: "fp16"}
KERNELS: dict[str, tuple[str, dict[str, str], dict[str, Any], int]] = {
    "norm_forward": (
        "norm_kernels",
        {"x": "*", "weight": "*", "y": "*", "rstd": "*fp32", "width": "i32", "eps": "fp32", "offset": "fp32"},
        {"AFTER": False, "BLOCK": 4096},
        8,
    ),
    "norm_backward": (
        "norm_kernels",
        {"grad": "*", "x": "*", "weight": "*", "rstd": "*fp32", "grad_x": "*", "width": "i32", "offset": "fp32"},
        {"BLOCK": 4096},
        8,
    ),
    "gated_forward": (
        "gated_kernels",
        {"gate": "*", "up": "*", "y": "*", "count": "i32"},
        {"SILU": True, "BLOCK": 1024},
        4,
    ),
    "gated_backward": (
        "gated_kernels",
        {"grad": "*", "gate": "*", "up": "*", "grad_gate": "*", "grad_up": "*", "count": "i32"},
        {"SILU": True, "BLOCK": 1024},
        4,
    ),
}  # fmt: skip
"""Module, arguments (`*`: the tensors' dtype, 16 bits), constants, warps."""


def compiled(name: str, capability: int) -> dict[str, Any]:
    """Machine code of a kernel: its registers a thread, bytes spilled, bytes of shared memory."""
    module, given, fixed, warps = KERNELS[name]
    half = _HALF.get(capability, "bf16")
    signature = {key: f"*{half}" if kind == "*" else kind for key, kind in given.items()}
    signature |= dict.fromkeys(fixed, "constexpr")
    source = ASTSource(kernel(module, name), signature, fixed)
    made = triton.compile(source, GPUTarget("cuda", capability, 32), {"num_warps": warps})
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.asm["ptx"])
        file.flush()
        target = re.search(r"\.target (\w+)", made.asm["ptx"])
        assert target is not None, "PTX names its target"
        said = subprocess.run(
            [get_ptxas(capability).path, "-v", f"-arch={target[1]}", file.name, "-o", "/dev/null"],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    figures = [re.search(p, said) for p in (r"Used (\d+) registers", r"(\d+) bytes spill stores")]
    registers, spilled = (int(found[1]) for found in figures if found)
    return {
        "registers": registers,
        "spilled_bytes": spilled,
        "shared_bytes": made.metadata.shared,
        "machine_code_bytes": len(made.asm["cubin"]),
        "triton": triton.__version__,
    }


def main() -> None:
    rows = {f"{name} {cc}": compiled(name, cc) for name in KERNELS for cc in CAPABILITIES}
    for row in rows.values():
        row.pop("triton")
    table = {"triton": triton.__version__, "kernels": rows}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

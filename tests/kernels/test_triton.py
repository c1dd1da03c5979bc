"""The Triton forms: against their twins in the interpreter, and as machine code of every generation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench.gpu.compiled import CAPABILITIES, KERNELS, TABLE, compiled
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from luthier.kernels.planned import planning_for_cuda
from luthier.kernels.pointwise import rms_norm, swiglu

pytest.importorskip("triton")


def test_kernels_equal_their_twins_in_the_interpreter() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib",
         str(Path(__file__).with_name("interpreted_triton.py"))],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stdout[-3000:] + child.stderr
    assert "40 passed" in child.stdout


def test_operators_say_their_shapes_without_data_and_are_taken_on_cuda_alone() -> None:
    def operators(x: Tensor, weight: Tensor) -> set[str]:
        seen = set()

        class Names(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
                seen.add(str(func))
                return func(*args, **(kwargs or {}))

        with Names():
            swiglu(rms_norm(x, weight, 1e-5), x).sum().backward()
        return {name for name in seen if name.startswith("luthier.")}

    both = {"luthier.rms_norm.default", "luthier.gated.default"}
    both |= {"luthier.rms_norm_backward.default", "luthier.gated_backward.default"}
    with FakeTensorMode():
        x = torch.empty(4, 64, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.empty(64, dtype=torch.bfloat16)
        assert operators(x, weight) == set()
        with planning_for_cuda((9, 0)):
            assert operators(x, weight) == both
        with planning_for_cuda((7, 5)):
            assert operators(x, weight) == set()  # a T4 has no bfloat16


def test_the_committed_table_names_every_kernel_and_generation_without_spills() -> None:
    table = json.loads(Path(TABLE).read_text("utf-8"))["kernels"]
    assert set(table) == {f"{name} {cc}" for name in KERNELS for cc in CAPABILITIES}
    assert all(row["spilled_bytes"] == 0 for row in table.values())


@pytest.mark.parametrize(("name", "capability"), [("norm_backward", 75), ("gated_backward", 120)])
def test_machine_code_is_what_the_table_says(name: str, capability: int) -> None:
    table = json.loads(Path(TABLE).read_text("utf-8"))
    row = compiled(name, capability)
    if row["triton"] == table["triton"]:
        assert {k: v for k, v in row.items() if k != "triton"} == table["kernels"][
            f"{name} {capability}"
        ]
    assert row["spilled_bytes"] == 0

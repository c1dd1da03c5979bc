"""What each fast form costs beside its plain twin: processor time and bytes kept for backward.

    python bench/fast_forms.py [REPEATS] [THREADS]

Prints a JSON line per form, forward and backward together, shapes of a 56M-parameter Llama
(hidden 512, gate 1408, vocabulary 32,000, rank 32) at 1,024 tokens in float32.  Processor time is
the best of REPEATS rounds, the forms taken in turn, so that other work on the machine disturbs
all alike.  Kept bytes count each tensor saved for backward once, weights left out.
"""

import json
import platform
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from luthier.kernels.dropout import TokenKeys
from luthier.kernels.head_logprob import head_logprob, head_logprob_plain
from luthier.kernels.lora_linear import lora_linear, lora_linear_plain
from luthier.kernels.pointwise import gated_plain, rms_norm, swiglu

TOKENS, HIDDEN, GATE, VOCABULARY, RANK = 1024, 512, 1408, 32_000, 32
Form = Callable[[], Tensor]


def forms() -> dict[str, tuple[Form, list[Tensor]]]:
    """Each form, and the leaves it is differentiated by."""
    torch.manual_seed(0)
    x = torch.randn(1, TOKENS, HIDDEN, requires_grad=True)
    rows = torch.randn(TOKENS, HIDDEN, requires_grad=True)
    head = torch.randn(VOCABULARY, HIDDEN).mul_(0.02)
    trained = head.clone().requires_grad_()
    targets = torch.randint(0, VOCABULARY, (TOKENS,))
    weight, norm = torch.randn(HIDDEN, HIDDEN), LlamaRMSNorm(HIDDEN).requires_grad_(False)
    low = torch.randn(RANK, HIDDEN, requires_grad=True)
    high = torch.randn(HIDDEN, RANK, requires_grad=True)
    gate, up = (torch.randn(1, TOKENS, GATE, requires_grad=True) for _ in range(2))
    keys = TokenKeys()
    keys.set(seed=0, step=1, sample_T=torch.zeros(TOKENS), position_T=torch.arange(TOKENS))

    def lora(function: Callable[..., Tensor], dropout: float) -> tuple[Form, list[Tensor]]:
        call = (x, weight, None, low, high, 1.0)
        return lambda: function(*call, dropout=dropout, keys=keys), [x, low, high]

    return {
        "head_logprob frozen": (lambda: head_logprob(rows, head, targets)[0], [rows]),
        "head plain frozen": (lambda: head_logprob_plain(rows, head, targets)[0], [rows]),
        "head_logprob trained": (
            lambda: head_logprob(rows, trained, targets)[0],
            [rows, trained],
        ),
        "head plain trained": (
            lambda: head_logprob_plain(rows, trained, targets)[0],
            [rows, trained],
        ),
        "lora_linear": lora(lora_linear, 0.0),
        "lora plain": lora(lora_linear_plain, 0.0),
        "lora_linear dropout 0.1": lora(lora_linear, 0.1),
        "lora plain dropout 0.1": lora(lora_linear_plain, 0.1),
        "rms_norm": (lambda: rms_norm(x, norm.weight, 1e-6), [x]),
        "LlamaRMSNorm": (lambda: norm(x), [x]),
        "swiglu": (lambda: swiglu(gate, up), [gate, up]),
        "silu(gate) * up": (lambda: gated_plain(gate, up), [gate, up]),
    }


def kept_bytes(form: Form, leaves: list[Tensor]) -> int:
    """Bytes of the storages saved for backward that no leaf or weight owns already."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad or tensor.grad_fn is not None:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = form()  # held until the count, so that no storage is freed and its address reused
    del out
    weights = VOCABULARY * HIDDEN * 4, HIDDEN * HIDDEN * 4
    return sum(size for size in saved.values() if size not in weights)


def main() -> int:
    """Measure every form."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    measured, best = forms(), {}
    for _ in range(repeats):
        for name, (form, leaves) in measured.items():
            start = time.process_time()
            out = form()
            torch.autograd.grad(out, leaves, torch.ones_like(out))
            taken = time.process_time() - start
            best[name] = min(taken, best.get(name, taken))
    for name, (form, leaves) in measured.items():
        row = {
            "form": name,
            "processor_ms": round(best[name] * 1000, 2),
            "kept_mib": round(kept_bytes(form, leaves) / 2**20, 2),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "machine": platform.machine(),
        }
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

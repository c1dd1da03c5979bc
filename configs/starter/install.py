"""Put the weights of a finished pre-training run into the package, in float16.

    python configs/starter/install.py runs/starter        # src/luthier/starter/model.safetensors

float16 keeps 11 bits of each weight, bfloat16 8; the weights of so small a model are all well
inside its range, which is checked.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

STARTER = Path(__file__).resolve().parents[2] / "src" / "luthier" / "starter"
MOST_BYTES = 8_000_000


def to_float16(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in float16, each value checked to survive; a tied head is left out."""
    kept = {name: value for name, value in tensors.items() if name != "lm_head.weight"}
    for name, value in kept.items():
        assert bool(value.isfinite().all()), f"{name} holds values that are not numbers"
        assert float(value.abs().max()) < 65504, f"{name} is out of the range of float16"
    return {name: value.to(torch.float16).contiguous() for name, value in kept.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of configs/starter/pretrain.yaml")
    parser.add_argument("--output", type=Path, default=STARTER)
    given = parser.parse_args()
    source = next((given.run / "result").rglob("model.safetensors"))
    target = given.output / "model.safetensors"
    save_file(to_float16(load_file(source)), target, metadata={"format": "pt"})
    size = target.stat().st_size
    assert size <= MOST_BYTES, f"{target} has {size:,} bytes, more than {MOST_BYTES:,}"
    sys.stdout.write(f"{target}: {size:,} bytes from {source}\n")


if __name__ == "__main__":
    main()

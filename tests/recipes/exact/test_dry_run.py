"""The exact plan: a step of the real code on tensors without data."""

import pytest
from tests.tiny import tiny_config

from luthier.config import read
from luthier.errors import TargetError
from luthier.planner.device import Device
from luthier.recipes.exact.dry_run import PARTS, BatchShape, exact

CPU = Device("CPU", "cpu", 2**33, bf16=False)
BATCH = BatchShape.plain([40, 24], [20, 12])


def planned(batches=(BATCH,), gradients_held=False, **settings):
    config = tiny_config("llama").to_dict()
    given = {"model": "any", "dataset": "rows.jsonl", "torch_dtype": "float32", **settings}
    return exact(
        read.load(given).settings,
        config=config,
        device=CPU,
        batches=batches,
        evaluation=[BATCH],
        gradients_held=gradients_held,
    )


def test_the_parts_add_up_to_the_peak_and_the_weights_are_all_counted():
    plan = planned(lora_dim=4)
    assert tuple(plan.parts) == PARTS
    assert sum(plan.parts.values()) == plan.peak_bytes == plan.phases[plan.peak_where]
    linear = 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48)
    norms, both_embeddings = 5 * 32, 2 * 264 * 32
    assert plan.parts["weights"] == pytest.approx(4 * (linear + norms + both_embeddings), abs=256)
    adapters = 4 * 4 * 2 * (64 + 64 + 48 + 48)
    assert plan.parts["adapters"] == adapters
    assert plan.parts["optimiser"] == 2 * adapters


def test_what_a_run_would_refuse_is_refused_by_the_same_error():
    with pytest.raises(TargetError, match="no_such_proj"):
        planned(lora_target_modules=["no_such_proj"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_that_are_held_stand_for_the_micro_batches_before(dtype):
    walked = planned([BATCH, BATCH], method="full", torch_dtype=dtype)
    held = planned([BATCH], gradients_held=True, method="full", torch_dtype=dtype)
    few_scalars = 256  # sums of the metrics of the first
    assert held.peak_bytes == pytest.approx(walked.peak_bytes, abs=few_scalars)
    assert held.parts["gradients"] == walked.parts["gradients"] > 0
    alone = planned([BATCH], method="full", torch_dtype=dtype)
    assert alone.phases["step forward"] < held.phases["step forward"]

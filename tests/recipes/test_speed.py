"""The rate of products is timed and kept where the planner looks for it."""

from luthier.planner.device import this_machine
from luthier.planner.history import rate_of, timed
from luthier.recipes.run.devices import torch_device
from luthier.recipes.speed import time_products


def test_a_timed_rate_is_what_the_next_plan_uses():
    dtype, flops = time_products(torch_device())
    device = this_machine()
    assert flops > 1e8
    assert timed(device, dtype) == flops
    assert "timed" in rate_of(device, dtype, 10**8).source

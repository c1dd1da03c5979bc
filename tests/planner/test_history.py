"""What past runs teach the planner."""

import dataclasses

import pytest

from luthier.planner import history
from luthier.planner.device import Device, this_machine
from luthier.planner.history import PastRun, learned_runtime, rate_of, record
from luthier.units import GIB, MIB

HERE = this_machine()
RUN = PastRun(HERE.name, "float32", "lora", 10**8, 5e10, GIB, GIB, 600 * MIB)


def test_without_history_the_rate_is_a_guess_with_a_wide_interval():
    rate = rate_of(HERE, "float32", 10**8)
    assert rate.high / rate.low >= 4
    assert "not timed" in rate.source


def test_timed_products_narrow_it():
    history.keep_rate(HERE.name, "float32", 1e11)
    rate = rate_of(HERE, "float32", 10**8)
    assert rate.flops == history.EFFICIENCY * 1e11
    assert rate.high / rate.low < 4


def test_past_runs_of_this_size_are_believed_most():
    history.keep_rate(HERE.name, "float32", 1e11)
    for flops in (4e10, 5e10, 6e10):
        record(dataclasses.replace(RUN, flops=flops))
    rate = rate_of(HERE, "float32", 10**8)
    assert rate.flops == 5e10
    assert "3 past run(s) here of about this size" in rate.source
    other = rate_of(HERE, "float32", 10**10)
    assert "other sizes" in other.source
    assert other.high / other.low > rate.high / rate.low


def test_other_devices_learn_nothing_from_this_one():
    record(dataclasses.replace(RUN, device="T4, 15 GiB"))
    assert learned_runtime(HERE) is None
    assert "past run" not in rate_of(Device.parse("T4"), "float16", 10**8).source


def test_overhead_is_the_most_that_recent_runs_took():
    for size in (900, 500, 400, 600, 450, 550):
        record(dataclasses.replace(RUN, runtime_bytes=size * MIB))
    assert learned_runtime(HERE) == 600 * MIB  # the first is too long ago


@pytest.mark.parametrize("text", ["{", "[]", '{"device": "x"}', ""])
def test_lines_that_are_no_run_are_left_out(text):
    record(RUN)
    with history.runs_file().open("a") as file:
        file.write(text + "\n")
    history.machine_file().write_text(text)
    assert [run.parameters for run in history.past()] == [10**8]
    assert history.timed(HERE, "float32") is None

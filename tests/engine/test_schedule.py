"""The learning rate at every step, worked from the definition."""

import math

import pytest

from luthier.engine.schedule import learning_rate_at, warmup_steps


def rates(schedule: str, num_steps: int, num_warmup: int, peak: float = 2e-4) -> list[float]:
    return [
        learning_rate_at(
            s, peak=peak, schedule=schedule, num_steps=num_steps, num_warmup=num_warmup
        )
        for s in range(1, num_steps + 1)
    ]


def test_constant_ignores_the_warmup():
    assert rates("constant", 5, 2) == [2e-4] * 5


def test_warmup_starts_above_zero_and_reaches_the_peak_at_its_last_step():
    assert rates("constant_with_warmup", 6, 4) == pytest.approx(
        [0.5e-4, 1e-4, 1.5e-4, 2e-4, 2e-4, 2e-4], abs=1e-18
    )


def test_linear_falls_towards_zero_behind_the_last_step():
    assert rates("linear", 5, 1, peak=1.0) == pytest.approx([1, 1, 0.75, 0.5, 0.25], abs=1e-12)


def test_cosine_is_half_way_down_in_the_middle():
    values = rates("cosine", 101, 1, peak=1.0)
    assert values[1] == 1.0
    assert values[51] == pytest.approx(0.5, abs=1e-12)
    assert values[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)), abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "steps", "expected"), [(0.03, 100, 3), (0.03, 10, 1), (0, 10, 0), (0.1, 30, 3)]
)
def test_warmup_steps_are_rounded_up(ratio, steps, expected):
    assert warmup_steps(ratio, steps) == expected

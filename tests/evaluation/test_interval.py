"""Intervals against tables, and how often they hold the truth."""

import math

import numpy as np
import pytest

from luthier.evaluation.interval import (
    paired_proportions,
    paired_ratios,
    ratio_interval,
    student_quantile,
    wilson_interval,
)
from luthier.evaluation.metrics import BY_NAME, RowResult, RowShare
from luthier.evaluation.verdict import verdict

RUNS, ROWS = 2_000, 60


def random():
    return np.random.default_rng(12)


def in_a_hundred(intervals, truth):
    return 100 * np.mean([found.low <= truth <= found.high for found in intervals])


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.7062), (2, 4.3027), (5, 2.5706), (10, 2.2281), (30, 2.0423), (120, 1.9799), (1000, 1.9623)],
)  # fmt: skip
def test_students_quantile_is_that_of_the_tables(freedom, value):
    assert student_quantile(freedom) == pytest.approx(value, abs=6e-5)


def test_the_wilson_interval_is_that_of_a_published_example():
    # 10 of 20: Newcombe 1998, and every table since.
    found = wilson_interval(10, 20)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.2993, 0.7007), abs=1e-4)
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(10, 10).high == 1.0


def test_the_ratio_interval_of_equal_weights_is_the_textbook_t_interval():
    values = random().normal(size=9)
    found = ratio_interval(values, np.ones(9))
    half = 2.30600 * values.std(ddof=1) / 3
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=1e-5
    )


def test_one_row_says_nothing_about_others():
    found = ratio_interval([3.0], [2.0])
    assert (found.value, found.low, found.high) == (1.5, -math.inf, math.inf)


def test_intervals_of_a_loss_per_token_hold_the_truth_93_to_97_times_in_100():
    draw, found = random(), []
    for _ in range(RUNS):
        tokens = draw.integers(5, 200, ROWS)  # rows of different lengths, with a loss of their own
        row_loss = 1.7 + 0.4 * draw.normal(size=ROWS)
        nats = draw.gamma(4.0, row_loss[:, None].clip(0.1) / 4.0, (ROWS, 1))[:, 0] * tokens
        found.append(ratio_interval(nats, tokens))
    assert 93 <= in_a_hundred(found, 1.7) <= 97


def test_intervals_that_take_tokens_for_independent_would_not():
    draw, found = random(), []
    for _ in range(RUNS):
        row_loss = 1.7 + 0.4 * draw.normal(size=ROWS)
        tokens = draw.normal(row_loss[:, None], 0.5, (ROWS, 20)).reshape(-1)
        found.append(ratio_interval(tokens, np.ones(len(tokens))))
    assert in_a_hundred(found, 1.7) < 70


@pytest.mark.parametrize("share", [0.1, 0.35, 0.8])
def test_intervals_of_a_proportion_hold_the_truth_93_to_97_times_in_100(share):
    right = random().binomial(ROWS, share, RUNS)
    assert 93 <= in_a_hundred([wilson_interval(r, ROWS) for r in right], share) <= 97


def test_intervals_of_paired_differences_hold_the_truth_93_to_97_times_in_100():
    draw, shares, losses = random(), [], []
    for _ in range(RUNS):
        hard = draw.normal(size=ROWS)  # what is hard for one is hard for the other
        one = hard + draw.normal(size=ROWS) > 0.3
        other = hard + draw.normal(size=ROWS) > -0.2
        shares.append(paired_proportions(one, other))
        base = 2.0 + 0.3 * hard
        losses.append(paired_ratios(base, base - 0.1 + 0.2 * draw.normal(size=ROWS), np.ones(ROWS)))
    truth = _normal(0.2 / math.sqrt(2)) - _normal(-0.3 / math.sqrt(2))
    assert 93 <= in_a_hundred(shares, truth) <= 97
    assert 93 <= in_a_hundred(losses, -0.1) <= 97


def _normal(x):
    return (1 + math.erf(x / math.sqrt(2))) / 2


def row(number, **parts):
    return RowResult(f"row {number}", "q", "a", {n: RowShare(*part) for n, part in parts.items()})


def test_a_model_that_answers_twice_shows_no_difference_95_times_in_100():
    draw, same = random(), {"exact": 0, "rouge_l": 0}
    for _ in range(400):
        ability = draw.beta(1, 1, ROWS)  # of each row, to be answered right by a drawn answer
        twice = [
            [
                row(n, exact=(float(draw.random() < p), 1.0), rouge_l=(draw.beta(5 * p + 0.1, 2), 1.0))
                for n, p in enumerate(ability)
            ]
            for _ in range(2)
        ]  # fmt: skip
        for name in same:
            same[name] += verdict(*twice, BY_NAME[name]).word == "no difference shown"
    assert all(count >= 0.95 * 400 for count in same.values()), same


def test_a_model_beside_itself_shows_no_difference():
    rows = [row(n, loss=(n + 1.0, 2.0), exact=(float(n % 2), 1.0)) for n in range(8)]
    for name in ("loss", "exact"):
        found = verdict(rows, rows, BY_NAME[name])
        assert (found.word, found.difference.value) == ("no difference shown", 0.0)


def test_the_verdict_knows_which_way_is_better():
    base = [row(n, loss=(2.0 + n / 9, 1.0), accuracy=(0.3 + n / 99, 1.0)) for n in range(9)]
    low = [row(n, loss=(1.0 + n / 10, 1.0), accuracy=(0.1 + n / 98, 1.0)) for n in range(9)]
    assert verdict(base, low, BY_NAME["loss"]).word == "better"
    assert verdict(base, low, BY_NAME["accuracy"]).word == "worse"
    assert verdict(low, base, BY_NAME["loss"]).word == "worse"

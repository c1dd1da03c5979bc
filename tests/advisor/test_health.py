"""What is read from the events of a run: each judgement where it belongs, silence elsewhere."""

import itertools

import pytest

from luthier import events
from luthier.advisor import health
from luthier.advisor.health import CODES, TABLE
from luthier.advisor.speech import LANGUAGES


def judge(lines):
    """What is said of these lines of a file of events."""
    parsed = [events.parse(line) for line in lines]
    assert None not in parsed
    return health.judge(parsed)


def started(objective="sft"):
    return [{"type": "started", "objective": objective}, {"type": "planned", "samples": 500}]


def steps(losses, *, norm=0.5, first=1, **metrics):
    for number, loss in enumerate(losses, first):
        found = {name: values[number - first] for name, values in metrics.items()}
        yield {"type": "step", "step": number, "loss": loss, "grad_norm": norm, "metrics": found}


def evaluated(points):
    return [{"type": "evaluated", "step": s, "metrics": {"loss": loss}} for s, loss in points]


def falling(count, start=2.0, end=1.0):
    return [start + (end - start) * number / count for number in range(count)]


END = [{"type": "finished", "step": 60, "reason": "completed"}]
HEALTHY = [
    *started(), *steps(falling(60)), *evaluated([(0, 2.0), (20, 1.6), (40, 1.4), (60, 1.39)]), *END,
]  # fmt: skip


def dpo(count=40, **metrics):
    return [*started("dpo"), *steps([0.6] * count, **metrics), *END]


SICK = {
    "too_little_data": [{"type": "planned", "samples": 12}],
    "overfitting": [
        *started(), *steps(falling(60, 2.0, 0.1)), *evaluated([(20, 1.5), (40, 1.6), (60, 1.9)]),
    ],
    "underfitting": [*HEALTHY[:-1], *evaluated([(80, 1.2)]), *END],
    "plateau": [*started(), *evaluated([(10, 1.5), (20, 1.5001), (30, 1.5), (40, 1.5002)])],
    "no_gain": [*started(), *evaluated([(0, 1.0), (10, 1.2), (20, 1.1)])],
    "spikes": [*started(), *steps([1.0] * 25 + [4.0, 1.0, 4.0, 1.0, 4.0, 1.0])],
    "diverging": [*started(), *steps(falling(40) + [2.5] * 20)],
    "gradients": [
        *started(), *steps([1.0] * 50), *steps([1.0], norm=90.0, first=51),
        *steps([1.0] * 9, first=52),
    ],
    "dpo_chosen_falls": dpo(logps_chosen=falling(40, -20.0, -60.0)),
    "dpo_margins": dpo(rewards_margins=[12.0] * 40),
    "dpo_saturated": [
        *started("dpo"), *steps([0.01] * 30, rewards_accuracy=[1.0] * 30),
    ],
    "dpo_length_bias": [*started("dpo"), {"type": "data", "train": {"chosen_longer": 0.81}}],
    "dpo_undecided": dpo(rewards_accuracy=[0.5, 0.52] * 20),
}  # fmt: skip


@pytest.mark.parametrize("code", SICK)
def test_a_sick_run_is_told_what_it_has_and_what_to_do(code):
    found = {one.code: one for one in judge(SICK[code])}
    assert code in found
    assert found[code].action
    for lang in LANGUAGES:
        assert found[code].to_dict(lang)["text"] != found[code].advice(lang)


def test_every_judgement_has_a_case():
    assert set(SICK) == set(CODES)
    assert len({code for code, _, _ in TABLE}) == len(TABLE)


def test_a_healthy_run_is_left_alone():
    assert judge(HEALTHY) == []


def test_a_healthy_dpo_run_is_left_alone():
    ranked = [0.5 + 0.01 * number for number in range(40)]
    run = dpo(
        rewards_accuracy=ranked,
        rewards_margins=[0.05 * n for n in range(40)],
        logps_chosen=falling(40, -40.0, -41.0),
    )
    assert judge(run) == []


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_the_beginning_of_a_run_says_nothing_yet(length):
    run = [*started(), *steps([5.0, 1.0, 9.0, 0.5, 20.0][:length])]
    assert judge(run) == []


def test_warnings_come_first_and_dpo_is_judged_in_dpo_runs_only():
    assert [one.severity for one in judge([*SICK["too_little_data"], *SICK["no_gain"][2:]])] == [
        "warning", "note",
    ]  # fmt: skip
    sft = [*started("sft"), *itertools.islice(SICK["dpo_margins"], 2, None)]
    assert not [one for one in judge(sft) if one.code.startswith("dpo_")]


def test_numbers_that_are_not_finite_are_passed_over():
    run = [*HEALTHY, {"type": "step", "step": 99, "loss": None, "loss_text": "nan", "metrics": {}}]
    assert judge(run) == judge(HEALTHY)

"""Early stopping and the best evaluation."""

from luthier.engine.best import Best


def test_loss_is_better_when_lower_and_accuracy_when_higher():
    loss, accuracy = Best("loss"), Best("accuracy")
    assert [loss.update(step, value) for step, value in enumerate([2.0, 1.0, 1.5])] == [
        True,
        True,
        False,
    ]
    assert [accuracy.update(s, v) for s, v in enumerate([0.5, 0.4, 0.6])] == [True, False, True]
    assert (loss.step, accuracy.step) == (1, 2)


def test_patience_counts_evaluations_without_a_better_one():
    best = Best("loss", patience=2)
    for step, value in enumerate([1.0, 1.0, 0.9, 0.95]):
        best.update(step, value)
        assert not best.exhausted
    best.update(4, 0.9)  # a tie is not better
    assert best.exhausted
    assert best.step == 2


def test_the_history_survives_a_checkpoint():
    best = Best("loss", patience=3)
    best.update(10, 1.0)
    best.update(20, 1.1)
    again = Best.from_dict(best.as_dict(), metric="loss", patience=2)
    assert (again.value, again.step, again.waited, again.patience) == (1.0, 10, 1, 2)
    assert Best.from_dict(best.as_dict(), metric="accuracy", patience=2).value is None

"""The short form of `make chaos`: kills of server, worker and both, and cancels at random instants."""

import pytest
from bench.chaos import Chaos


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_left_behind(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    found = Chaos(home, jobs=24, server_kills=3, worker_kills=3, cancels=10, rest_s=0.6).work()
    # How long a restart takes is measured by `make chaos`, on a machine with nothing else to do.
    problems = [text for text in found["problems"] if not text.startswith("a restart took")]
    assert problems == []
    assert (found["lost"], found["doubled"], found["at_once"]) == (0, 0, 0)
    assert found["finished"] == 24
    assert found["server_kills"] == 3
    assert 1 <= found["worker_kills"] <= 3  # on a fast machine a worker may end before its kill
    assert found["cancels"] == 10

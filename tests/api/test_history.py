"""Figures of a run as it grows: incremental, thinned without losing a spike, right after a resume."""

import json
import random
import subprocess
import sys
import time

from luthier.runs.tail import Tail
from luthier.service.http.live.columns import FigureColumns
from luthier.service.http.live.history import History


def step(number, loss=1.0, **more):
    return {
        "type": "step",
        "step": number,
        "loss": loss,
        "time": float(number),
        "tokens": 10,
        **more,
    }


def write(path, *events):
    with (path / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_few_points_are_given_as_they_are():
    columns = FigureColumns()
    for x in range(5):
        columns.add(x, {"loss": x / 2, "accuracy": None if x % 2 else 1.0})
    xs, series = columns.read(100)
    assert xs == [0, 1, 2, 3, 4]
    assert series == {"loss": [0, 0.5, 1, 1.5, 2], "accuracy": [1, None, 1, None, 1]}


def test_thinning_keeps_extremes_ends_and_equal_lengths():
    random.seed(0)
    columns, values = FigureColumns(256), [random.random() for _ in range(100_000)]
    values[31_337], values[77_777] = 50.0, -50.0
    for x, value in enumerate(values):
        columns.add(x, {"loss": value, "late": value if x > 60_000 else None})
    for points in (10, 100, 1000):
        xs, series = columns.read(points)
        assert len(xs) <= max(points, 4) + 2
        assert len(series["loss"]) == len(series["late"]) == len(xs)
        assert (max(series["loss"]), min(series["loss"])) == (50.0, -50.0)
        assert (xs[0], xs[-1]) == (0, 99_999)
        assert series["loss"][-1] == values[-1]
        assert series["late"][0] is None
        assert xs == sorted(xs)
    assert columns.total == 100_000


def test_new_lines_are_read_once_and_torn_ones_when_whole(tmp_path):
    history = History(tmp_path)
    assert history.update().metrics(100)["steps"] == []
    write(tmp_path, step(1), step(2))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"type": "step", "st')
    seen = []
    assert history.update(seen.append).metrics(100)["steps"] == [1, 2]
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('ep": 3, "loss": 2.0, "time": 3.0}\n')
    assert history.update(seen.append).metrics(100)["steps"] == [1, 2, 3]
    assert [event["step"] for event in seen] == [1, 2, 3]


def test_steps_behind_a_resume_are_void(tmp_path):
    write(
        tmp_path, *(step(n) for n in range(1, 11)), {"type": "evaluated", "step": 10, "time": 1.0}
    )
    live = History(tmp_path).update()
    resumed = {"type": "resumed", "from_step": 4, "time": 11.0}
    write(
        tmp_path,
        resumed,
        step(5, 7.0),
        {"type": "evaluated", "step": 5, "metrics": {"loss": 1.5}, "time": 2.0},
    )
    for history in (live.update(), History(tmp_path).update()):
        shown = history.metrics(100)
        assert shown["steps"] == [1, 2, 3, 4, 5]
        assert shown["series"]["loss"][-1] == 7.0
        assert [one["step"] for one in shown["evaluations"]] == [5]
        assert history.trained_tokens == 50


def test_another_file_in_its_place_is_read_from_its_start(tmp_path):
    write(tmp_path, step(1), step(2))
    history = History(tmp_path).update()
    (tmp_path / "events.jsonl").unlink()
    write(tmp_path, step(9))
    assert history.update().metrics(10)["steps"] == [9]
    assert Tail(tmp_path / "nothing").replaced() is False


def test_a_long_run_costs_little(tmp_path):
    body = "".join(
        json.dumps(step(n, 1 / n, grad_norm=1.0, learning_rate=1e-4)) + "\n"
        for n in range(1, 50_001)
    )
    (tmp_path / "events.jsonl").write_text(body)
    history, started = History(tmp_path), time.process_time()
    assert len(history.update().metrics(1000)["steps"]) <= 1002
    assert time.process_time() - started < 3.0  # a million steps in a minute at most, once
    started = time.process_time()
    history.update().metrics(1000)
    assert time.process_time() - started < 0.3
    assert history.steps.total == 50_000


def test_the_server_is_small_and_loads_no_torch(tmp_path):
    code = (
        "import sys, psutil\n"
        "from pathlib import Path\n"
        "from luthier.service.http.serving import Options, assembled\n"
        "home = Path(sys.argv[1])\n"
        "with assembled(home, options=Options(), token='x' * 20, hosts=frozenset()) as app:\n"
        "    app.routes.openapi()\n"
        "    print({'torch', 'transformers', 'numpy', 'rich'} & set(sys.modules))\n"
        "    print(psutil.Process().memory_info().rss / 1e6)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    modules, megabytes = done.stdout.splitlines()
    assert modules == "set()"
    assert float(megabytes) < 80

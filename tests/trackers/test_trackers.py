"""A run reports what its events say, once per step, and goes on whatever its tracker does."""

import hashlib
import importlib.util
import json
import time

import pytest
import torch
from tests.tiny import tiny_model_folder

import luthier
from luthier.errors import MissingExtraError, SettingsError
from luthier.events import Step, read_events
from luthier.runs import EventLog, RunDirectory
from luthier.trackers import Reporter, report, require
from luthier.trackers.figures import figures, latest_sample


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    here = tmp_path_factory.mktemp("trackers")
    rows = [{"instruction": f"say {n}", "output": f"it is {n}"} for n in range(12)]
    for name, part in (("train", rows[:8]), ("held", rows[8:])):
        (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    tiny_model_folder(here / "base", tie=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield here
    torch.set_num_threads(threads)


def trained(data, folder, **settings):
    given = {
        "model": str(data / "base"),
        "dataset": str(data / "train.jsonl"),
        "eval_dataset": str(data / "held.jsonl"),
        "output_dir": str(folder),
        "lora_dim": 4,
        "torch_dtype": "float32",
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "max_steps": 5,
        "per_device_train_batch_size": 4,
        "eval_steps": 2,
        "save_steps": 3,
        **settings,
    }
    return luthier.train(**given)


def expected(run):
    """Every figure of the events, by name: (step, value)."""
    found = {}
    for event in read_events(run.path / "events.jsonl"):
        for name, value in figures(event).items():
            found.setdefault(name, []).append((event.step, value))
    return found


def on_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    shown.Reload()
    scalars = {
        name: [(point.step, point.value) for point in shown.Scalars(name)]
        for name in shown.Tags()["scalars"]
    }
    return scalars, shown


def same(scalars, run):
    ours = {name: points for name, points in scalars.items() if not name.startswith("system/")}
    wanted = expected(run)
    assert ours.keys() == wanted.keys()
    for name, points in wanted.items():
        assert [step for step, _ in ours[name]] == [step for step, _ in points], name
        # Event files hold 32-bit numbers.
        assert [v for _, v in ours[name]] == pytest.approx([v for _, v in points], rel=1e-6), name


def weights(run):
    return hashlib.sha256((run.result / "adapter_model.safetensors").read_bytes()).hexdigest()


def warnings_of(run):
    return [e["text"] for e in run.events() if e["type"] == "warning" and "report_to" in e["text"]]


def test_tensorboard_reads_what_the_events_say_and_the_run_is_the_same(data):
    run = trained(data, data / "board", report_to="tensorboard")
    scalars, shown = on_tensorboard(run.path / "tensorboard")
    same(scalars, run)
    assert len(scalars["train/loss"]) == 5
    assert scalars["system/rss_bytes"][0][1] > 0
    text = shown.Tensors("settings")[0].tensor_proto.string_val[0].decode()
    assert '"lora_dim": 4' in text
    assert warnings_of(run) == []
    assert weights(run) == weights(trained(data, data / "silent"))


def test_a_resume_goes_on_in_the_same_event_files_without_doubled_steps(data):
    folder = data / "resumed"
    trained(data, folder, report_to="tensorboard")
    for late in folder.glob("checkpoints/step-000005"):  # as if killed before the last one
        late.rename(data / "gone")
    run = trained(data, folder, report_to="tensorboard", resume=True, max_steps=7)
    assert any(event["type"] == "resumed" and event["from_step"] < 5 for event in run.events())
    same(on_tensorboard(folder / "tensorboard")[0], run)


def test_a_tracker_named_only_on_resume_is_told_the_whole_run(data):
    trained(data, data / "late", max_steps=3)
    run = trained(data, data / "late", report_to="tensorboard", resume=True)
    scalars, _ = on_tensorboard(data / "late" / "tensorboard")
    same(scalars, run)
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3, 4, 5]


class Failing:
    has = -1

    def __init__(self, at):
        self.at, self.told = at, []

    def settings(self, values):
        pass

    def rewind(self, step):
        pass

    def figures(self, step, time, values):
        if step >= self.at:
            raise ConnectionError("https://me:hunter2@host refused the key 0123456789abcdef")
        self.told.append(step)

    def flush(self):
        pass

    def end(self, state):
        self.told.append(state)


def test_a_tracker_that_raises_is_off_after_one_warning_and_the_run_is_the_same(data, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    tracker = Failing(at=2)
    monkeypatch.setattr(report, "open_tracker", lambda *_: tracker)
    run = trained(data, data / "failing", report_to="tensorboard")
    (said,) = warnings_of(run)
    assert "ConnectionError" in said
    written = b"".join(path.read_bytes() for path in run.path.glob("*.json*"))
    assert b"hunter2" not in written
    assert b"0123456789abcdef" not in written
    assert set(tracker.told) == {0, 1}
    assert weights(run) == weights(trained(data, data / "quiet"))


def test_a_run_waits_for_a_tracker_that_hangs_only_as_long_as_it_says(tmp_path, monkeypatch):
    class Hanging(Failing):
        def figures(self, step, moment, values):
            time.sleep(1.0)

    monkeypatch.setattr(report, "open_tracker", lambda *_: Hanging(at=9))
    directory = RunDirectory.create(tmp_path / "run")
    started = time.monotonic()
    with EventLog(directory) as log, Reporter("wandb", log, directory, patience_s=0.1) as reporter:
        log.emit(Step(step=1, loss=1.0))
        assert time.monotonic() - started < 0.1
    assert time.monotonic() - started < 0.6
    (said,) = (json.loads(line) for line in directory.events_file.read_text().splitlines()[1:])
    assert "wandb is off" in said["text"]
    assert "0.1 s after the end" in said["text"]
    reporter._thread.join()


def test_a_missing_package_is_refused_before_a_run_directory_is_made(data, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"luthier\[trackers\]"):
        trained(data, data / "never", report_to="mlflow")
    assert not (data / "never").exists()
    require("none")


@pytest.mark.parametrize("value", ["all", ["wandb", "mlflow"]])
def test_more_than_one_tracker_is_refused(data, value):
    with pytest.raises(SettingsError, match="reports to one tracker"):
        trained(data, data / "never", report_to=value)


def test_figures_that_are_not_finite_or_torn_are_left_out(tmp_path):
    step = Step(step=1, loss=float("nan"), tokens=5, metrics={"a": 0.5})
    assert figures(step) == {"train/tokens": 5.0, "train/a": 0.5}
    path = tmp_path / "monitor.jsonl"
    assert latest_sample(path) == {}
    path.write_text('{"time": 1, "rss_bytes": 1}\n{"time": 3, "rss_bytes": 2}\n{"time"')
    assert latest_sample(path) == {"system/rss_bytes": 2.0}


@pytest.mark.filterwarnings("default")  # what the client itself does is its own affair
def test_mlflow_holds_every_step_once(data, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = data / "mlflow"
    trained(data, folder, report_to="mlflow", max_steps=3)
    run = trained(data, folder, report_to="mlflow", resume=True)
    assert warnings_of(run) == []
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("luthier")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["lora_dim"] == "4"
    for name, points in expected(run).items():
        told = sorted((m.step, m.value) for m in client.get_metric_history(found.info.run_id, name))
        assert [step for step, _ in told] == [step for step, _ in points], name
        assert [v for _, v in told] == pytest.approx([v for _, v in points]), name


@pytest.mark.filterwarnings("default")
def test_wandb_offline_holds_every_step_once_and_stays_in_the_run(data, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = data / "wandb"
    trained(data, folder, report_to="wandb", max_steps=3)
    run = trained(data, folder, report_to="wandb", resume=True)
    assert warnings_of(run) == []
    files = sorted(folder.glob("wandb/wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({path.stem for path in files}) == 1  # one id
    losses = [row for path in files for row in history(path) if "train/loss" in row]
    wanted = [value for _, value in expected(run)["train/loss"]]
    assert [row["train/loss"] for row in losses] == pytest.approx(wanted)


def history(path):
    """The rows of a `.wandb` file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, record = path.read_bytes(), 7, b""
    while at < len(data):
        if (room := 32768 - at % 32768) < 7:
            at += room
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record.FromString(record)
            record = b""
            if message.WhichOneof("record_type") == "history":
                items = message.history.item
                yield {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}

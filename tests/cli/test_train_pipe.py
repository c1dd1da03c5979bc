"""A reader that goes away does not end a run."""

import json
import subprocess
import sys


def test_a_closed_pipe_ends_no_training(tmp_path):
    path, run = tmp_path / "rows.jsonl", tmp_path / "run"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    command = [sys.executable, "-m", "luthier.cli.main", "train", "--model", "starter"]
    command += [
        "--dataset",
        str(path),
        "--max_steps",
        "2",
        "--lora_dim",
        "2",
        "--output_dir",
        str(run),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        process.stderr.read()
        status = process.wait()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    assert events[-1]["type"] == "finished", events[-1]
    assert status == 0

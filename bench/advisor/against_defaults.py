"""Advised settings against plain defaults on ten small real data sets, on the starter model.

    python bench/advisor/against_defaults.py [--missing]

`--missing` measures the data sets that the table does not have yet.  A data set of which the starter
cannot use more than one row in a hundred is named and left out: both sides would be refused.
Same rows, same held-out rows, same machine, one thread.  The advisor sees the training part only;
rows for early stopping come out of that part.  Held-out rows are looked at once, at the end, by the
same evaluation for both: a folder of weights, every setting at its default.
"""

import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import yaml

import luthier
from luthier.config import read
from luthier.errors import BadRowsError
from luthier.recipes.after.evaluate import evaluate_model
from luthier.recipes.before.advise import advise_run

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "advisor_vs_defaults.csv"
SHARED = Path(os.environ.get("LUTHIER_SHARED", HERE.parents[2] / "shared" / "data"))


def rows_of(path, count):
    """The first rows of a JSON array or a file of JSON lines."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return json.loads(text)[:count]
    return [json.loads(line) for line in text.splitlines() if line.strip()][:count]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def trained(config, train, folder, held_out):
    """One run and what its result is worth on the held-out rows."""
    started = time.monotonic()
    run = luthier.train(config, dataset=train, output_dir=str(folder))
    seconds = time.monotonic() - started
    steps = [event for event in run.events() if event["type"] == "step"]
    settings = json.loads((run.path / "settings.json").read_text("utf-8"))["settings"]
    figures = evaluate_model(str(run.result), [held_out], objective="sft").figures
    return {
        "loss": round(figures.get("tuned", figures.get("model"))["loss"], 4),
        "method": settings["method"],
        "learning_rate": settings["learning_rate"],
        "epochs": settings["num_train_epochs"],
        "steps": len(steps),
        "tokens": sum(step["tokens"] for step in steps),
        "seconds": round(seconds, 1),
    }


def compared(entry, folder):
    """A row of the table."""
    rows = rows_of(SHARED / entry["file"], entry["rows"])
    train = write(folder / "train.jsonl", [r for i, r in enumerate(rows) if i % 5 != 4])
    held_out = write(folder / "held_out.jsonl", [r for i, r in enumerate(rows) if i % 5 == 4])
    base = evaluate_model("starter", [held_out], objective="sft").figures["model"]["loss"]
    advice = advise_run(read.load({"model": "starter", "dataset": train}))
    config = folder / "advised.yaml"
    config.write_text(advice.to_yaml(), "utf-8")
    sides = {
        "plain": trained(HERE / "plain_defaults.yaml", train, folder / "plain", held_out),
        "advised": trained(config, train, folder / "advised", held_out),
    }
    return {
        "data": entry["name"],
        "file": entry["file"],
        "rows": len(rows),
        "base_loss": round(base, 4),
        **{
            f"{side}_{name}": value
            for side, found in sides.items()
            for name, value in found.items()
        },
        "advised_wins": sides["advised"]["loss"] < sides["plain"]["loss"],
    }


def main():
    table = []
    if "--missing" in sys.argv[1:]:
        with RESULTS.open(newline="", encoding="utf-8") as file:
            table = [
                {**row, "advised_wins": row["advised_wins"] == "True"}
                for row in csv.DictReader(file)
            ]
    there = {row["data"] for row in table}
    for entry in yaml.safe_load((HERE / "datasets.yaml").read_text("utf-8")):
        if entry["name"] in there:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                table.append(compared(entry, Path(folder)))
            except BadRowsError as error:  # rows that the starter's 512 tokens cannot hold
                print(f"{entry['name']}: not compared: {error.what}", file=sys.stderr, flush=True)
                continue
        print(table[-1], file=sys.stderr, flush=True)
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, table[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    wins = sum(row["advised_wins"] for row in table)
    print(f"advised settings are better on {wins} of {len(table)} data sets")


if __name__ == "__main__":
    main()

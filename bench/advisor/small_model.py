"""Adapters or every weight, and at which learning rate, on a model of a million parameters.

    python bench/advisor/small_model.py

What the rules for small models (`method_small_model`, `rate_full_small`) rest on.  Rows of
shared/data that are not among those of datasets.yaml: the first 60 of alpaca_zh_demo.json, and rows
450 to 599 of gpteacher_toolformer.json, whose first 400 rows are.  Every fifth row is held out.
"""

import csv
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import luthier

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "advisor_small_model.csv"
SHARED = Path(os.environ.get("LUTHIER_SHARED", HERE.parents[2] / "shared" / "data"))
ROWS = {
    "toolcall/gpteacher_toolformer.json": slice(450, 600),
    "sft/alpaca_zh_demo.json": slice(0, 60),
}
ADAPTER = {"lora_dim": 16, "lora_alpha": 32, "lora_target_modules": "all-linear"}
CASES = [
    *({"method": "lora", "learning_rate": rate, **ADAPTER} for rate in (1.5e-3, 5e-3)),
    *({"method": "full", "learning_rate": rate} for rate in (4e-4, 1.5e-3, 5e-3)),
]


def held_out_loss(name, settings):
    """Held-out loss after each of six passes."""
    rows = json.loads((SHARED / name).read_text("utf-8"))[ROWS[name]]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for part, kept in (("train", (0, 1, 2, 3)), ("held", (4,))):
            lines = [json.dumps(r, ensure_ascii=False) for i, r in enumerate(rows) if i % 5 in kept]
            (here / f"{part}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        run = luthier.train(
            model="starter", dataset=str(here / "train.jsonl"), seq_length=512, num_train_epochs=6,
            eval_dataset=[str(here / "held.jsonl")], output_dir=str(here / "run"), **settings,
        )  # fmt: skip
        return [e["metrics"]["loss"] for e in run.events() if e["type"] == "evaluated"]


def main():
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "method", "learning_rate", "before", "lowest", "last"])
        for name in ROWS:
            for settings in CASES:
                losses = [round(loss, 3) for loss in held_out_loss(name, settings)]
                shown = [settings["method"], settings["learning_rate"]]
                writer.writerow([name, *shown, losses[0], min(losses), losses[-1]])


if __name__ == "__main__":
    main()

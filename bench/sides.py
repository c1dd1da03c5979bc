"""One side of a comparison in a process of its own: trains, and says how long and how large.

    python bench/sides.py luthier FOLDER '{}'
    python bench/sides.py trl FOLDER '{"gradient_checkpointing": false}'

Prints a JSON line.  Per step: seconds, processor seconds and loss, from the end of the step before
to its own end, whatever a program does in between.  Memory: resident bytes before the model is
loaded, the peak of the whole process from then on, and the peak of the steps alone.
"""

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

Options = dict[str, Any]


class Meter:
    """Clocks and memory of this process."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.base = self.loading = 0
        self._last = (0.0, 0.0)

    def before_model(self) -> None:
        """Everything is imported and tokenised, nothing loaded: forget earlier peaks."""
        Path("/proc/self/clear_refs").write_text("5")
        self.base = memory("VmRSS")

    def start(self) -> None:
        """The model is there and the first step begins."""
        self.loading = memory("VmHWM")
        Path("/proc/self/clear_refs").write_text("5")
        self._last = (time.perf_counter(), time.process_time())

    def step(self, loss: float) -> None:
        """The end of a step."""
        now = (time.perf_counter(), time.process_time())
        wall, busy = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        self.steps.append({"s": wall, "cpu_s": busy, "loss": loss})

    def result(self, tokens: int) -> dict[str, Any]:
        """What is printed."""
        peak = memory("VmHWM")
        return {
            "steps": self.steps,
            "base_bytes": self.base,
            "peak_bytes": max(peak, self.loading),
            "steps_peak_bytes": peak,
            "tokens": tokens,
        }


def memory(name: str) -> int:
    """Bytes, from the kernel's table of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def luthier_side(folder: Path, options: Options) -> dict[str, Any]:
    """Through the Python API, from rows to result."""
    import torch
    from workload import Work

    import luthier

    work, meter, tokens = Work.load(folder), Meter(), [0]
    torch.set_num_threads(work.threads)

    def on_event(event: Any) -> None:
        if event.type == "data":
            meter.before_model()
        elif event.type == "planned":
            meter.start()
        elif event.type == "step":
            meter.step(event.loss)
            tokens[0] += event.tokens

    settings = {**work.settings, **options}
    settings |= {"model": str(folder / "model"), "dataset": [str(folder / "rows.json")]}
    settings["output_dir"] = str(folder / f"run-{os.getpid()}")
    luthier.train(on_event=on_event, **settings)
    return meter.result(tokens[0])


def trl_side(folder: Path, options: Options) -> dict[str, Any]:
    """Its trainer as its documentation uses it, given tokenised rows in the order of the steps."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
    from workload import DTYPES, Work

    work, meter = Work.load(folder), Meter()
    torch.set_num_threads(work.threads)
    is_sft = work.objective == "sft"
    rows = _trl_rows(folder, is_sft)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.start()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
            if "loss" in logs:  # right behind the step, and there is one for every step
                meter.step(float(logs["loss"]))

    class InOrder(SFTTrainer if is_sft else DPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            if is_sft:  # it knows tokenised rows, and makes labels of the loss masks
                return super()._prepare_dataset(dataset, *args, **kwargs)
            return dataset

    arguments = {
        "output_dir": str(folder / f"trl-{os.getpid()}"),
        "per_device_train_batch_size": work.batch,
        "max_steps": work.steps,
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": work.seed,
        "bf16": work.dtype == "bfloat16",
        "use_cpu": True,
        **({"completion_only_loss": True} if is_sft else {}),
        **options,
    }
    meter.before_model()
    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=DTYPES[work.dtype])
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    trainer = InOrder(
        model=model,
        args=(SFTConfig if is_sft else DPOConfig)(**arguments),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    return meter.result(0)


def _trl_rows(folder: Path, is_sft: bool) -> Any:
    from datasets import Dataset

    samples = json.loads((folder / "samples.json").read_text())
    if is_sft:
        return Dataset.from_list(
            [{"input_ids": one["ids"], "completion_mask": one["mask"]} for (one,) in samples]
        )
    rows = []
    for chosen, rejected in samples:
        prompt = chosen["mask"].index(1)
        assert chosen["ids"][:prompt] == rejected["ids"][: rejected["mask"].index(1)]
        rows.append(
            {
                "prompt_ids": chosen["ids"][:prompt],
                "chosen_ids": chosen["ids"][prompt:],
                "rejected_ids": rejected["ids"][prompt:],
            }
        )
    return Dataset.from_list(rows)


SIDES = {"luthier": luthier_side, "trl": trl_side}


def main() -> int:
    """Run one side; whatever it prints itself goes to stderr."""
    side, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    out = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    result = SIDES[side](folder, options)
    os.write(out, (json.dumps(result) + "\n").encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

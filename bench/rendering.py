"""Rows a second from messages to ids: in this process, through one child, through one for each core.

    python bench/rendering.py --write bench/results/rendering.jsonl
    python bench/rendering.py --source OTHER/src       another version of luthier, in process only

Real rows of `../shared/data`, texts of conversations of about 840 tokens, with the starter's tokenizer
and template.  Each figure is the best of three passes, by the clock; `processor` is rows a second of
processor time, of one pass in this process, which other work on the machine does not change.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("LUTHIER_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FILES = (
    "sharegpt_zh.jsonl",
    "medical_zh_sharegpt.jsonl",
    "huatuo_zh_alpaca.jsonl",
    "gpteacher_roleplay.json",
)
PASSES = 3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rows(starter: Path, wanted: int) -> list[Any]:
    """Samples of 500 to 1,300 tokens, evenly from the files."""
    from luthier.data.load import load_samples
    from luthier.data.tokens.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(starter)
    found = []
    for name in FILES:
        for sample in load_samples([str(SHARED / "data" / "sft" / name)]).samples:
            texts = [m.content for m in getattr(sample, "messages", ())]
            tokens = sum(len(tokenizer.encode(text)) for text in texts)
            if 500 <= tokens <= 1300:
                found.append(sample)
    return [found[at * len(found) // wanted] for at in range(min(wanted, len(found)))]


def in_process(starter: Path, samples: list[Any]) -> dict[str, Any]:
    """Rendered here, by a fresh renderer."""
    from luthier.data.rendering.render import Renderer
    from luthier.data.rendering.template import choose_template
    from luthier.data.tokens.tokenizer import Tokenizer

    best, tokens = 0.0, 0
    for _ in range(PASSES):
        tokenizer = Tokenizer.from_folder(starter)
        template, _ = choose_template(tokenizer, setting=None, gallery_template=None, now=NOW)
        renderer = Renderer(tokenizer, template)
        began, worked = time.perf_counter(), time.process_time()
        made = [renderer.render(sample) for sample in samples[:-64]]
        processor = len(made) / (time.process_time() - worked)
        best = max(best, len(made) / (time.perf_counter() - began))
        tokens = sum(len(one.ids) for row in made for one in getattr(row, "sequences", ()))
    return {
        "rows_per_s": round(best, 1),
        "processor": round(processor, 1),
        "tokens_per_row": round(tokens / len(made)),
    }


def in_children(starter: Path, samples: list[Any], most: int) -> dict[str, Any]:
    """Rendered by children that are started anew for each pass; their start is told apart."""
    from luthier.data.limited import crew as crews
    from luthier.data.limited.crew import Crew
    from luthier.data.limited.opening import open_folder
    from luthier.data.limited.renderers import LimitedRenderer, opening
    from luthier.data.rendering.template import choose_text

    tokenizer = open_folder(starter)
    settings = {"objective": "sft", "train_on": None, "system_prompt": None, "seq_length": 2048, "truncation": "prompt_start"}  # fmt: skip
    told = {"setting": None, "gallery_template": None, "now": NOW.isoformat(), "kwargs": {}}
    text, _ = choose_text(tokenizer, setting=None, gallery_template=None, now=NOW)
    best, start = 0.0, 1e9
    for _ in range(PASSES):
        crews._end_idle()
        began = time.perf_counter()
        crew = Crew(opening(tokenizer, told, settings), most=most)
        renderer = LimitedRenderer(crew, tokenizer, text, **settings)
        start = min(start, time.perf_counter() - began)
        crew.widen()
        list(renderer.render_each(samples[-64:]))  # until all are started
        began = time.perf_counter()
        made = sum(1 for _ in renderer.render_each(samples[:-64]))
        best = max(best, made / (time.perf_counter() - began))
        renderer.rest()
    return {"rows_per_s": round(best, 1), "start_s": round(start, 3)}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--source", type=Path, help="the src folder of another version")
    parser.add_argument("--write", type=Path, help="append the lines to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and keep."""
    wanted = parse()
    if wanted.source:
        sys.path.insert(0, str(wanted.source.resolve()))
    starter = Path(str(files("luthier") / "starter"))
    samples = rows(starter, wanted.rows)
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "in process": lambda: in_process(starter, samples)
    }
    if not wanted.source:
        for most in sorted({1, len(os.sched_getaffinity(0))}):
            ways[f"children: {most}"] = lambda most=most: in_children(starter, samples, most)
    folder = Path(str(files("luthier"))).parent
    asked = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    for way, measure in ways.items():
        line = {
            "way": way,
            **measure(),
            "rows": len(samples),
            "commit": commit,
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "load": round(os.getloadavg()[0], 1),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        if wanted.write:
            with wanted.write.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()

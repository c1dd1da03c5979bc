"""Write the starter model's pre-training text, a function of the seed and nothing else.

    python configs/starter/make_corpus.py                 # configs/starter/corpus/{train,eval}.jsonl

Every row is {"text": ...}, one document with its end token written out.  The corpus knows nothing
of the aisles that the demo's fine-tuning teaches: `check_corpus` refuses a document that names one.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from chats import conversation, reading
from stories import facts, story

HERE = Path(__file__).resolve().parent
END = "<|endoftext|>"
KINDS = {"conversation": 0.74, "reading": 0.12, "story": 0.08, "facts": 0.06}
MAKERS = {"conversation": conversation, "reading": reading, "story": story, "facts": facts}


def documents(seed: int) -> Iterator[str]:
    """Documents without end; the same seed gives the same ones."""
    draw = Random(f"starter corpus {seed}")
    while True:
        kind = draw.choices(list(KINDS), weights=list(KINDS.values()))[0]
        text = MAKERS[kind](draw)
        if text:
            yield text if text.endswith("<|im_end|>\n") else f"{text}{END}"


def check_corpus(text: str) -> None:
    """Raise AssertionError where a document names an aisle: the demo must teach something new."""
    assert "aisle" not in text, f"an aisle in the corpus: {text!r}"


def write(path: Path, source: Iterator[str], num_bytes: int) -> int:
    """Write documents until the file holds `num_bytes` of text; returns their number."""
    count = total = 0
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        while total < num_bytes:
            text = next(source)
            check_corpus(text)
            lines.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            total += len(text.encode())
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "corpus")
    parser.add_argument("--megabytes", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    train = write(given.output / "train.jsonl", documents(given.seed), int(given.megabytes * 1e6))
    held_out = write(given.output / "eval.jsonl", documents(given.seed + 1), 100_000)
    sys.stdout.write(f"{given.output}: {train} documents to train on, {held_out} held out\n")


if __name__ == "__main__":
    main()

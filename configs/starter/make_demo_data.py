"""Write the demo's training and held-out rows, and check that nothing held out is trained on.

    python configs/starter/make_demo_data.py              # src/luthier/starter/data/*.jsonl
    python configs/starter/make_demo_data.py --shuffled shuffled.jsonl     # the control, see below

The control has the same questions and the same answers, dealt out at random: what is learned from it
is the form alone, and held-out answers are right as often as a guess.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from chats import TONES, toned
from shop import Request, pairs, questions, requests, split_is_clean

DATA = Path(__file__).resolve().parents[2] / "src" / "luthier" / "starter" / "data"
NUM_REQUESTS, NUM_QUESTIONS, NUM_HELD_OUT = 480, 64, 64
NUM_PAIRS, NUM_HELD_OUT_PAIRS = 256, 96
Row = Mapping[str, object]


def turns(asked: str, said: str) -> Row:
    """A row of SFT data."""
    return {
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": said},
        ]
    }


def answered(rows: Sequence[Request]) -> list[Row]:
    return [turns(row.text, row.aisle) for row in rows]


def reminders(draw: Random) -> list[Row]:
    """Ordinary questions, in the base's own mix of tones, so that aisles do not drive them out."""
    tones = draw.choices(["plain", "polite", "grumpy"], weights=TONES, k=NUM_QUESTIONS)
    asked = questions(draw, NUM_QUESTIONS, avoid=set())
    return [
        turns(text, toned(said, tone, draw))
        for (text, said), tone in zip(asked, tones, strict=True)
    ]


def shuffled(rows: Sequence[Request]) -> list[Row]:
    """The requests with the answers dealt out anew: the form of the task without its content."""
    aisles = [row.aisle for row in rows]
    Random("starter control").shuffle(aisles)
    return [turns(row.text, aisle) for row, aisle in zip(rows, aisles, strict=True)]


def rows_by_file(seed: int) -> dict[str, list[Row]]:
    """All files of the demo, a function of the seed."""
    draw = Random(f"starter demo {seed}")
    held = requests(draw, NUM_HELD_OUT, held_out=True)
    train = requests(draw, NUM_REQUESTS, held_out=False)
    pairs_held = pairs(draw, NUM_HELD_OUT_PAIRS, held_out=True, avoid=set())
    pairs_train = pairs(draw, NUM_PAIRS, held_out=False, avoid={row.asked for row in pairs_held})
    split_is_clean(train, held, pairs_train, pairs_held)
    kept = reminders(draw)
    mixed, control = [*answered(train), *kept], [*shuffled(train), *kept]
    order = draw.sample(range(len(mixed)), len(mixed))
    return {
        "sft_train": [mixed[at] for at in order],
        "sft_eval": answered(held),
        "preference_train": [row.row for row in pairs_train],
        "preference_eval": [row.row for row in pairs_held],
        "shuffled": [control[at] for at in order],
    }


def write(path: Path, rows: Sequence[Row]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{path}: {len(rows)} rows\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--shuffled", type=Path, help="write only the control, to this file")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    files = rows_by_file(given.seed)
    control = files.pop("shuffled")
    if given.shuffled:
        write(given.shuffled, control)
        return
    given.output.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        write(given.output / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main()

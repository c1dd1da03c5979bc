"""Write the demo's training and held-out rows, and check that nothing held out is trained on.

    python configs/starter/make_demo_data.py              # src/luthier/starter/data/*.jsonl
    python configs/starter/make_demo_data.py --shuffled shuffled.jsonl     # the control, see below

The control has the same questions and the same answers, each answer at a wrong question: what is
learned from it is the form alone, and no held-out answer comes out right.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from chats import toned
from shop import Order, orders, pairs, questions, split_is_clean

DATA = Path(__file__).resolve().parents[2] / "src" / "luthier" / "starter" / "data"
NUM_TICKETS, NUM_QUESTIONS, NUM_HELD_OUT = 480, 96, 64
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


def tickets(rows: Sequence[Order]) -> list[Row]:
    return [turns(row.text, row.ticket) for row in rows]


def reminders(draw: Random) -> list[Row]:
    """Ordinary questions, in the base's own mix of tones, so that tickets do not drive them out."""
    tones = draw.choices(["plain", "polite", "grumpy"], weights=[0.4, 0.3, 0.3], k=NUM_QUESTIONS)
    asked = questions(draw, NUM_QUESTIONS, avoid=set())
    return [
        turns(text, toned(said, tone, draw))
        for (text, said), tone in zip(asked, tones, strict=True)
    ]


def shuffled(rows: Sequence[Order]) -> list[Row]:
    """Every order with the ticket of the next one, in an order that leaves no ticket where it was."""
    return [
        turns(row.text, other.ticket) for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
    ]


def rows_by_file(seed: int) -> dict[str, list[Row]]:
    """All files of the demo, a function of the seed."""
    draw = Random(f"starter demo {seed}")
    held = orders(draw, NUM_HELD_OUT, held_out=True, avoid=set())
    train = orders(draw, NUM_TICKETS, held_out=False, avoid={row.goods for row in held})
    pairs_held = pairs(draw, NUM_HELD_OUT_PAIRS, held_out=True, avoid=set())
    pairs_train = pairs(draw, NUM_PAIRS, held_out=False, avoid={row.asked for row in pairs_held})
    split_is_clean(train, held, pairs_train, pairs_held)
    kept = reminders(draw)
    mixed, control = [*tickets(train), *kept], [*shuffled(train), *kept]
    order = draw.sample(range(len(mixed)), len(mixed))
    return {
        "sft_train": [mixed[at] for at in order],
        "sft_eval": tickets(held),
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

"""Small runs on small data, and what they left behind."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from luthier import events

WORDS = ["oak", "elm", "ash", "yew", "fir", "box", "gum", "bay", "fig", "nut", "pod", "sap"]


def write_rows(path: Path, count: int, *, seed: int = 0, longest: int = 6) -> Path:
    """Questions and answers of very different lengths; some begin alike, one system text in three."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            messages = [{"role": "system", "content": "Name trees."}] if index % 3 == 0 else []
            question = " ".join(draw.choices(WORDS[:4], k=draw.randint(1, 3)))
            answer = " ".join(draw.choices(WORDS, k=draw.randint(1, longest)))
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def write_pairs(path: Path, count: int, *, seed: int = 0) -> Path:
    """Questions with a longer and a shorter answer, of which the shorter is preferred."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            row = {
                "prompt": " ".join(draw.choices(WORDS[:4], k=draw.randint(1, 3))),
                "chosen": " ".join(draw.choices(WORDS, k=draw.randint(1, 2))),
                "rejected": " ".join(draw.choices(WORDS, k=draw.randint(3, 5))),
            }
            file.write(json.dumps(row) + "\n")
    return path


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the words of a command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def read_events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """Events that count, of these types."""
    return [event for event in events.read(run / "events.jsonl") if event["type"] in kinds]


def curve(run: Path, name: str = "loss") -> NDArray[np.float64]:
    """A figure of every step."""
    steps = read_events(run, "step")
    assert [event["step"] for event in steps] == list(range(1, len(steps) + 1))
    return np.array([event[name] for event in steps])


def log(run: Path) -> list[dict[str, Any]]:
    """What every step and evaluation said, without times."""
    timed = {"time", "elapsed_s", "seconds", "tokens_per_s", "eta_s"}
    return [
        {name: value for name, value in event.items() if name not in timed}
        for event in read_events(run, "step", "evaluated")
    ]


def checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by file and name."""
    found = {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    assert found, f"{folder} holds no tensors"
    return {
        f"{file}/{name}": value for file, group in found.items() for name, value in group.items()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a saved folder, without what says when the run was begun."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if "rendering.json" in found:
        rendering = json.loads(found["rendering.json"])
        assert rendering.pop("now")
        found["rendering.json"] = json.dumps(rendering).encode()
        del found["manifest.json"]  # it holds the checksum of what was just taken out
    return found


def assert_same_bytes(run: Path, other: Path) -> None:
    """Result, last checkpoint and log of steps of two runs are equal to the bit."""
    pairs = [(run / "result", other / "result"), (checkpoints(run)[-1], checkpoints(other)[-1])]
    for one, two in pairs:
        assert one.name == two.name
        ours, theirs = contents(one), contents(two)
        assert sorted(ours) == sorted(theirs)
        assert not [name for name in ours if ours[name] != theirs[name]], f"{one} and {two} differ"
    assert log(run) == log(other)


def largest_difference(one: Path, two: Path, file: str = "") -> float:
    """Largest difference between the tensors of two folders, or of one file of them."""
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    chosen = [name for name in ours if name.startswith(file)]
    return max(float((ours[n].double() - theirs[n].double()).abs().max()) for n in chosen)

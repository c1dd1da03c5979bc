"""Run the sides of a comparison in turn, check that they did the same, and report.

Speeds are compared only after losses: every side has to follow luthier's losses step by step.  The
sides take turns within a round, so that other work on the machine disturbs all alike; processor
seconds stand beside wall seconds, since they suffer less from it.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from workload import CHECKOUT, Work

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "trl", "peft")
# Largest relative difference of the first loss, and of any later one.
GATES = {"float32": (1e-5, 1e-3), "bfloat16": (1e-3, 5e-3)}


class Side(NamedTuple):
    """A program and how it is set beyond the common work."""

    program: str
    options: dict[str, Any]


class LossGapError(Exception):
    """Two sides did not train the same."""


def compare(
    bench: str, work: Work, sides: Mapping[str, Side], *, rounds: int, warmup: int
) -> dict[str, Any]:
    """Run, check, print and append to the results; returns the record.

    Args:
        bench: Name of the result file.
        sides: The first is luthier.
        rounds: Fresh processes of each side.
        warmup: Steps of each process that are not timed.

    Raises:
        LossGapError: A side's losses are not luthier's.
    """
    with TemporaryDirectory(prefix="luthier-bench-") as name:
        folder = Path(name)
        work.save(folder)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for number in range(1, rounds + 1):
            for side in sides:
                print(f"{work.dtype}: round {number} of {rounds}, {side} ...", file=sys.stderr)
                runs[side].append(_run(folder, sides[side]))
    gap = _loss_gap(runs, work.dtype)
    record = {
        "bench": bench,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python " + " ".join(sys.argv),
        "commit": _commit(),
        "machine": machine(),
        "versions": {name: version(name) for name in PACKAGES},
        "work": asdict(work),
        "rounds": rounds,
        "warmup": warmup,
        "loss_gap": gap,
        "sides": {side: _summary(runs[side], sides[side], warmup) for side in sides},
        "against": _ratios(runs, warmup),
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{bench}.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(as_text(record))
    return record


def machine() -> dict[str, Any]:
    """The processor as a reader wants to know it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "?")
    return {
        "processor": name,
        "cores": sum(line.startswith("processor") for line in lines),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_instructions": bool(
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        ),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def as_text(record: Mapping[str, Any]) -> str:
    """A table for people."""
    lines = [f"{record['bench']} {record['work']['dtype']}, losses within {record['loss_gap']:.1e}"]
    lines += [f"{'':30}{'step':>10}{'processor':>12}{'peak':>10}{'net peak':>10}"]
    for name, side in record["sides"].items():
        lines.append(
            f"{name:30}{side['step_s']:>8.2f} s{side['step_cpu_s']:>10.2f} s"
            f"{side['peak_bytes'] / 2**20:>6.0f} MiB{side['net_peak_bytes'] / 2**20:>6.0f} MiB"
        )
    for name, ratio in record["against"].items():
        low, high = ratio["wall_range"]
        lines.append(
            f"luthier is {ratio['wall']:.2f}x as fast ({low:.2f} to {high:.2f}; processor time "
            f"{ratio['cpu']:.2f}x), {ratio['peak']:.2f}x the peak memory "
            f"({ratio['net_peak']:.2f}x above imports) of: {name}"
        )
    return "\n".join(lines)


def _run(folder: Path, side: Side) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("sides.py"))]
    with TemporaryDirectory(prefix="luthier-home-") as home:  # no cached reference values
        done = subprocess.run(
            [*command, side.program, str(folder), json.dumps(side.options)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LUTHIER_HOME": home},
        )
    if done.returncode:
        raise RuntimeError(f"{side.program} {side.options} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _loss_gap(runs: Mapping[str, Sequence[dict[str, Any]]], dtype: str) -> float:
    """Largest relative difference of any side's losses from luthier's."""
    first, later = GATES[dtype]
    ours = [step["loss"] for step in next(iter(runs.values()))[0]["steps"]]
    worst = 0.0
    for name, several in runs.items():
        for run in several:
            losses = [step["loss"] for step in run["steps"]]
            gaps = [abs(a - b) / abs(b) for a, b in zip(losses, ours, strict=True)]
            if gaps[0] > first or max(gaps) > later:
                raise LossGapError(f"{name} did not train what luthier trained:\n{losses}\n{ours}")
            worst = max(worst, *gaps)
    return worst


def _seconds(run: Mapping[str, Any], kind: str, warmup: int) -> list[float]:
    return [step[kind] for step in run["steps"][warmup:]]


def _summary(runs: Sequence[dict[str, Any]], side: Side, warmup: int) -> dict[str, Any]:
    walls = [_seconds(run, "s", warmup) for run in runs]
    busy = [second for run in runs for second in _seconds(run, "cpu_s", warmup)]
    return {
        "program": side.program,
        "options": side.options,
        "step_s": statistics.median(second for wall in walls for second in wall),
        "step_s_rounds": [statistics.median(wall) for wall in walls],
        "step_cpu_s": statistics.median(busy),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "net_peak_bytes": max(run["peak_bytes"] - run["base_bytes"] for run in runs),
        "steps_peak_bytes": max(run["steps_peak_bytes"] for run in runs),
        "losses": [step["loss"] for step in runs[0]["steps"]],
    }


def _ratios(runs: Mapping[str, Sequence[dict[str, Any]]], warmup: int) -> dict[str, dict[str, Any]]:
    """Each peer over luthier: seconds of the same steps, round by round; luthier's memory over its."""
    ours, *_ = runs.values()
    found = {}
    for name, theirs in list(runs.items())[1:]:
        pairs = list(zip(theirs, ours, strict=True))
        wall, cpu = (
            [sum(_seconds(a, kind, warmup)) / sum(_seconds(b, kind, warmup)) for a, b in pairs]
            for kind in ("s", "cpu_s")
        )
        net = [[run["peak_bytes"] - run["base_bytes"] for run in side] for side in (ours, theirs)]
        found[name] = {
            "wall": statistics.median(wall),
            "wall_range": [min(wall), max(wall)],
            "cpu": statistics.median(cpu),
            "cpu_range": [min(cpu), max(cpu)],
            "peak": max(r["peak_bytes"] for r in ours) / max(r["peak_bytes"] for r in theirs),
            "net_peak": max(net[0]) / max(net[1]),
        }
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()

"""The data doctor on a generated file of a million short rows: time and peak memory.

    python bench/doctor_million.py [--rows 1000000] [--no-tokens]

Writes the file to a temporary folder, runs `check` in a process of its own, and appends a row to
bench/results/doctor_million.jsonl.  Memory is the peak resident size of that process.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "doctor_million.jsonl"
WORDS = [
    "river",
    "stone",
    "lantern",
    "copper",
    "meadow",
    "violin",
    "harbour",
    "pepper",
    "cloud",
    "marble",
    "garden",
    "winter",
    "signal",
    "paper",
    "bridge",
    "forest",
    "window",
    "silver",
    "market",
    "island",
    "engine",
    "ladder",
    "basket",
    "castle",
    "mirror",
]


def write(path: Path, rows: int) -> None:
    """Alpaca rows of about 25 words; one in a thousand repeats the row before it."""
    draw = random.Random(20)
    line = ""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            if number % 1000 != 999:
                ask = " ".join(draw.choices(WORDS, k=8))
                answer = " ".join(draw.choices(WORDS, k=16))
                row = {"instruction": f"Say {ask} {number}.", "input": "", "output": f"{answer}."}
                line = json.dumps(row)
            stream.write(line + "\n")


def measure(path: str, tokens: bool) -> None:
    """In a process of its own: check the file and print what it took."""
    from luthier.config import read
    from luthier.data.doctor import check
    from luthier.recipes.before.check import check_data

    began, cpu = time.perf_counter(), time.process_time()
    if tokens:
        report = check_data(read.load({"dataset": [path], "model": "starter"}, {}))
    else:
        report = check([path], renderer=None)
    found = {finding.code: finding.count for finding in report.findings}
    print(
        json.dumps(
            {
                "rows": report.rows,
                "used": report.used,
                "seconds": round(time.perf_counter() - began, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "findings": found,
                "sampled": dict(report.sampled),
            }
        )
    )


def main() -> None:
    """Generate, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--no-tokens", action="store_true")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.file:
        measure(asked.file, not asked.no_tokens)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, asked.rows)
        command = [sys.executable, __file__, "--file", str(path)]
        command += ["--no-tokens"] if asked.no_tokens else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "file_bytes": path.stat().st_size,
            "tokens": not asked.no_tokens,
            **json.loads(done.stdout),
        }
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(result) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""How long `luthier --help` takes, from the shell's point of view; the target is 0.3 s.

    python bench/cli_start.py [REPEATS]

Prints a JSON line per command: seconds over fresh processes after one to warm up, and seconds of
processor time, which other work on the machine does not lengthen.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import time

TARGET_S = 0.3
COMMANDS = (["--help"], ["train", "--help"], ["runs", "list"])


def seconds(words: list[str]) -> float:
    """One fresh process, its output thrown away."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "luthier.cli.main", *words], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> int:
    """Measure each command; exit status 1 where --help misses the target."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    medians = {}
    for words in COMMANDS:
        seconds(words)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = [seconds(words) for _ in range(repeats)]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        medians[" ".join(words)] = statistics.median(taken)
        print(
            json.dumps(
                {
                    "command": "luthier " + " ".join(words),
                    "median_s": round(statistics.median(taken), 3),
                    "best_s": round(min(taken), 3),
                    "worst_s": round(max(taken), 3),
                    "processor_s": round(busy / repeats, 3),
                    "repeats": repeats,
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                }
            )
        )
    return int(medians["--help"] > TARGET_S)


if __name__ == "__main__":
    raise SystemExit(main())

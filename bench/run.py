"""Run every benchmark, then write the tables of `bench/README.md` from the newest results.

python bench/run.py            all of it: about half an hour on two quiet cores
python bench/run.py --table    only the tables
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SCRIPTS = ("cli_start.py", "fast_forms.py", "sft_vs_trl.py", "dpo_vs_trl.py")


def main() -> int:
    """Run, and write the tables; exit status 1 where a script missed its target."""
    missed = []
    if "--table" not in sys.argv[1:]:
        for script in SCRIPTS:
            print(f"== {script}", flush=True)
            done = subprocess.run([sys.executable, str(HERE / script)], check=False)
            missed += [script] if done.returncode else []
    write_tables(HERE / "README.md")
    if missed:
        print("missed the target: " + ", ".join(missed))
    return int(bool(missed))


def newest(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The last record of each benchmark and dtype."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(paths):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            found[record["bench"], record["work"]["dtype"]] = record
    return [found[key] for key in sorted(found)]


def write_tables(path: Path) -> None:
    """Put a table for each record between the two marks."""
    text = path.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    tables = [table(record) for record in newest(RESULTS.glob("*_vs_*.jsonl"))]
    path.write_text(before + "\n\n".join([BEGIN, *tables, END]) + after)


def table(record: Mapping[str, Any]) -> str:
    """One comparison in Markdown."""
    machine, versions = record["machine"], record["versions"]
    lines = [
        f"### {record['bench']}, {record['work']['dtype']}",
        "",
        "| | s a step | processor s a step | peak MiB | luthier's speed | in processor time | "
        "luthier's peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, side in record["sides"].items():
        cells = [
            name,
            f"{side['step_s']:.2f}",
            f"{side['step_cpu_s']:.2f}",
            f"{side['peak_bytes'] / 2**20:.0f}",
        ]
        if ratio := record["against"].get(name):
            low, high = ratio["wall_range"]
            cells += [
                f"{ratio['wall']:.2f}x ({low:.2f} to {high:.2f})",
                f"{ratio['cpu']:.2f}x",
                f"{ratio['peak']:.2f}x",
            ]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    words = ", ".join(f"{name} {number}" for name, number in versions.items())
    emulated = "" if machine["bfloat16_instructions"] else ", no bfloat16 instructions"
    lines += [
        "",
        f"`{record['command']}` on {record['time'][:10]}, {machine['processor']}, "
        f"{record['work']['threads']} of {machine['cores']} cores, {machine['capability']}{emulated}; "
        f"{words}; losses agree within {record['loss_gap']:.1e}; {record['rounds']} rounds.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

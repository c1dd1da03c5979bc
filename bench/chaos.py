"""Kill the queue and its workers at random instants and count what became of every accepted job.

    python bench/chaos.py [--jobs 1000] [--server-kills 20] [--worker-kills 20] [--cancels 50]

Writes results/chaos.json.  The jobs are real trainings of the starter model, one step each; the
server under test is the store, the queue and the runner in a process of their own, told what to do
over a pipe.  What happened is judged from outside: from the database opened beside it, from the
files of the runs and from the system's table of processes.  Exit status 1 where a promise is broken.
"""

import argparse
import itertools
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
COMMON = {"model": "starter", "per_device_train_batch_size": 2, "lora_dim": 2, "seq_length": 64}
QUICK = {**COMMON, "max_steps": 1}
LONG = {**COMMON, "max_steps": 100_000, "save_steps": 50, "save_total_limit": 1}
LAST = ("finished", "failed", "cancelled")
RESTART_S, CANCEL_S = 2.0, 10.0
PATIENCE_S = 180.0


def serve() -> None:
    """The server under test: one JSON request a line, one answer a line."""
    from luthier.service.jobs import Jobs
    from luthier.service.runner import Runner
    from luthier.service.store import Store

    jobs = Jobs(Store())
    runner = Runner(jobs, devices=["cpu"])
    runner.tick()  # what was at work is found again before anybody is served
    runner.start()
    print(json.dumps({"ready": os.getpid(), "busy_s": time.process_time()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "create" in request:
            job = jobs.create(request["create"], idempotency_key=request["key"])
        else:
            job = jobs.cancel(request["cancel"])
        print(json.dumps({"id": job.id, "state": job.state}), flush=True)
    runner.close()
    jobs.store.close()


@dataclass
class Server:
    """The process under test, begun again after each kill."""

    home: Path
    restarts_s: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)  # processor seconds of the same
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        begun = time.monotonic()
        environment = {**os.environ, "LUTHIER_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.busy_s.append(self.answer()["busy_s"])
        self.restarts_s.append(time.monotonic() - begun)

    def answer(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BrokenPipeError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def close(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def rows(home: Path, query: str, *values: Any) -> list[sqlite3.Row]:
    """What the database says, read from outside."""
    with closing(sqlite3.connect(home / "service" / "jobs.sqlite", timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query, values).fetchall()


def until(what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """The first true value, or an error when the time is up."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing within {seconds:g} s")
        time.sleep(0.02)
    return value


def workers(home: Path, server: int) -> list[int]:
    """Live processes of the data folder but the server and its warm process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            marks = (folder / "environ").read_bytes().split(b"\0")
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            ours = f"LUTHIER_HOME={home}".encode() in marks and state != "Z"
            if ours and int(folder.name) != server and int(parent) != server:
                found.append(int(folder.name))
    return found


@dataclass
class Chaos:
    """One run of the whole programme.

    Args:
        rest_s: Longest pause before a blow, drawn at random.
    """

    home: Path
    jobs: int
    server_kills: int
    worker_kills: int
    cancels: int
    rest_s: float = 1.5
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    cancel_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = Server(self.home)
        self.data = self.home / "rows.jsonl"
        self.data.write_text((json.dumps(ROW) + "\n") * 4)
        self.accepted: dict[str, str] = {}

    def work(self) -> dict[str, Any]:
        """Queue, blows, cancels, judgement."""
        begun = time.monotonic()
        self.server.start()
        self.submit(self.jobs // 2)
        blows = ["server"] * self.server_kills + ["worker"] * self.worker_kills
        self.draw.shuffle(blows)
        for number, blow in enumerate(blows, start=1):
            target = number * self.jobs // (len(blows) + 2)
            until(lambda n=target: self.ended() >= n, PATIENCE_S + 10 * self.jobs)
            time.sleep(self.draw.random() * self.rest_s)
            getattr(self, f"kill_{blow}")()
            if number == len(blows) // 2:
                self.submit(self.jobs - len(self.accepted))
        self.submit(self.jobs - len(self.accepted))
        until(lambda: self.ended() >= self.jobs, PATIENCE_S + 10 * self.jobs)
        queue_s = time.monotonic() - begun
        self.audit()
        for _ in range(self.cancels):
            self.cancel_one()
        self.server.close()
        left = workers(self.home, -1)
        if left:
            self.problems.append(f"processes {left} are left when the server has ended")
        return self.report(queue_s, time.monotonic() - begun)

    def stop(self) -> None:
        """End whatever lives of this data folder; after a sound end that is nothing."""
        if self.server.process is not None and self.server.process.poll() is None:
            self.server.kill()
        for pid in workers(self.home, -1):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def submit(self, count: int) -> None:
        """Accepted is what was answered; a request cut off by a kill is sent again with its key."""
        for number in range(len(self.accepted), len(self.accepted) + count):
            settings = {**QUICK, "dataset": str(self.data), "seed": number}
            answer = self.server.ask(create=settings, key=f"job {number}")
            self.accepted[f"job {number}"] = answer["id"]

    def ended(self) -> int:
        marks = ", ".join("?" * len(LAST))
        query = (
            f"SELECT count(*) AS n FROM jobs WHERE state IN ({marks}) AND idempotency_key NOT NULL"
        )
        return int(rows(self.home, query, *LAST)[0]["n"])

    def kill_server(self) -> None:
        """Now and then in the middle of a request that is sent again, and now and then with the worker."""
        key = None
        if self.draw.random() < 0.5 and len(self.accepted) < self.jobs:
            key = f"job {len(self.accepted)}"
            settings = {**QUICK, "dataset": str(self.data), "seed": len(self.accepted)}
            process = self.server.process
            assert process is not None
            assert process.stdin is not None
            process.stdin.write(json.dumps({"create": settings, "key": key}) + "\n")
            process.stdin.flush()
            time.sleep(self.draw.random() * 0.01)
        worker = self.worker() if self.draw.random() < 0.3 else None
        self.server.kill()
        if worker is not None:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                self.counts["both killed"] += 1
        self.counts["server kills"] += 1
        self.server.start()
        if key is not None:
            self.accepted[key] = self.server.ask(create=settings, key=key)["id"]

    def worker(self) -> int | None:
        """The process of a job at work that has not lost more than one yet."""
        found = rows(self.home, "SELECT worker FROM jobs WHERE worker NOT NULL AND retries < 2")
        return int(json.loads(found[0]["worker"])["pid"]) if found else None

    def kill_worker(self) -> None:
        pid = until(self.worker)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.counts["worker kills"] += 1

    def audit(self) -> None:
        """Nothing lost, nothing twice, one last state for each, never two at work."""
        found = {row["idempotency_key"]: row for row in rows(self.home, "SELECT * FROM jobs")}
        for key, id in self.accepted.items():
            if key not in found or found[key]["id"] != id:
                self.counts["lost"] += 1
                self.problems.append(f"{id} was accepted and is not there")
        if len(found) != len(self.accepted):
            self.counts["doubled"] += len(found) - len(self.accepted)
            self.problems.append(f"{len(found)} jobs in place of {len(self.accepted)}")
        at_work: list[tuple[float, float, str]] = []
        for row in found.values():
            self.counts[row["state"]] += 1
            self.counts["attempts"] += row["attempts"]
            self.counts["automatic retries"] += row["retries"]
            self.audit_one(row)
            at_work += [(*span, row["id"]) for span in spans(Path(row["run_path"]))]
        at_work.sort()
        for (_, end, one), (start, _, other) in itertools.pairwise(at_work):
            if start < end:
                self.counts["at once"] += 1
                self.problems.append(f"{one} and {other} were at work at once")

    def audit_one(self, row: sqlite3.Row) -> None:
        id = row["id"]
        log = rows(self.home, "SELECT before, after FROM job_log WHERE job = ? ORDER BY number", id)
        last = [entry["after"] for entry in log if entry["after"] in LAST]
        if last != [row["state"]]:
            self.problems.append(f"{id}: last states {last}, now {row['state']}")
        if row["state"] != "finished":
            self.problems.append(f"{id} is {row['state']}: {row['error']}")
            return
        done = [e for e in lines(Path(row["run_path"])) if e["type"] == "finished"]
        completed = [event for event in done if event["reason"] == "completed"]
        if len(completed) != 1:
            self.counts["doubled"] += 1
            self.problems.append(f"{id} finished {len(completed)} times")
        if not (Path(row["run_path"]) / "result" / "adapter_model.safetensors").exists():
            self.problems.append(f"{id} has no result")

    def cancel_one(self) -> None:
        """Cancel at an instant drawn from queued to training; then no process may be left."""
        settings = {**LONG, "dataset": str(self.data)}
        id = self.server.ask(create=settings, key=None)["id"]
        time.sleep(self.draw.random() * 2 * self.rest_s)
        begun = time.monotonic()
        self.server.ask(cancel=id)
        query = "SELECT state, wish FROM jobs WHERE id = ?"
        try:
            until(lambda: rows(self.home, query, id)[0]["state"] == "cancelled", 60)
        except TimeoutError:
            self.problems.append(f"{id} is still {rows(self.home, query, id)[0]['state']}")
        self.cancel_s.append(time.monotonic() - begun)
        self.counts["cancels"] += 1
        process = self.server.process
        assert process is not None
        if left := workers(self.home, process.pid):
            self.counts["left after cancel"] += len(left)
            self.problems.append(f"{id}: processes {left} are left")

    def report(self, queue_s: float, seconds: float) -> dict[str, Any]:
        restarts = self.server.restarts_s[1:] or self.server.restarts_s
        if max(restarts) > RESTART_S:
            self.problems.append(
                f"a restart took {max(restarts):.2f} s, {RESTART_S:g} are promised"
            )
        if self.cancel_s and max(self.cancel_s) > CANCEL_S:
            self.problems.append(f"a cancel took {max(self.cancel_s):.1f} s")
        return {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            "python": platform.python_version(),
            "jobs": self.jobs,
            "lost": self.counts["lost"],
            "doubled": self.counts["doubled"],
            "at_once": self.counts["at once"],
            "left_after_cancel": self.counts["left after cancel"],
            **{name.replace(" ", "_"): n for name, n in sorted(self.counts.items()) if " " not in name or n},
            "restart_s": {"median": sorted(restarts)[len(restarts) // 2], "max": max(restarts)},
            "restart_processor_s": max(self.server.busy_s),
            "cancel_s": {"median": sorted(self.cancel_s)[len(self.cancel_s) // 2], "max": max(self.cancel_s)}
            if self.cancel_s
            else None,
            "queue_seconds": queue_s,
            "seconds": seconds,
            "problems": self.problems,
        }  # fmt: skip


def lines(run: Path) -> Iterator[dict[str, Any]]:
    """Events of a run as they were written, half lines left out."""
    events = run / "events.jsonl"
    for line in events.read_bytes().split(b"\n") if events.exists() else ():
        with suppress(ValueError):
            yield json.loads(line)


def spans(run: Path) -> Iterator[tuple[float, float]]:
    """When an attempt was at work in a run, by its first and last event."""
    moments: list[float] = []
    for event in lines(run):
        if event["type"] == "started" and moments:
            yield moments[0], moments[-1]
            moments = []
        moments.append(event["time"])
    if moments:
        yield moments[0], moments[-1]


def main() -> int:
    """Run it; exit status 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name, default in (
        ("jobs", 1000),
        ("server-kills", 20),
        ("worker-kills", 20),
        ("cancels", 50),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--serve", action="store_true", help="be the server under test")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "chaos.json"
    )
    given = parser.parse_args()
    if given.serve:
        serve()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(
            Path(folder), given.jobs, given.server_kills, given.worker_kills, given.cancels
        )
        found = chaos.work()
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

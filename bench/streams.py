"""Many clients on the event stream of one busy job, some of which never read.

    python bench/streams.py [--clients 100] [--silent 10] [--seconds 20]

Writes results/streams.json: how long other requests take meanwhile, whether every client saw the
steps in order and none twice, and what the server's memory does.  Exit status 1 where the p99 of
other requests is above 200 ms or a client saw a step twice or out of order.  The job is a row and
an `events.jsonl` that grows by a hundred steps a second; nothing is trained.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

TOKEN = "a-token-for-this-measurement-only-0123456789"
PER_S, P99_S = 100, 0.2


def serve() -> None:
    """The real server, with one job that is always at work."""
    from luthier.events import Started, Step
    from luthier.locks import Owner
    from luthier.runs import EventLog, RunDirectory
    from luthier.service.http.serving import Options
    from luthier.service.http.serving import serve as serve_http
    from luthier.service.jobs import Jobs
    from luthier.service.store import Store

    with Store() as store:
        jobs = Jobs(store)
        job = jobs.create({"model": "starter", "dataset": "rows.jsonl"})
        jobs.table.move(job.id, "starting", reason="", attempts=1)
        jobs.table.move(job.id, "running", reason="", worker=Owner.of(os.getpid()))
    run = RunDirectory.create(job.run_path, resume=True)

    def write() -> None:
        with EventLog(run) as log:
            log.emit(Started())
            for step in range(1, 10**6):
                log.emit(Step(step=step, total=10**6, loss=1.0, learning_rate=1e-4))
                time.sleep(1 / PER_S)

    threading.Thread(target=write, daemon=True).start()
    serve_http(
        Options(port=0, run_jobs=False),
        ready=lambda address, _: print(json.dumps({"at": address, "job": job.id}), flush=True),
    )


class Client:
    """One connection to the stream."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    async def open(self, port: int, path: str) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        self.writer.write(request(port, path))
        await self.writer.drain()

    async def follow(self) -> None:
        """Read until cut off."""
        while line := await self.reader.readline():
            if line.startswith(b"data:"):
                body = json.loads(line[5:])
                if isinstance(body, dict) and body.get("type") == "step":
                    self.steps.append(body["step"])


def request(port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Accept: */*\r\nConnection: keep-alive\r\n\r\n"
    ).encode()


async def probe(port: int, path: str, until: float) -> list[float]:
    """Seconds of one request after the other, each on a connection of its own."""
    taken = []
    while time.monotonic() < until:
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(port, path).replace(b"keep-alive", b"close"))
        head = await reader.readline()
        assert b" 200 " in head, head
        await reader.read()
        writer.close()
        taken.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)
    return taken


async def load(at: str, job: str, pid: int, given: argparse.Namespace) -> dict[str, Any]:
    """All clients at once, and the probes beside them."""
    port = int(at.rpartition(":")[2])
    server = psutil.Process(pid)
    path = f"/api/jobs/{job}/stream"
    before = server.memory_info().rss
    clients = [Client() for _ in range(given.clients)]
    for client in clients:
        await client.open(port, path)
    reading = [asyncio.create_task(client.follow()) for client in clients[given.silent :]]
    until = time.monotonic() + given.seconds
    paths = ("/api/jobs", f"/api/jobs/{job}/metrics", "/v1/models")
    times = await asyncio.gather(*(probe(port, one, until) for one in paths))
    taken = sorted(second for one in times for second in one)
    after = server.memory_info().rss
    for task in reading:
        task.cancel()
    seen = [client.steps for client in clients[given.silent :]]
    wrong = sum(any(b <= a for a, b in zip(s, s[1:], strict=False)) for s in seen)  # noqa: RUF007
    for client in clients:
        client.writer.close()
    return {
        "clients": given.clients,
        "never_read": given.silent,
        "seconds": given.seconds,
        "steps_seen": {"fewest": min(map(len, seen)), "most": max(map(len, seen))},
        "clients_with_steps_out_of_order": wrong,
        "requests": len(taken),
        "p50_ms": 1000 * taken[len(taken) // 2],
        "p99_ms": 1000 * taken[int(len(taken) * 0.99)],
        "server_bytes": {"before": before, "after": after},
    }


def main() -> int:
    """Run it; exit status 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--silent", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--serve", action="store_true", help="be the server under test")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/streams.json")
    given = parser.parse_args()
    if given.serve:
        serve()
        return 0
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "LUTHIER_HOME": home, "LUTHIER_TOKEN": TOKEN}
        with subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            about = json.loads(process.stdout.readline())
            try:
                found = asyncio.run(load(about["at"], about["job"], process.pid, given))
            finally:
                process.kill()
    cores, busy = os.cpu_count(), os.getloadavg()[0]
    machine = f"{platform.machine()}, {cores} cores, load {busy:.1f}"
    found = {"date": time.strftime("%Y-%m-%d"), "machine": machine, **found}
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    late = found["p99_ms"] > 1000 * P99_S
    return 1 if late or found["clients_with_steps_out_of_order"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What headers cost the server, how long it takes to end, what starting a child costs.

python bench/door_and_end.py
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import psutil

from luthier import children

TOKEN = "a-token-of-the-benchmark"
HELLO = [{"role": "user", "content": "Hello"}]


@contextlib.contextmanager
def server(home: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """`luthier serve` and its port."""
    environment = {**os.environ, "LUTHIER_HOME": home, "LUTHIER_TOKEN": TOKEN}
    words = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", "0", "--no-browser"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().rpartition(":")[2])


def header_cost(process: psutil.Process, port: int, number: int, *, times: int = 20) -> float:
    """Milliseconds of the server's processor for a request without token and so many headers."""
    lines = [
        f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{port}",
        *(f"a{n}:" for n in range(number)),
    ]
    sent = ("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode()
    before = sum(process.cpu_times()[:2])
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port)) as asking:
            asking.sendall(sent)
            asking.recv(100)
    time.sleep(0.2)
    return (sum(process.cpu_times()[:2]) - before) / times * 1000


def chat(port: int, begun: threading.Event) -> None:
    """A long answer, as a stream; `begun` at its first piece."""
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
    body = {"model": "starter", "messages": HELLO, "stream": True, "max_tokens": 1500, "n": 8}
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    with contextlib.suppress(OSError, http.client.HTTPException):  # it is cut off: that is measured
        asking.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = asking.getresponse()
        answer.readline()
        begun.set()
        answer.read()


def end(process: "subprocess.Popen[str]") -> str:
    """How long SIGTERM takes, and the exit status."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    return f"{time.monotonic() - started:.2f} s, status {status}"


def start_cost(module: str, *, times: int = 15) -> float:
    """Milliseconds more than a bare start of the same module, the median of each."""
    ours, bare = [], []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", module], check=True, capture_output=True)
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        children.run(module, timeout_s=60)
        ours.append(time.perf_counter() - started)
    return (statistics.median(ours) - statistics.median(bare)) * 1000


def main() -> None:
    """Print one line a figure."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LUTHIER_HOME"] = home
        with server(home) as (process, port):
            for number in (5, 90, 700, 2_700, 4_000):
                cost = header_cost(psutil.Process(process.pid), port, number)
                print(f"{number:>5} headers: {cost:.1f} ms of processor")
            print(f"SIGTERM, idle: {end(process)}")
        with server(home) as (process, port):
            begun = threading.Event()
            asking = threading.Thread(target=chat, args=(port, begun))
            asking.start()
            begun.wait(60)
            print(f"SIGTERM, in an answer: {end(process)}")
            asking.join()
        print(f"start of a child: {start_cost('this'):.0f} ms more than a bare one")


if __name__ == "__main__":
    main()

"""SIGTERM and the first Ctrl-C let the work end, the second Ctrl-C does not wait."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from luthier.engine.interrupt import Interrupt

WORKER = """
import sys, time
from luthier.engine.interrupt import Interrupt

with Interrupt() as interrupt:
    print("ready", flush=True)
    for step in range(1000):
        time.sleep(0.01)
        if interrupt.requested is not None and sys.argv[1] == "polite":
            print("saved", interrupt.reason, flush=True)
            sys.exit(interrupt.requested)
"""


def start(manner):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, manner],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGTERM, 143, "sigterm"), (signal.SIGINT, 130, "sigint")],
)
def test_a_signal_lets_the_step_end_and_gives_the_exit_code(number, code, reason):
    process = start("polite")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == f"saved {reason}\n"
    assert ("Ctrl-C again stops at once" in err) == (number == signal.SIGINT)


def test_the_second_ctrl_c_stops_at_once():
    process = start("deaf")
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert time.monotonic() - started < 5


def test_sigterm_twice_does_not_hurry():
    process = start("deaf")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested == 143, "the first request decides"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_they_are_put_back_after_an_error_too():
    before = signal.getsignal(signal.SIGINT)

    def work():
        with Interrupt():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_only_a_request_stops():
    before, codes = signal.getsignal(signal.SIGTERM), []

    def work():
        with Interrupt() as interrupt:
            codes.append(signal.getsignal(signal.SIGTERM) is before)
            interrupt.request()
            interrupt.request(130)
            codes.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [True, 143]

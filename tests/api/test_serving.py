"""Starting a server: where it listens, whom it tells, how fast it is there."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

from luthier.errors import EnvironmentVariableError, SettingsError
from luthier.service.http.door import signals
from luthier.service.http.door.credentials import Credentials, load_token, new_token
from luthier.service.http.serving import Options, allowed_hosts, check


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_other_addresses_need_a_word(host):
    with pytest.raises(SettingsError, match="other machines"):
        check(Options(host=host))
    check(Options(host=host, remote=True))
    check(Options(host="127.0.0.1"))


def test_hosts_that_are_served():
    hosts = allowed_hosts(Options(names=("Box.local",)), 8080)
    assert hosts == {"127.0.0.1:8080", "localhost:8080", "[::1]:8080", "box.local:8080"}
    assert "0.0.0.0:8080" not in allowed_hosts(Options(host="0.0.0.0"), 8080)


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.delenv("LUTHIER_TOKEN", raising=False)
    token = load_token(tmp_path)
    assert len(token) >= 43  # 256 bits
    assert load_token(tmp_path) == token
    path = tmp_path / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    load_token(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cookie = Credentials(token).new_session()
    other = new_token(tmp_path)
    assert other != token
    assert not Credentials(other).is_session(cookie)


@pytest.mark.parametrize(
    "token", ["short", "with space in the middle", "umlaut-äöü-äöü-äöü", "x" * 600]
)
def test_the_token_of_the_environment_must_be_one(tmp_path, monkeypatch, token):
    monkeypatch.setenv("LUTHIER_TOKEN", token)
    with pytest.raises(EnvironmentVariableError) as refused:
        load_token(tmp_path)
    assert token not in str(refused.value)
    monkeypatch.setenv("LUTHIER_TOKEN", "a-good-token-of-mine")
    assert load_token(tmp_path) == "a-good-token-of-mine"


def test_a_server_starts_answers_and_ends(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", str(port), "--no-browser"]
    env = {**os.environ, "LUTHIER_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == f"luthier serves at http://127.0.0.1:{port}\n"
        link = process.stdout.readline().split()[-1]
        assert link.startswith(f"http://127.0.0.1:{port}/login?code=")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            assert answer.read() == b'{"status":"ok"}'
        second = subprocess.run(
            [*words[:-2], "0", "--no-browser"], env=env, capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert "already serves" in second.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _out, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert "Traceback" not in err
    assert process.returncode == 0
    made = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in made} == {
        path.name: "0o0" for path in made
    }


def test_a_signal_before_the_server_is_up_counts_and_a_close_that_hangs_is_cut_off():
    gave_up, told = threading.Event(), []
    before = signal.getsignal(signal.SIGTERM)
    with signals.owned() as stop:
        stop.last_s, stop.gave_up = 0.05, gave_up.set
        signal.raise_signal(signal.SIGTERM)
        stop.on_stop(lambda: told.append("stop"))
        signal.raise_signal(signal.SIGTERM)
        assert told == ["stop"]
        assert gave_up.wait(5)
        gave_up.clear()
        signal.raise_signal(signal.SIGINT)
        assert gave_up.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before

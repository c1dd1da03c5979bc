"""`luthier serve`: every part of the service put together, and a server on a port."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luthier import children
from luthier.errors import SettingsError
from luthier.runs import home as default_home
from luthier.service.chat_processes import ChatProcesses
from luthier.service.devices import machine_devices
from luthier.service.files import Files
from luthier.service.helper_processes import Helpers
from luthier.service.http.app import Application, create_app
from luthier.service.http.door import signals
from luthier.service.http.door.credentials import load_token
from luthier.service.http.door.limits import Limits
from luthier.service.http.door.server import bound, make_server, raise_file_limit
from luthier.service.jobs import Jobs
from luthier.service.process import end
from luthier.service.runner import Runner
from luthier.service.store import Store

DEFAULT_PORT = 8080
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Options:
    """How a server is started.

    Args:
        port: 0 takes any free one.
        remote: Listen on an address that other machines reach.
        names: Further names this machine is called by in a browser.
        roots: Folders that jobs may name by path.
        unix: Path of a socket instead of host and port.
        run_jobs: Whether queued jobs are started here.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    remote: bool = False
    names: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    unix: Path | None = None
    run_jobs: bool = True
    limits: Limits = field(default_factory=Limits)


def check(options: Options) -> None:
    """Refuse to be reachable from elsewhere by accident.

    Raises:
        SettingsError: A host that is not this machine alone, without saying so.
    """
    if options.unix is None and options.host not in LOOPBACK and not options.remote:
        raise SettingsError(
            f"--host {options.host} can be reached from other machines",
            why="whoever has the token can use this machine's devices and data; the connection is "
            "not encrypted",
            fix=f"luthier serve --host {options.host} --remote, behind a proxy with TLS; "
            "or ssh -L 8080:127.0.0.1:8080 to this machine",
        )


def allowed_hosts(options: Options, port: int) -> frozenset[str]:
    """Host headers that are served: this machine's loopback names, the host, and `names`."""
    names = {"127.0.0.1", "localhost", "[::1]", *(name.lower() for name in options.names)}
    if options.host not in ("0.0.0.0", "::", *LOOPBACK):
        names.add(f"[{options.host}]" if ":" in options.host else options.host.lower())
    with_port = {f"{name}:{port}" for name in names}
    return frozenset(with_port | (names if port in (80, 443) or options.unix else set()))


@contextlib.contextmanager
def assembled(
    home: Path, *, options: Options, token: str, hosts: frozenset[str], address: str = ""
) -> Iterator[Application]:
    """The application and everything under it; closed in the opposite order."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(home, address=address))
        files = Files(store, max_bytes=options.limits.upload_bytes)
        jobs = Jobs(store, home, files=files)
        reach = (home, *options.roots)
        helpers = Helpers(reach=reach)
        chats = ChatProcesses(machine_devices()[0], home / "service" / "chat.log", reach=reach)
        stack.callback(chats.close)
        stack.callback(helpers.close)
        runner = Runner(jobs, make_way=chats.release, reach=reach)
        if options.run_jobs:
            runner.start()
            stack.callback(runner.close)
        yield create_app(
            jobs=jobs,
            files=files,
            helpers=helpers,
            chats=chats,
            token=token,
            home=home,
            hosts=hosts,
            roots=options.roots,
            limits=options.limits,
        )


def serve(options: Options, *, home: Path | None = None, ready: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, and close everything within 5 s.  Jobs go on, and are found again.

    Args:
        ready: Called with the address and a login link, once requests are answered.

    Raises:
        SettingsError: The address cannot be listened on.
        ServerRunningError: Another server works in the data folder.
    """
    check(options)
    home = home or default_home()
    token = load_token(home)
    raise_file_limit()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(signals.owned())
        stack.callback(os.umask, os.umask(0o077))
        listening, address = _listen(options, stack)
        port = listening.getsockname()[1] if options.unix is None else 0
        hosts = allowed_hosts(options, port)
        app = stack.enter_context(
            assembled(home, options=options, token=token, hosts=hosts, address=address)
        )
        _end_strays()
        server = make_server(app, on_close=app.close)
        stop.on_stop(server.stop)
        server.ready = lambda: ready(
            address, f"{address}/login?code={app.parts.credentials.new_code()}"
        )
        server.run(sockets=[listening])


def _end_strays() -> None:
    """End what a server that was killed left at work, and may hold a device."""
    left = children.strays()
    if left:
        end(left)
        pids = ", ".join(str(process.pid) for process in left)
        sys.stderr.write(f"ended what a server that is no more had left: process {pids}\n")


def _clear(path: Path) -> None:
    """Remove the socket of a server that is no more; whatever else is there stays.

    Raises:
        FileExistsError: A live server listens there, or it is no socket.
    """
    if not path.is_socket():
        if path.exists():
            raise FileExistsError(errno.EEXIST, "it is not a socket")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise FileExistsError(errno.EEXIST, "a server listens there")


def _listen(options: Options, stack: contextlib.ExitStack) -> tuple[socket.socket, str]:
    try:
        if options.unix is not None:
            _clear(options.unix)
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listening.bind(str(options.unix))
            options.unix.chmod(0o600)
            return listening, f"http+unix://{options.unix}"
        listening = stack.enter_context(bound(options.host, options.port))
    except OSError as error:
        raise SettingsError(
            f"{options.unix or f'{options.host}:{options.port}'} cannot be listened on: "
            f"{error.strerror}",
            why="another program may have it",
            fix=f"luthier serve --port {options.port + 1}",
        ) from error
    shown = f"[{options.host}]" if ":" in options.host else options.host
    return listening, f"http://{shown}:{listening.getsockname()[1]}"

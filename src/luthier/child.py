"""The first thing a child process does: it bounds itself, ties its life to its parent's, and goes on as a module.

    python -P -m luthier.child '{"parent": 4711, "signal": 9, "cpu_s": 60}' MODULE ARGUMENTS

`luthier.children` starts it.  Here and not between fork and exec, where a process with threads may
run next to nothing; and before any other import, so that the bounds hold for all of it.
"""

import ctypes
import json
import os
import resource
import runpy
import signal
import sys
import threading
import time
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
_CPU_GRACE_S = 2
_WATCH_S = 0.5


def end_with(parent: int, number: int) -> None:
    """From now on this process gets signal `number` when `parent`, which started it, is no more.

    On Linux the kernel sees to it, even while no Python code gets to run; elsewhere a thread looks
    twice a second.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    else:
        threading.Thread(target=_watch, args=(parent, number), daemon=True).start()
    if os.getppid() != parent:  # it went before it could be asked for
        os.kill(os.getpid(), number)


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os.kill(os.getpid(), number)


def bound(wanted: Mapping[str, int]) -> None:
    """Set the limits that are named: `memory_bytes` of address space, `cpu_s` of all threads together."""
    if (memory := wanted.get("memory_bytes")) is not None:
        _limit(resource.RLIMIT_AS, memory, memory)
    if (cpu_s := wanted.get("cpu_s")) is not None:
        _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + _CPU_GRACE_S)  # SIGXCPU, then SIGKILL


def _limit(kind: int, soft: int, hard: int) -> None:
    """Never more than was allowed before."""
    highest = resource.getrlimit(kind)[1]
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    resource.setrlimit(kind, (soft, hard))


def main() -> None:
    """Do what the first argument says, then run the module that the second one names."""
    wanted, module = json.loads(sys.argv[1]), sys.argv[2]
    if "parent" in wanted:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an image of memory is for nobody
        end_with(wanted["parent"], wanted.get("signal", signal.SIGKILL))
    bound(wanted)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

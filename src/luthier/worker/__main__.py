"""The process that one rank of a run lives in: `python -m luthier.worker RUN_DIRECTORY`."""

import os
import signal
import sys
from pathlib import Path

from luthier.child import end_with
from luthier.recipes.run.train import run_launched
from luthier.surroundings import set_surroundings


def main() -> int:
    """Train as `launch.json` of the run says; 0 when done or stopped, 2 when it failed."""
    set_surroundings()
    end_with(os.getppid(), signal.SIGTERM)  # of the launcher: what this rank has done is saved
    return run_launched(Path(sys.argv[1]))


if __name__ == "__main__":
    raise SystemExit(main())

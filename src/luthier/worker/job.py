"""The process of one attempt at a job: `python -m luthier.worker.job RUN_DIRECTORY ATTEMPT`."""

import sys
from pathlib import Path

from luthier.recipes.run.job import run_job
from luthier.surroundings import set_surroundings


def main() -> int:
    """Train as `launch.json` of the run says."""
    set_surroundings()
    return run_job(Path(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    raise SystemExit(main())

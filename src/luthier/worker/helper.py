"""One bounded task for the service: a request on standard input, its answer on standard output.

    echo '{"task": "render", "request": {...}}' | python -m luthier.worker.helper

The service parses no model, tokenizer or data file itself: what a stranger uploaded is read here,
in a process that was started with limits of memory and time and ends with its task.
"""

import sys
import traceback

from luthier.errors import LuthierError
from luthier.process_messages import HelperAnswer
from luthier.worker.lines import Lines
from luthier.worker.tasks import TASKS


def main() -> int:
    """Do one task; the answer has `result`, or `error` with the four fields of a LuthierError."""
    lines = Lines()
    body = next(lines.read())
    try:
        answer: HelperAnswer = {"result": TASKS[body["task"]](body["request"])}
    except LuthierError as error:
        answer = {"error": error.as_dict()}
    except MemoryError:
        answer = {"fault": "memory"}
    except Exception:  # noqa: BLE001 - the other side reports it, with the trace in the log
        traceback.print_exc(file=sys.stderr)
        answer = {"fault": traceback.format_exc(limit=-1).strip().splitlines()[-1]}
    lines.write(answer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

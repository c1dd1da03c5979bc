"""One JSON object a line, in on standard input and out on what was standard output.

Whatever else the process prints goes to standard error: a stray line would break the protocol.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from luthier.bounded import decode_ours


class Lines:
    """Both directions; writing is safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        os.dup2(2, 1)

    def write(self, body: Mapping[str, object]) -> None:
        """Send one object at once."""
        text = json.dumps(body, allow_nan=False)  # ASCII: half a surrogate pair survives too
        with self._lock:
            self._out.write(text + "\n")
            self._out.flush()

    def read(self) -> Iterator[dict[str, Any]]:
        """Objects until the other side closes."""
        for line in sys.stdin:
            body: dict[str, Any] = decode_ours(line)
            yield body

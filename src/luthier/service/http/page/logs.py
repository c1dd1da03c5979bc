"""What the process of a job printed, made safe to show."""

import re
from pathlib import Path

from luthier.service.http.page_schemas import Logs

MAX_LINE = 4000
LOG_NAMES = ("stderr.log.1", "stderr.log")
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SECRET = re.compile(
    r"(?i)\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|ghp_[A-Za-z0-9]{8,}|AKIA[0-9A-Z]{12,})"
    r"|((?:api[_-]?key|token|secret|password|authorization)[\"']?\s*[:=]\s*(?:bearer\s+)?)[^\s\"',;]{6,}"
)


def read_logs(run: Path, *, after: int, limit: int) -> Logs:
    """A stretch of the log.

    Args:
        after: Byte to begin at; negative counts from the end.
        limit: Bytes to read at most.

    Returns:
        `text`, safe to show; `next`, where to go on; `size`, bytes there are.
    """
    path = run / "stderr.log"
    try:
        stream = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return {"text": "", "next": 0, "size": 0}
    with stream:
        size = stream.seek(0, 2)
        start = max(0, size + after) if after < 0 else min(after, size)
        stream.seek(start)
        data = stream.read(limit)
    if after < 0 and start > 0:
        cut = data.find(b"\n") + 1
        start, data = start + cut, data[cut:]
    whole = data
    if len(data) == limit and (end := data.rfind(b"\n")) >= 0:
        whole = data[: end + 1]  # the rest of a line comes with the next stretch
    return {
        "text": safe_text(whole.decode("utf-8", "replace")),
        "next": start + len(whole),
        "size": size,
    }


def safe_text(text: str) -> str:
    """Text without escape sequences, control and direction marks, secrets, and endless lines.

    Of a line that was drawn again and again, as progress bars are, the last drawing counts.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        drawn = [part for part in line.split("\r") if part]
        plain = _CONTROL.sub("", _ANSI.sub("", drawn[-1] if drawn else ""))
        plain = redact(plain)
        if len(plain) > MAX_LINE:
            plain = f"{plain[:MAX_LINE]} ... ({len(plain):,} characters)"
        lines.append(plain)
    return "\n".join(lines)


def redact(text: str) -> str:
    """Text without what looks like a key."""
    return _SECRET.sub(lambda match: f"{match[2] or ''}[hidden]", text)

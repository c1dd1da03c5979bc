"""Keys and passwords in the text."""

import re

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_KEYS = (
    ("API key sk-", re.compile(r"\bsk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,}")),
    ("AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})")),
    ("Hugging Face token", re.compile(r"\bhf_[A-Za-z]{30,}\b")),
    ("Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}")),
    ("Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.")),
)
_HINTS = ("sk-", "AKIA", "ASIA", "gh", "hf_", "xox", "AIza", "PRIVATE KEY", "eyJ")


class LeakedKeys(Rule):
    """API keys, tokens and private keys; the value itself is never shown."""

    code = "leaked-keys"
    severity = "error"
    title = "keys or tokens in the text"
    why = "a fine-tuned model repeats them to whoever asks, and so does the file"
    example = {"instruction": "Set it up.", "output": "export KEY=AKIA" + "ABCDEFGHIJKLMNOP"}
    fix = "revoke the key, then replace it in the rows"

    def look(self, row: CheckedRow) -> str | None:
        """Which kind, with its first characters only."""
        if not any(hint in row.text for hint in _HINTS):
            return None
        for name, pattern in _KEYS:
            if found := pattern.search(row.text):
                return f"{name}: {found.group()[:7]}…"
        return None

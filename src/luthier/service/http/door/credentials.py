"""Who may come in: one token for programs, a cookie for the page, a login link that works once.

The cookie is signed with the token, so that it outlives a restart and dies when the token is
replaced.  Every comparison takes the same time whatever the guess.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from luthier.durable import make_folders
from luthier.errors import EnvironmentVariableError

COOKIE = "luthier_session"
SESSION_S = 30 * 24 * 3600
CODE_S = 15 * 60
MAX_CODES = 16
SHORTEST_TOKEN = 16
LONGEST_TOKEN = 512


def load_token(home: Path) -> str:
    """The token: `LUTHIER_TOKEN`, or the one in `home`, made at the first start for its owner only.

    Raises:
        EnvironmentVariableError: `LUTHIER_TOKEN` is too short to be a secret, or no plain text.
    """
    given = os.environ.get("LUTHIER_TOKEN", "")
    if given:
        plain = given.isascii() and given.isprintable() and " " not in given
        if not plain or not SHORTEST_TOKEN <= len(given) <= LONGEST_TOKEN:
            raise EnvironmentVariableError(
                f"LUTHIER_TOKEN has {len(given)} characters and cannot be used",
                why=f"a token is {SHORTEST_TOKEN} to {LONGEST_TOKEN} printable ASCII characters "
                "without spaces",
                fix="unset LUTHIER_TOKEN, and one is made",
            )
        return given
    path = home / "token"
    make_folders(home)
    with contextlib.suppress(FileNotFoundError):
        if found := _read_private(path):
            return found
    return new_token(home)


def new_token(home: Path) -> str:
    """Replace the token; every cookie and client that has the old one is shut out.

    The file is in place with its mode before it has any content.
    """
    token, temporary = secrets.token_urlsafe(32), home / f".token-{secrets.token_hex(6)}"
    make_folders(home)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, token.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(home / "token")
    return token


def _read_private(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(fd).st_mode & 0o077:
            os.fchmod(fd, 0o600)
        return os.read(fd, LONGEST_TOKEN + 1).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


class Credentials:
    """Checks of one server.

    Args:
        token: What programs send as `Authorization: Bearer`.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._key = hashlib.sha256(b"luthier session\0" + token.encode()).digest()
        self._codes: dict[str, float] = {}

    def is_token(self, given: str) -> bool:
        """Whether it is equal to ours, in a time that says nothing of how much is equal."""
        return len(given) <= LONGEST_TOKEN and _same(given, self._token)

    def new_code(self) -> str:
        """A login code that works once, for a quarter of an hour."""
        now = time.monotonic()
        self._codes = {code: end for code, end in self._codes.items() if end > now}
        while len(self._codes) >= MAX_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(24)
        self._codes[code] = now + CODE_S
        return code

    def take_code(self, given: str) -> bool:
        """Whether this code was still good; it is not any more."""
        found = [code for code in self._codes if _same(given[:LONGEST_TOKEN], code)]
        return bool(found) and self._codes.pop(found[0]) > time.monotonic()

    def new_session(self) -> str:
        """The value of a new cookie."""
        body = f"{int(time.time()) + SESSION_S}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._sign('session', body)}"

    def is_session(self, cookie: str) -> bool:
        """Whether a cookie is one of ours and not too old."""
        body, _, signature = cookie[:LONGEST_TOKEN].rpartition(".")
        if not body or not _same(signature, self._sign("session", body)):
            return False
        return int(body.split(".")[0]) > time.time()

    def csrf_of(self, cookie: str) -> str:
        """What a page must repeat in `x-csrf-token` to change something with this cookie."""
        return self._sign("csrf", cookie)

    def is_csrf(self, given: str, cookie: str) -> bool:
        """Whether the page that sends this could read our replies."""
        return _same(given[:LONGEST_TOKEN], self.csrf_of(cookie))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    """Equality in a time that depends on neither text nor length."""
    first, second = (
        hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (one, other)
    )
    return hmac.compare_digest(first, second)

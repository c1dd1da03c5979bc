"""What a job that came over HTTP may name: less than a person at the command line.

Paths stay inside the data folder and the folders the operator allowed; templates are those of a
model or the gallery; code of models is never run, which is no setting at all.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from luthier.config.read import Resolved
from luthier.errors import SettingsError
from luthier.gallery import all_families
from luthier.limits import SETTING_TEXT_BYTES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")


def may_use(home: Path, roots: Iterable[Path] = ()) -> Callable[[Resolved], None]:
    """A check of resolved settings for a server with this data folder.

    Args:
        roots: Further folders that may be named.
    """
    allowed = tuple(path.resolve() for path in (home, *roots))

    def check(resolved: Resolved) -> None:
        settings = resolved.settings
        for name, value in settings:
            for text in value if isinstance(value, list | tuple) else (value,):
                if isinstance(text, str):
                    _check_length(name, text)
        for name in ("output_dir", "resume"):
            if resolved.is_given(name) and getattr(settings, name) not in (None, False):
                raise SettingsError(
                    f"{name} cannot be given over HTTP",
                    why="the service makes the run directory and resumes there by itself",
                    fix="leave it out",
                )
        refuse_path("model", settings.model, allowed)
        for name in ("dataset", "eval_dataset"):
            for text in getattr(settings, name):
                refuse_path(name, text, allowed)
        if settings.chat_template is not None and not _is_known(settings.chat_template):
            raise SettingsError(
                "chat_template cannot be a template or a file of a request",
                why="a template is a program; over HTTP only those of models and the gallery run",
                fix="leave chat_template out, or name a gallery family",
            )

    return check


def _check_length(name: str, text: str) -> None:
    if len(text) > SETTING_TEXT_BYTES or len(text.encode(errors="replace")) > SETTING_TEXT_BYTES:
        raise SettingsError(
            f"{name} has {len(text):,} characters",
            why=f"over HTTP a text among the settings has at most {SETTING_TEXT_BYTES:,} bytes: it is "
            "kept with the job, and in front of every row",
            fix="put it into the rows of the data, or shorten it",
        )


def refuse_path(name: str, text: str, allowed: tuple[Path, ...]) -> None:
    """Refuse a path outside the allowed folders, after every link in it is followed.

    Raises:
        SettingsError: It is outside, or no name that could be fetched.
    """
    is_name = bool(_HUB_ID.fullmatch(text) or _PLAIN.fullmatch(text)) and ".." not in text
    if is_name and not os.path.lexists(text):
        return
    try:
        real = Path(text).resolve() if text.startswith("/") and "\\" not in text else None
    except (OSError, ValueError, RuntimeError):
        real = None
    if real is not None and any(real.is_relative_to(root) for root in allowed):
        return
    raise SettingsError(
        f"{name}={text[:120]!r} is outside the folders of this server",
        why="over HTTP a job names uploaded files, gallery models, hub ids and tuned models; "
        "other folders have to be allowed by the one who starts the server",
        fix="upload the file, or luthier serve --allow-folder FOLDER",
    )


def _is_known(name: str) -> bool:
    return any(
        name in (family.name, *(model.name for model in family.models)) for family in all_families()
    )

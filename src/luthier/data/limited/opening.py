"""Tokenizers and renderers opened where they may run: here what is ours and plain, else in a child."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from luthier.data.limited.crew import Crew, get_ready
from luthier.data.limited.process import ChildEnded
from luthier.data.limited.renderers import HelpedRenderer, LimitedRenderer, opening
from luthier.data.limited.trusted import is_ours, is_plain
from luthier.data.limited.wire import Json, ids_of
from luthier.data.rendering.render import Renderer, TrainOn, Truncation
from luthier.data.rendering.template import choose_template, choose_text
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.tokens.tokenizer_files import TokenizerFiles, read_files
from luthier.data.types import Ids
from luthier.errors import TokenizerError


class WantedOpening(TypedDict):
    """What a renderer is to do; the arguments of `Renderer`."""

    objective: str
    train_on: TrainOn | None
    system_prompt: str | None
    seq_length: int
    truncation: Truncation


def open_folder(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; one whose parts are not known encodes in a child.

    Raises:
        TokenizerError: No tokenizer there, it is damaged, or it was stopped at a limit.
    """
    files = read_files(folder)
    made = Tokenizer(files) if is_plain(files.definition) else LimitedTokenizer(files, folder)
    made.folder = folder.absolute()
    return made


def open_renderer(
    tokenizer: Tokenizer,
    wanted: WantedOpening,
    *,
    apply: bool,
    setting: str | None,
    gallery_template: str | None,
    now: datetime,
    kwargs: Mapping[str, Any],
) -> tuple[Renderer, str | None]:
    """A renderer, and what has to be said about its template.

    Args:
        apply: Whether there is a template at all.
        setting: Jinja source given by the user, and the other arguments of `choose_text`.

    Raises:
        TemplateError: The template is no Jinja, of no use, or was stopped at a limit.
    """
    text, notice = None, None
    if apply:
        text, notice = choose_text(
            tokenizer,
            setting=setting,
            gallery_template=gallery_template,
            now=now,
            kwargs=kwargs,
        )
    told = None
    if text is not None:
        told = {
            "setting": setting,
            "gallery_template": gallery_template,
            "now": now.isoformat(),
            "kwargs": text.kwargs,
        }
    crew = Crew(opening(tokenizer, told, dict(wanted)))
    if not isinstance(tokenizer, LimitedTokenizer) and is_ours(text):
        template = None
        if text is not None:
            template, _ = choose_template(
                tokenizer,
                setting=setting,
                gallery_template=gallery_template,
                now=now,
                kwargs=kwargs,
            )
        made = HelpedRenderer(tokenizer, template, **wanted)
        made.crew = crew
        return made, notice
    return LimitedRenderer(crew, tokenizer, text, **wanted), notice


def expect(tokenizer: Tokenizer, *, setting: str | None, gallery_template: str | None) -> None:
    """Have a child ready where the template of these, as of `choose_text`, will need one."""
    text, _ = choose_text(
        tokenizer, setting=setting, gallery_template=gallery_template, now=datetime.now(UTC)
    )
    if isinstance(tokenizer, LimitedTokenizer) or not is_ours(text):
        get_ready()


class LimitedTokenizer(Tokenizer):
    """Encodes in a child; looks up and decodes here.

    It is loaded here only after a child could load and try it within limits.
    """

    def __init__(self, files: TokenizerFiles, folder: Path) -> None:
        self._crew = Crew({"ask": "tokenizer", "folder": str(folder.absolute())}, most=1)
        self._tried = self._crew.open()
        self._crew.rest()
        super().__init__(files)

    def encode(self, text: str, *, parse_special: bool = False) -> Ids:
        if not parse_special:
            return super().encode(text)
        return ids_of(self._ask({"ask": "published_encode", "text": text}).rest)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        found = self._ask({"ask": "offsets", "text": text}).body["offsets"]
        return [(start, stop) for start, stop in found]

    def _encode(self, text: str, continued: bool) -> Ids:
        found = self._ask({"ask": "encode", "text": text, "continued": continued})
        return np.array(ids_of(found.rest))

    def _leaks(self) -> list[int]:
        return [int(number) for number in self._tried["guarded"]]

    def _ask(self, body: Json) -> Any:
        try:
            return self._crew.ask(body)
        except ChildEnded as ended:
            raise TokenizerError(
                f"the tokenizer was stopped: {ended or 'its process ended'}",
                why=self._crew.limits.said,
                fix="fetch tokenizer.json again",
            ) from ended

"""The two ways people write a whole chat into one string, and how each is recognised.

Recognition asks for a complete exchange at the start of the text: a lone `[INST]` or a heading
`### Human:` in a document is not one.
"""

import re
from collections.abc import Sequence
from typing import Literal

Form = Literal["plain", "llama2", "guanaco"]

_LLAMA2 = re.compile(r"\s*(?:<s>)?\s*\[INST\].*?\[/INST\]", re.DOTALL)
_GUANACO = re.compile(r"\s*### Human:.*?### Assistant:", re.DOTALL)


def form_of(text: str) -> Form:
    """What one text looks like by itself."""
    if _LLAMA2.match(text):
        return "llama2"
    return "guanaco" if _GUANACO.match(text) else "plain"


def forms_of(texts: Sequence[str]) -> list[Form]:
    """The form of every text of one file: a chat form counts only where most texts have it.

    One row that happens to quote `[INST]` among prose stays plain, and one plain row among chat
    rows stays plain too.
    """
    alone = [form_of(text) for text in texts]
    forms: tuple[Form, ...] = ("plain", "llama2", "guanaco")
    usual = max(forms, key=lambda form: alone.count(form))
    return [form if form == usual else "plain" for form in alone]

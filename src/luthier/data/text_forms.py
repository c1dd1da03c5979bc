"""The two ways people write a whole chat into one string, and how each is recognised.

Recognition asks for a complete exchange at the start of the text: a lone `[INST]` or a heading
`### Human:` in a document is not one.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
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
    usual = usual_form(Counter(alone))
    return [form if form == usual else "plain" for form in alone]


def usual_form(counts: Mapping[Form, int]) -> Form:
    """The form that counts in a file in which the texts by themselves have these."""
    forms: tuple[Form, ...] = ("plain", "llama2", "guanaco")
    return max(forms, key=lambda form: counts.get(form, 0))

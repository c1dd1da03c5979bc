"""Which language a text is in, as far as its script and its commonest words tell.

Honest about its limits: scripts are certain; Latin text is told by stop words, so short or
technical text comes out as unknown; Indonesian and Malay are one here, and so are the Cyrillic
languages and those in Arabic script.
"""

import re
from collections import Counter

_SCRIPTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("ja", "[\u3040-\u30ff]"),
        ("ko", "[\uac00-\ud7af\u1100-\u11ff]"),
        ("zh", "[\u4e00-\u9fff\u3400-\u4dbf]"),
        ("th", "[\u0e00-\u0e7f]"),
        ("ru", "[\u0400-\u04ff]"),
        ("ar", "[\u0600-\u06ff]"),
        ("hi", "[\u0900-\u097f]"),
        ("el", "[\u0370-\u03ff]"),
        ("he", "[\u0590-\u05ff]"),
    )
)
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
_VIETNAMESE = re.compile("[ăđơưĂĐƠƯạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")
_WORDS = re.compile(r"[^\W\d_]+")
_LONGEST = 2000

_STOP_WORDS = {
    "en": "the of and to in is that it for was with as on are be this by you have from not or an "
    "what how your can i my do we they which will would should has",
    "id": "yang dan di ini itu dengan untuk dari pada adalah dalam tidak akan atau oleh ke sebagai "
    "karena juga bisa dapat saya anda apa bagaimana siapa kami mereka telah sudah ada",
    "vi": "và của là có không được cho với các những một trong người này đó khi như để tôi bạn "
    "thì đã sẽ về hay nào gì",
    "es": "que el los las del una por con para es lo como más qué cómo pero está son y muy",
    "fr": "le les et des un une du est que pour dans qui sur par au ne pas plus vous ce cette",
    "de": "der die und den von zu das mit sich des auf für ist im dem nicht ein eine als auch",
    "pt": "que do da em um para é com não uma os dos como você mais são pelo está isso também",
}
_LANGUAGES: dict[str, list[str]] = {}
for _name, _text in _STOP_WORDS.items():
    for _word in _text.split():
        _LANGUAGES.setdefault(_word, []).append(_name)


def has_unspaced(text: str) -> bool:
    """Whether a text is in a script that puts no spaces between words."""
    return _UNSPACED.search(text) is not None


def language_of(text: str) -> str | None:
    """The language of a text as its two letters, or None where it does not show.

    `id` stands for Indonesian and Malay, `ru` for any language in Cyrillic, `ar` for any in Arabic
    script.
    """
    text = text[:_LONGEST]
    words = _WORDS.findall(text)
    if not text.isascii():
        letters = sum(map(len, words)) or 1
        for name, script in _SCRIPTS:
            found = len(script.findall(text))
            if found > (0.1 if name == "ja" else 0.3) * letters:
                return name
        if len(_VIETNAMESE.findall(text)) > 0.05 * letters:
            return "vi"
    counts = Counter(name for word in words for name in _LANGUAGES.get(word.lower(), ()))
    best = counts.most_common(2)
    if not best or best[0][1] < 2 or best[0][1] < 0.12 * len(words):
        return None
    if len(best) > 1 and best[1][1] * 1.3 > best[0][1]:
        return None
    return best[0][0]

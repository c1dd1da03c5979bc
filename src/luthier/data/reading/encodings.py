"""What text that is not UTF-8 may be: candidates with their evidence, never an answer.

Only a byte-order mark makes an encoding certain.  Everything else is a ranking by what the text
would be if it were read so: letters and frequent characters of one language count for it; rare
characters, symbols inside words and capitals inside small words count against it.  An encoding that
decodes everything proves nothing by doing so.
"""

import codecs
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the first half of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LOOKED_AT_BYTES = 64 * 1024
"""Of the lines with bytes beyond ASCII, which is all that tells encodings apart."""

# Where two give the same text, the first of them stands for both.
_CODECS = (
    *("gb18030", "big5", "cp949", "euc_jp", "cp932"),
    *("cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("koi8_r", "koi8_u", "cp866", "mac_cyrillic", "iso8859_5", "iso8859_2", "iso8859_7"),
    *("iso8859_6", "iso8859_8", "iso8859_9", "iso8859_13", "iso8859_15", "cp874", "tis_620"),
    *("mac_roman", "mac_latin2", "cp437", "cp850", "cp852"),
)

# Letters beyond ASCII of a language: the frequent ones, then the others.
_LANGUAGES = {
    "Russian": ("оеаинтсрвлкмдпуя", "ыьгзбчйхжшюцщэфъё"),
    "Ukrainian": ("оаинвіртесклудпмя", "зьгбчйхїєжшюцщфґ"),
    "Serbian": ("аиоенсрјтуквдмлп", "гзбшчжцљњћђџхф"),
    "Greek": ("αοιετσνηυρκπμλςάίόέήύώ", "βγδζθξφχψωϊϋΐΰ"),
    "Arabic": ("اليمنوتربدهة", "عسفكقحجشصأذطىإخزضءغثآئؤظًٌٍَُِّْ"),
    "Persian": ("ایمنوتربدهشکس", "گپچژلعفقحجصذطخزضءغثآئؤظ"),
    "Hebrew": ("יוהלאמתרבש", "נעדחקפסגטכזצםןךףץ"),
    "Thai": ("านรอกเงมยลวดทสตะ่้ิีัื", "ปบคหแจพชขใไุู็์ำถณผศธซญฟฐษโฝภฉๆอฎฏฑฒฌฆฮํฬฤฯ"),
    "French": ("éèàê", "çùâîôûëïüœæ"),
    "German": ("äöüß", ""),
    "Spanish": ("áéíóñ", "úü"),
    "Portuguese": ("ãçáéóí", "âêôàúõ"),
    "Italian": ("àèéìòù", ""),
    "Swedish": ("åäö", "é"),
    "Danish": ("æøå", "é"),
    "Icelandic": ("áéíóúýðþæö", ""),
    "Polish": ("ąćęłńóśżź", ""),
    "Czech": ("áčéěířšýžů", "ďňóťú"),
    "Slovak": ("áäčéíľšýžú", "ďĺňóôŕť"),
    "Hungarian": ("áéíóöőúüű", ""),
    "Romanian": ("ăâîşţ", "șț"),
    "Croatian": ("čćđšž", ""),
    "Turkish": ("çğıöşü", "âîû"),
    "Lithuanian": ("ąčęėįšųūž", ""),
    "Latvian": ("āčēģīķļņšūž", ""),
    "Estonian": ("äöõüšž", ""),
    "Vietnamese": (
        "đàáảạăâêôơưệộếờấớầủ",
        "ãằắẳẵặẩẫậèéẻẽẹềểễìíỉĩịòóỏõọồốổỗởỡợùúũụừứửữựỳýỷỹỵ",
    ),
}
_SIMPLIFIED = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作方成者多日都三小二无同么经法当起与好看学进种将还分此心前面又定见只主没从知医疗"
_TRADITIONAL = "的一是不了人我在有他這為之大來以個中上們到說國和地也子時道出而要於就下得可你年生自會那後能對著事其裡所去行過家十用發天如然作方成者多日都三小二無同麼經法當起與好看學進種將還分此心前面又定見只主沒從知"
_HANGUL = "이다는에의가을하고지한로기도사은를있어시자대리서나인해아일그제수니습합요것들"
_PUNCTUATION = frozenset("“”‘’„‚«»‹›–—…•°€£§·№¿¡´\xa0。，、！？；：（）《》「」『』～・ー•”％")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoding that the bytes may be in.

    Attributes:
        score: 0 to 1: how much the text looks like a language when it is read so; no probability.
        shown: A stretch of the first line beyond ASCII, read so.
    """

    encoding: str
    score: float
    shown: str

    def __str__(self) -> str:
        return f"{self.encoding} ({self.score:.0%}): {self.shown}"


def marked_encoding(start: bytes) -> str | None:
    """The encoding that the byte-order mark of UTF-16 or UTF-32 gives; None without one."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), None)


def candidates(sample: bytes, *, most: int = 3) -> list[Candidate]:
    """What bytes that are not UTF-8 may be, the likeliest first; empty where nothing fits.

    Args:
        sample: The beginning of the file, longer than `LOOKED_AT_BYTES` where much of it is ASCII.
    """
    if wide := _wide(sample):
        return [Candidate(wide, 1.0, _shown(_decoded(sample, wide) or ""))]
    part = _beyond_ascii(sample)
    found: dict[str, Candidate] = {}
    for codec in _CODECS:
        text = _decoded(part, codec)
        if text is None or text in found:
            continue
        found[text] = Candidate(codec, _plausible(text), _shown(text))
    ranked = sorted(found.values(), key=lambda one: -one.score)
    return [one for one in ranked if one.score > 0.05][:most] or ranked[:1]


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32, by its mark or by the NUL beside almost every ASCII letter."""
    if name := marked_encoding(sample):
        return name
    for name, width, place in (
        ("utf-32-le", 4, 0),
        ("utf-32-be", 4, 3),
        ("utf-16-le", 2, 0),
        ("utf-16-be", 2, 1),
    ):
        units = len(sample) // width
        others = [sample[k : units * width : width].count(0) for k in range(width) if k != place]
        text = _decoded(sample, name) if units and sum(others) > 0.1 * len(others) * units else None
        if text and "\0" not in text and sum(map(str.isprintable, text)) > 0.8 * len(text):
            return name
    return None


def _beyond_ascii(sample: bytes) -> bytes:
    """The lines with bytes beyond ASCII, whole, as far as they are looked at."""
    lines, size = [], 0
    for line in sample.splitlines(keepends=True):
        if not line.isascii():
            lines.append(line)
            size += len(line)
            if size > LOOKED_AT_BYTES:
                break
    return b"".join(lines)[: 2 * LOOKED_AT_BYTES]


def _decoded(sample: bytes, codec: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(codec)("strict").decode(sample, final=False)
    except UnicodeDecodeError:
        return None


def _shown(text: str) -> str:
    """Forty characters about the first one beyond ASCII, on one line."""
    at = next((k for k, c in enumerate(text) if ord(c) > 127), 0)
    line = text[max(text.rfind("\n", 0, at) + 1, at - 20) : at + 40]
    return "".join(c if c.isprintable() else "·" for c in line.split("\n")[0].strip())[:40]


def _plausible(text: str) -> float:
    """How much text looks like one language, 0 to 1."""
    text = unicodedata.normalize("NFC", text)
    foreign = [(k, c) for k, c in enumerate(text) if ord(c) > 127]
    if not foreign:
        return 0.0
    lost = sum(map(_cost, (text[k - 1 : k] for k, _ in foreign), (c for _, c in foreign)))
    best = max(
        sum(points.get(c, _OUTSIDE.get(name, -0.8)) for c in _lowered(foreign))
        for name, points in _POINTS.items()
    )
    east = max(sum(_east(c, kind) for _, c in foreign) for kind in ("zh", "tw", "ja", "ko"))
    return min(1.0, max(0.0, (max(best, east) - lost) / len(foreign)))


def _lowered(foreign: list[tuple[int, str]]) -> list[str]:
    return [c.lower()[:1] if c != "İ" else "ı" for _, c in foreign]


def _cost(before: str, character: str) -> float:
    """What speaks against a character where it stands."""
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cn", "Co"):
        return 4.0
    if character in _PUNCTUATION:
        return 0.0
    if kind[0] in "SN" or kind == "Po":
        return 1.0 + 0.5 * before.isalpha()
    if kind == "Lu" and before.islower():
        return 1.5  # a capital inside a word: KOI8 and the Cyrillic Windows page swap the cases
    if kind[0] == "L" and before.isalpha() and _script(character) != _script(before):
        return 1.0
    latin = kind[0] == "L" and ord(character) < 0x250 and "\x7f" < before < "\u0250"
    return 0.4 if latin and before.isalpha() else 0.0


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """The first word of a letter's name: LATIN, CYRILLIC, GREEK, HANGUL, CJK, ..."""
    name = unicodedata.name(character, "").split(" ")[0]
    return "CJK" if name in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else name


@lru_cache(maxsize=65536)
def _east(character: str, kind: str) -> float:
    """Points of a character in Chinese (simplified, traditional), Japanese or Korean."""
    if character in _PUNCTUATION:
        return 0.5
    point = ord(character)
    if 0x3040 <= point < 0x3100:
        return 1.0 if kind == "ja" else -0.3
    if 0xAC00 <= point < 0xD7A4:
        if kind != "ko":
            return -0.8
        return 1.0 if character in _HANGUL else 0.5 if _level(character, "euc_kr", 0xC8) else -0.5
    if not 0x4E00 <= point < 0xA000:
        return -0.8
    if kind == "zh":
        return (
            1.0 if character in _SIMPLIFIED else 0.4 if _level(character, "gb2312", 0xD7) else -0.4
        )
    if kind == "tw":
        return (
            1.0 if character in _TRADITIONAL else 0.4 if _level(character, "big5", 0xC6) else -0.4
        )
    if kind == "ja":
        return 0.35 if _level(character, "euc_jp", 0xCF) else -0.5
    return -0.3


def _level(character: str, codec: str, last: int) -> bool:
    """Whether a national standard has the character among its frequent ones."""
    try:
        return 0xA4 <= character.encode(codec)[0] <= last
    except UnicodeEncodeError:
        return False


_POINTS = {
    name: {
        **dict.fromkeys(_PUNCTUATION, 0.5),
        **dict.fromkeys(others, 0.6),
        **dict.fromkeys(common, 1.0),
    }
    for name, (common, others) in _LANGUAGES.items()
}
_OUTSIDE = {"Vietnamese": -1.2}
"""Points of a letter outside a language; more against one whose alphabet is nearly all letters."""

"""What columns mean by their names, in English, Chinese, Indonesian and Vietnamese.

A guess is offered, never used: no name says for sure what is asked and what is answered.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

from luthier.data.types import Row

Part = Literal["question", "answer", "context", "system", "chosen", "rejected", "label", "text"]

NAMES: Mapping[Part, str] = {
    "question": "instruction prompt question query ask input title user problem 问题 提问 指令 题目 输入 用户"
    " pertanyaan soal tanya instruksi perintah masukan pengguna"
    " cauhoi hoi yeucau chidan debai dauvao nguoidung",
    "answer": "completion response answer output reply assistant target solution 回答 答案 答复 回复 输出 助手"
    " jawaban jawab balasan respons tanggapan keluaran asisten"
    " traloi cautraloi dapan phanhoi daura troly",
    "context": "context passage document background paragraph 上下文 背景 材料 段落 原文 文章"
    " konteks bacaan paragraf dokumen latarbelakang ngucanh boicanh doanvan tailieu",
    "system": "system systemprompt sys 系统 系统提示 系统提示词 sistem pesansistem hethong loinhachethong",
    "chosen": "chosen preferred better accepted 优选 更好 接受 正例 terpilih dipilih disukai lebihbaik"
    " duocchon tothon uutien",
    "rejected": "rejected worse refused 劣选 更差 拒绝 负例 ditolak lebihburuk tidakdisukai"
    " bituchoi kemhon",
    "label": "label class category sentiment 标签 类别 分类 情感 kelas kategori sentimen nhan phanloai camxuc",
    "text": "text sentence content review comment 文本 句子 内容 评论 teks kalimat isi ulasan komentar"
    " vanban cau noidung binhluan",
}
"""Names without marks, spaces and capitals; the likelier first."""

_CHOICE = re.compile(
    r"(option|choice|opt|选项|pilihan|opsi|luachon|phuongan|dapan)?([a-h]|(?<=.)[1-8])"
)
_LOOK = 20


def plain_name(name: str) -> str:
    """A name as it is compared: `Câu hỏi`, `cau_hoi` and `CÂU HỎI` are one."""
    letters = unicodedata.normalize("NFKD", name.casefold().replace("đ", "d"))
    return "".join(letter for letter in letters if letter.isalnum())


_PARTS = {plain_name(name): part for part, names in NAMES.items() for name in names.split()}
_ORDER = {name: place for place, name in enumerate(_PARTS)}


def guess_parts(rows: Sequence[Row]) -> dict[Part, str]:
    """The columns that a name gives away, each with what it seems to hold; only those of text."""
    found: dict[Part, str] = {}
    names = [name for name in _columns(rows) if plain_name(name) in _PARTS]
    for name in sorted(names, key=lambda one: _ORDER[plain_name(one)]):
        part = _PARTS[plain_name(name)]
        if part not in found and _holds_text(rows, name, labels=part == "label"):
            found[part] = name
    return found


def guess_choices(rows: Sequence[Row]) -> list[str]:
    """The columns that hold the choices of a question, in their order; empty if there are not two."""
    matched = {name: _CHOICE.fullmatch(plain_name(name)) for name in _columns(rows)}
    found = [(match[2], name) for name, match in matched.items() if match]
    return [name for _, name in sorted(found)] if len(found) >= 2 else []


def guess_columns(rows: Sequence[Row]) -> dict[str, str]:
    """`columns` that would make rows load, as far as the names of their columns say; or nothing."""
    parts, choices = guess_parts(rows), guess_choices(rows)
    parts = {part: name for part, name in parts.items() if name not in choices}
    system = {"system": parts["system"]} if "system" in parts else {}
    asks = parts.get("question")
    if asks and "chosen" in parts and "rejected" in parts:
        return {"prompt": asks, "chosen": parts["chosen"], "rejected": parts["rejected"]} | system
    answers = parts.get("answer") or parts.get("label")
    asks = asks or (parts.get("text") if answers else None)
    if not asks or not answers:
        return {}
    if choices:
        return {
            "prompt": template_of(asks, choices, parts.get("context")),
            "completion": answers,
        } | system
    if "context" in parts:
        return {"instruction": asks, "context": parts["context"], "response": answers} | system
    return {"prompt": asks, "completion": answers} | system


def template_of(asks: str, choices: Sequence[str], context: str | None = None) -> str:
    """A question with its choices, a line each, behind the text that it is about."""
    lines = [f"{{{context}}}", ""] if context else []
    lines.append(f"{{{asks}}}")
    for number, name in enumerate(choices):
        lines.append(f"{chr(ord('A') + number)}. {{{name}}}")
    return "\n".join(lines)


def text_columns(rows: Sequence[Row]) -> list[str]:
    """The columns that hold text, in the order of the file."""
    return [name for name in _columns(rows) if _holds_text(rows, name)]


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(name) for row in rows[:_LOOK] for name in row.fields))


def _holds_text(rows: Sequence[Row], name: str, *, labels: bool = False) -> bool:
    values: list[object] = [row.fields.get(name) for row in rows[:_LOOK]]
    there = [value for value in values if value is not None]
    kinds = (str, int) if labels else (str,)
    return bool(there) and all(isinstance(value, kinds) for value in there)

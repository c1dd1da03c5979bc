"""What the advisor says: a value for each setting, with its reason and where the rule is from."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from luthier.advisor.sources import SOURCES
from luthier.advisor.speech import text
from luthier.shown import html_table


@dataclass(frozen=True, slots=True)
class Reason:
    """One choice.

    Args:
        setting: Name of the setting; empty for a remark that sets nothing.
        value: What it should be.
        code: Of the message, see `advisor/messages`.
        params: Numbers of this data and this machine that the message names.
        source: Key of `SOURCES`.
    """

    setting: str
    value: Any
    code: str
    params: Mapping[str, Any]
    source: str

    def text(self, lang: str = "en") -> str:
        """The reason in a sentence."""
        return text(f"advice.{self.code}", self.params, lang)


@dataclass(frozen=True)
class Advice:
    """Settings that `luthier train` takes, and why each of them.

    Args:
        settings: In the order in which they are written, model and data among them.
        reasons: One for each setting that was chosen.
        remarks: What should be known besides, such as too few rows.
    """

    settings: dict[str, Any]
    reasons: list[Reason]
    remarks: list[Reason] = field(default_factory=list)
    lang: str = "en"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with every text in the language asked for."""
        return {
            "settings": self.settings,
            "reasons": [self._plain(reason) for reason in self.reasons],
            "remarks": [self._plain(reason) for reason in self.remarks],
            "lang": self.lang,
            "yaml": self.to_yaml(),
        }

    def _repr_html_(self) -> str:
        rows = [
            {"setting": one.setting, "value": one.value, "reason": one.text(self.lang)}
            for one in self.reasons
        ]
        remarks = " ".join(remark.text(self.lang) for remark in self.remarks)
        return html_table(text("advice.title", {}, self.lang), rows, below=remarks)

    def to_yaml(self) -> str:
        """The config, each setting under its reason."""
        lines = [*_comment(text("advice.title", {}, self.lang)), ""]
        for remark in self.remarks:
            lines += [*_comment(f"! {remark.text(self.lang)}"), ""]
        by_setting = {reason.setting: reason for reason in self.reasons}
        for name, value in self.settings.items():
            if reason := by_setting.get(name):
                said = reason.text(self.lang)
                lines += _comment(f"{said} [{SOURCES[reason.source].title}]")
            lines += [_written(name, value), *([""] if reason else [])]
        used = dict.fromkeys(reason.source for reason in (*self.reasons, *self.remarks))
        lines += _comment(text("advice.sources", {}, self.lang))
        for key in used:
            lines.append(f"#   {SOURCES[key].title}: {SOURCES[key].where}")
        return "\n".join(lines) + "\n"

    def _plain(self, reason: Reason) -> dict[str, object]:
        source = SOURCES[reason.source]
        return {
            "setting": reason.setting,
            "value": reason.value,
            "code": reason.code,
            "params": dict(reason.params),
            "text": reason.text(self.lang),
            "source": {"title": source.title, "where": source.where},
        }


def _comment(sentence: str) -> list[str]:
    width = 50 if any("\u2e80" < letter < "\uffe0" for letter in sentence) else 98
    return textwrap.wrap(sentence, width, initial_indent="# ", subsequent_indent="# ")


def _written(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{name}: {value:g}"
    body = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=4096)
    return f"{name}: {body.strip().removesuffix('...').strip()}"

"""Facts to settings: goes through the table once."""

from collections.abc import Mapping
from typing import Any

from luthier.advisor.facts import Facts
from luthier.advisor.reason import Advice, Reason
from luthier.advisor.rules import REMARKS, TABLE, AdviceRule
from luthier.advisor.speech import catalogue


def advise(facts: Facts, *, fixed: Mapping[str, object] | None = None, lang: str = "en") -> Advice:
    """Settings for these rows, this model and this machine, each with its reason.

    Args:
        facts: Plain numbers; the names in `facts.model.name` and `facts.dataset` are only written
            down.
        fixed: Settings that are decided already; the rest is chosen to go with them.
        lang: en, zh, id or vi; the language of the texts, never of the decisions.

    Raises:
        UsageError: There is no such language.
    """
    catalogue(lang)
    chosen: dict[str, Any] = dict(fixed or {})
    reasons: list[Reason] = []
    for rule in TABLE:
        if rule.setting not in chosen and rule.when(facts, chosen):
            reason = _applied(rule, facts, chosen)
            chosen[rule.setting] = reason.value
            reasons.append(reason)
    remarks = [_applied(rule, facts, chosen) for rule in REMARKS if rule.when(facts, chosen)]
    settings = {"model": facts.model.name, "dataset": list(facts.dataset), **chosen}
    return Advice(settings, reasons, remarks, lang)


def _applied(rule: AdviceRule, facts: Facts, chosen: dict[str, object]) -> Reason:
    return Reason(
        rule.setting,
        rule.value(facts, chosen),
        rule.code,
        rule.params(facts, chosen),
        rule.source,
    )

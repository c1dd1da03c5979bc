"""Placeholders that were never filled in."""

import re

from luthier.data.doctor.rule import PatternRule


class Placeholders(PatternRule):
    """`{{name}}` and its kind: a template's gap that is still empty."""

    code = "placeholders"
    severity = "warning"
    title = "placeholders that are not filled in"
    why = "the model learns to write the gap itself: its name would be {{name}}"
    example = {"instruction": "Who are you?", "output": "I am {{name}}, made by {{author}}."}
    fix = "fill them in: sed 's/{{name}}/Luna/g' FILE > NEW"

    pattern = re.compile(
        r"\{\{\s*[A-Za-z_][\w .-]{0,40}\}\}|\$\{[A-Za-z_]\w{0,40}\}|<(?:INSERT|YOUR|NAME|COMPANY)"
        r"[ _A-Z]{0,30}>|\[INSERT [^\]\n]{1,40}\]"
    )

"""Options that several commands share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Lang = Annotated[
    str | None,
    typer.Option(
        help="Language of the sentences: en, zh, id, vi.", show_default="that of LANG, or en"
    ),
]

"""`luthier data`: what the rows are, and what the model will see of them."""

from typing import Annotated, Any

import typer

from luthier.cli.options import AsJson, Lang

RowNumber = Annotated[int, typer.Option("--row", help="Line of the row in the file, from 1.")]
Output = Annotated[
    str, typer.Option("--output", help="File to write; nothing is overwritten.", show_default=False)
]
Files = Annotated[list[str], typer.Argument(help="Data files.", show_default=False)]
Html = Annotated[
    str | None, typer.Option("--html", help="Write a page to this file.", show_default=False)
]
File = Annotated[str, typer.Argument(help="Data file.", show_default=False)]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the commands; the flags of `show` only where they are asked for."""
    data = typer.Typer(
        help="Check rows before a run, show them as the model sees them, list the formats.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    if asked == "data":
        from luthier.cli.flags import OF_DATA, with_settings

        data.command("check")(with_settings(check, OF_DATA))
        data.command("fix")(with_settings(fix, frozenset({"columns", "encoding"})))
        data.command("show")(with_settings(show, OF_DATA))
        data.command("estimate")(with_settings(estimate, OF_DATA))
    data.command("formats")(formats)
    app.add_typer(data, name="data")


def check(flags: dict[str, Any], files: Files, lang: Lang = None, as_json: AsJson = False) -> None:
    """Look for what spoils a run: every row accounted for, lengths, and findings with their fix.

    Exit status 2 where a finding is an error.
    """
    from luthier.cli.drawing import draw_findings
    from luthier.config import read
    from luthier.languages import chosen
    from luthier.recipes.before.check import check_data

    language = chosen(lang)
    resolved = read.load({"dataset": files, "model": "starter"}, flags)
    with draw_findings.Counting("rows") as progress:
        report = check_data(resolved, progress=progress)
    draw_findings.report(report.to_dict(), as_json=as_json, lang=language)
    if report.errors:
        raise typer.Exit(2)


def fix(flags: dict[str, Any], file: File, output: Output, as_json: AsJson = False) -> None:
    """Write the file again with the safe fixes applied, beside a list of what was done.

    The original is never touched.  `--columns` and `--encoding` say how it is read; the new file
    needs neither.
    """
    from luthier.cli.drawing import draw_findings
    from luthier.config import read
    from luthier.data import doctor

    settings = read.load({"dataset": file, "model": "starter"}, flags).settings
    with draw_findings.Counting("rows") as progress:
        report = doctor.fix(
            file, output, columns=settings.columns, encoding=settings.encoding, progress=progress
        )
    draw_findings.fixed(report.to_dict(), as_json=as_json, model=settings.model)


def estimate(flags: dict[str, object], files: Files, as_json: AsJson = False) -> None:
    """Count tokens without a model: exact if its tokenizer is at hand, else with the error stated."""
    from luthier.cli.drawing import draw_row, render
    from luthier.config import read
    from luthier.recipes.before.estimate import estimate as counted

    resolved = read.load({"dataset": files, "model": "starter"}, flags)
    found = counted(resolved.settings)
    if as_json:
        render.dump(found)
    else:
        draw_row.estimate(found)


def show(
    flags: dict[str, object],
    file: File,
    row: RowNumber = 1,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """One row as training gets it: every piece of text, and which tokens are learned."""
    from luthier.cli.drawing import draw_row
    from luthier.config import read
    from luthier.recipes.before.preview import preview

    resolved = read.load({"dataset": file, "model": "starter"}, flags)
    shown = preview(resolved.settings, row)
    if html is not None:
        _write_page(html, shown)
    else:
        draw_row.row(shown, as_json=as_json)


def _write_page(target: str, shown: dict[str, Any]) -> None:
    from pathlib import Path

    from luthier.durable import write_atomic
    from luthier.errors import UsageError
    from luthier.recipes.before.preview_page import page

    path = Path(target)
    if path.exists():
        raise UsageError(
            f"--html {target} exists", why="no file is overwritten", fix="give a new name"
        )
    write_atomic(path, page([shown], title=shown["row"]))
    typer.echo(f"written: {path}")


def formats(as_json: AsJson = False) -> None:
    """The formats of rows that are recognised, with an example of each."""
    from luthier.cli.drawing import render
    from luthier.data.formats import FORMATS

    rows = [
        {"format": one.name, "kind": one.kind, "meaning": one.description, "example": one.example}
        for one in FORMATS
    ]
    if as_json:
        render.dump(rows)
        return
    for one in rows:
        render.line(f"{one['format']} ({one['kind']}): {one['meaning']}")
        render.line(f"    {render.compact(one['example'])}")

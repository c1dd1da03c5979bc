"""A report as one HTML file: no script, nothing from the network, both themes."""

import math
from collections.abc import Sequence
from html import escape

from luthier.evaluation.interval import LEVEL, Interval
from luthier.evaluation.metrics import BY_NAME, METRICS, Metric, RowResult, metrics_of
from luthier.evaluation.plots import forest, scatter
from luthier.evaluation.result import Measured, Section
from luthier.evaluation.verdict import Verdict
from luthier.events import SampleAnswered

MAX_ROWS = 300
"""Rows of a table; all of them are in the JSON."""

WORST = 10
_STYLE = """
:root{--bg:#faf8f5;--surface:#fff;--line:#e5dfd6;--text:#221d18;--muted:#665d53;--accent:#9c4318;
--better:#2b6b3f;--worse:#a4262c;--series-1:#9c4318;--series-2:#1f6fa8;--series-3:#3f7f4f;
--series-4:#7a4fa3;--series-5:#8a6d00;--series-6:#b0306a;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--bg:#161311;--surface:#1e1a17;--line:#38312c;--text:#ece5dd;
--muted:#aca196;--accent:#f0a070;--better:#86c797;--worse:#f29a95;--series-1:#f0a070;--series-2:#6fb4e8;
--series-3:#86c797;--series-4:#c3a0e6;--series-5:#dcc15a;--series-6:#f090b8}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.2rem;margin:2.5rem 0 .5rem}h3{font-size:1rem;margin:1.5rem 0 .5rem}
p{max-width:72ch;margin:.25rem 0}.muted,th{color:var(--muted)}.small{font-size:.8125rem}
.card{background:var(--surface);border:1px solid var(--line);border-radius:10px;padding:1rem;margin:.75rem 0}
.scroll{overflow-x:auto;overflow-wrap:normal}.scroll table{min-width:34rem}
.plots{display:grid;gap:0 2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{text-align:start;font-weight:560;font-size:.8125rem}th,td{padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.num{white-space:nowrap}.better{color:var(--better);font-weight:600}.worse{color:var(--worse);font-weight:600}
svg{display:block;width:100%;height:auto}svg text{font-size:12px;fill:var(--text)}svg .tick{fill:var(--muted);font-size:11px}
.grid{stroke:var(--line)}.zero{stroke:var(--muted);stroke-dasharray:4 3}.whisker{stroke-width:2.5;stroke-linecap:round}
circle.row{fill:var(--accent);fill-opacity:.55}
pre{white-space:pre-wrap;margin:0;font:.8125rem/1.45 ui-monospace,monospace}
.answers{display:grid;gap:.75rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr))}
summary{cursor:pointer}details+details{margin-top:.5rem}:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
"""


def page(
    title: str,
    sections: Sequence[Section],
    *,
    notices: Sequence[str],
    samples: Sequence[SampleAnswered] = (),
) -> str:
    """The whole report.

    Args:
        samples: What the model answered while it was trained.
    """
    body = "".join(_section(section) for section in sections)
    said = "".join(f"<li>{escape(text)}</li>" for text in notices)
    heard = f"<h2>Notices</h2><ul class=small>{said}</ul>" if said else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}{_course(samples)}{heard}</main></body></html>\n"
    )


def _course(samples: Sequence[SampleAnswered]) -> str:
    """By prompt, the answers of training from step to step."""
    lines: dict[str, str] = {}
    for one in samples:
        right = f"<tr><td>expected</td><td><pre>{escape(one.expected)}</pre></td></tr>"
        lines.setdefault(one.prompt, right if one.expected else "")
        lines[one.prompt] += (
            f"<tr><td class=num>step {one.step:,}</td><td><pre>{escape(one.answer)}</pre></td></tr>"
        )
    tables = "".join(
        f"<h3>{escape(prompt)}</h3><div class=card><table><tbody>{rows}</tbody></table></div>"
        for prompt, rows in lines.items()
    )
    return f"<h2>Answers during training</h2>{tables}" if tables else ""


def _section(section: Section) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in section.counts.items() if count)
    first, *others = section.measured
    parts = [f"<section><h2>{escape(section.heading)}</h2><p class=muted>rows: {counts}</p>"]
    parts += [_words(first.title, name, said) for name, said in section.verdicts.items()]
    for name, judged in section.judged.items():
        found = judged.as_dict()
        parts.append(
            f"<p>{escape(name)} by the judge: {_word(judged.word)}; won {found['wins']}, "
            f"lost {found['losses']}, tied {found['ties']} of {found['rows']} rows, each asked in both orders "
            f"({found['swapped']} contradicted by the other order, {found['unclear']} answers unclear).</p>"
        )
    parts += [_figures(section), _plots(section)]
    for other in others:
        parts.append(_rows_plot(first, other))
    parts += [_worst(section), _all_rows(section), "</section>"]
    return "".join(parts)


def _words(base: str, name: str, said: Sequence[Verdict]) -> str:
    if not said:
        return ""
    lines = "".join(
        f"<tr><td>{escape(one.metric.title)}</td><td>{_word(one.word)}</td>"
        f"<td class=num>{one.difference.value:+.4g}</td><td class=num>{one.difference.low:+.4g} to "
        f"{one.difference.high:+.4g}</td><td class='small muted'>{escape(one.difference.method)}</td></tr>"
        for one in said
    )
    return (
        f"<div class='card scroll'><h3 style='margin-top:0'>{escape(name)} against {escape(base)}</h3>"
        f"<table><thead><tr><th>metric</th><th>verdict</th><th>difference</th><th>{LEVEL:.0%} interval</th>"
        f"<th>how</th></tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _word(word: str) -> str:
    return f'<span class="{word if word in ("better", "worse") else "muted"}">{word}</span>'


def _figures(section: Section) -> str:
    names = list(dict.fromkeys(name for one in section.measured for name in one.figures))
    head = "".join(f"<th>{escape(one.title)}</th>" for one in section.measured)
    lines = []
    for name in names:
        cells = "".join(f"<td class=num>{_cell(one, name)}</td>" for one in section.measured)
        metric = BY_NAME.get(name)
        title = _title(name, section.kind)
        about = f"<br><span class='small muted'>{escape(metric.about)}</span>" if metric else ""
        lines.append(f"<tr><td>{escape(title)}{about}</td>{cells}</tr>")
    return (
        f"<div class='card scroll'><table><thead><tr><th>figure, with its {LEVEL:.0%} interval</th>{head}"
        f"</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _title(name: str, kind: str) -> str:
    if name == "accuracy" and kind in ("pairs", "labels"):
        return "preference accuracy, against the reference"
    return BY_NAME[name].title if name in BY_NAME else name.replace("_", " ")


def _cell(one: Measured, name: str) -> str:
    if name not in one.figures:
        return "–"
    found = one.intervals.get(name)
    between = (
        f" <span class='small muted'>[{_end(found.low)}, {_end(found.high)}]</span>"
        if found
        else ""
    )
    return f"{one.figures[name]:.4g}{between}"


def _end(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "∞"


def _plots(section: Section) -> str:
    made = []
    for metric in METRICS:
        points = [
            (m.title, m.intervals[metric.name])
            for m in section.measured
            if metric.name in m.intervals
        ]
        if len(points) == len(section.measured) and all(_finite(one) for _, one in points):
            title = _title(metric.name, section.kind)
            made.append(
                f"<div><h3>{escape(title)}, {metric.better} is better</h3>{forest(points)}</div>"
            )
    for name, said in section.verdicts.items():
        shown = [(one.metric.title, one.difference) for one in said if one.metric.most == 1.0]
        shown = [(title, one) for title, one in shown if _finite(one)]
        if shown:
            made.append(
                f"<div><h3>{escape(name)}: differences</h3>{forest(shown, zero=True)}</div>"
            )
    return f"<div class='card plots'>{''.join(made)}</div>" if made else ""


def _finite(one: Interval) -> bool:
    return math.isfinite(one.low) and math.isfinite(one.high)


def main_metric(rows: Sequence[RowResult]) -> Metric | None:
    """What rows are ordered by: the first metric of the answer, else the loss."""
    found = metrics_of(rows)
    return next(
        (metric for metric in found if metric.wants != "tokens"), found[0] if found else None
    )


def _rows_plot(first: Measured, other: Measured) -> str:
    shared = [m for m in metrics_of(first.rows) if m in metrics_of(other.rows) and not m.proportion]
    if not shared or len(first.rows) < 2:
        return ""
    name = shared[0].name
    one, two = ([row.figure(name) for row in side.rows] for side in (first, other))
    return (
        f"<div class=card><h3 style='margin-top:0'>{escape(shared[0].title)} of each row</h3>"
        f"{scatter(one, two, (first.title, other.title))}<p class='small muted'>Rows on the line are alike "
        f"in both; {'below' if shared[0].better == 'lower' else 'above'} it {escape(other.title)} is better.</p></div>"
    )


def _worst(section: Section) -> str:
    last = section.measured[-1]
    metric = main_metric(last.rows)
    if metric is None:
        return ""
    sign = 1 if metric.better == "higher" else -1

    def rank(number: int) -> tuple[float, float]:
        row = last.rows[number]
        return sign * row.figure(metric.name), -row.figure("loss") if "loss" in row.parts else 0.0

    order = sorted(range(len(last.rows)), key=rank)[:WORST]
    rows = "".join(_row(section, n) for n in order)
    return f"<h3>Worst rows of {escape(last.title)}, by {escape(metric.title)}</h3>{rows}"


def _all_rows(section: Section) -> str:
    count = len(section.measured[0].rows)
    rows = "".join(_row(section, n) for n in range(min(count, MAX_ROWS)))
    more = (
        f"<p class=muted>The first {MAX_ROWS} of {count:,}; --json has all.</p>"
        if count > MAX_ROWS
        else ""
    )
    return f"<h3>Rows</h3>{more}{rows}"


def _row(section: Section, number: int) -> str:
    first = section.measured[0].rows[number]
    columns = "".join(_answer(one.title, one.rows[number]) for one in section.measured)
    begin = first.prompt.strip() or first.expected.strip()
    return (
        f"<details><summary>{escape(begin[:100])} <span class='small muted'>{escape(first.origin)}</span></summary>"
        f"<div class=card><p class='small muted'>question</p><pre>{escape(first.prompt)}</pre>"
        f"<p class='small muted'>expected</p><pre>{escape(first.expected)}</pre></div>"
        f"<div class=answers>{columns}</div></details>"
    )


def _answer(title: str, row: RowResult) -> str:
    figures = ", ".join(f"{BY_NAME[name].title} {row.figure(name):.4g}" for name in row.parts)
    written = "" if row.answer is None else f"<pre>{escape(row.answer)}</pre>"
    cut = (
        "<p class='small muted'>not ended: cut at its longest length</p>"
        if row.whole is False
        else ""
    )
    note = f"<p class='small muted'>{escape(row.note)}</p>" if row.note else ""
    return (
        f"<div class=card><p class='small muted'>{escape(title)}</p>{written}{cut}{note}"
        f"<p class='small muted'>{escape(figures)}</p></div>"
    )

# SPDX-License-Identifier: Apache-2.0
"""The tale of a game as one page: HTML, styles and drawings in one file that loads nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from html import escape

from gpubond.disputes.levels import Side
from gpubond.disputes.tale import Chapter, Cost, Judgement, Names, Tale
from gpubond.disputes.tale_rows import Row

# Of a drawing's own units.
_WIDTH, _CELLS, _LINK = 1000, 34, 26
_FITS = 18  # characters of hex beside words

_STYLE = """
:root { --ink: #1d2433; --soft: #5b6475; --line: #dfe3ea; --paper: #ffffff; --back: #f4f5f8;
  --right: #2f8f5b; --wrong: #d0342c; --later: #c9ced8; --provider: #b45309; --challenger: #1d4ed8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #a3acbd; --line: #343b4a; --paper: #1c212c;
  --back: #12151c; --right: #4fbf83; --wrong: #ff6b61; --later: #4a5264; --provider: #f0a04b; --challenger: #7ea6ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 17px/1.55 system-ui, "Segoe UI", Helvetica, Arial,
  sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: clamp(26px, 5vw, 40px); line-height: 1.15; margin: 0 0 8px; }
h2 { font-size: 21px; margin: 0; line-height: 1.3; }
p { margin: 6px 0; }
.lead { color: var(--soft); font-size: 19px; max-width: 46em; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; margin: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 24px 0; }
.facts div { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; }
.facts b { display: block; font-size: clamp(17px, 4.6vw, 24px); font-variant-numeric: tabular-nums; }
.facts span { color: var(--soft); font-size: 14px; }
.stamp { display: inline-block; font-weight: 700; letter-spacing: .06em; padding: 4px 12px; border-radius: 6px;
  border: 2px solid currentColor; margin: 0 0 16px; }
.stamp.convicted, .bad { color: var(--wrong); } .stamp.acquitted, .good { color: var(--right); }
.level { display: flex; gap: 14px; align-items: baseline; justify-content: space-between; flex-wrap: wrap; }
.level small { color: var(--soft); font-size: 14px; font-variant-numeric: tabular-nums; }
.found { font-weight: 600; }
.each { color: var(--soft); font-size: 14px; margin: 10px 0 2px; }
.link { display: block; width: 100%; height: 26px; }
.cells { display: block; width: 100%; height: 32px; }
code, .hex { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .88em;
  overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 14px;
  margin: 14px 0 6px; }
.two div { border: 2px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.two .hex { font-size: 22px; font-weight: 700; display: block; }
.two .long { font-size: 13px; font-weight: 400; }
code.bits { font-size: clamp(10px, 3vw, 13px); white-space: nowrap; }
.bits b { background: var(--wrong); color: #fff; border-radius: 2px; }
h2.part { margin: 40px 0 12px; font-size: 24px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; }
th, td { text-align: left; padding: 5px 8px; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
.num { text-align: right; white-space: nowrap; }
.bar { width: 24%; } .bar i { display: block; height: 10px; border-radius: 2px; }
.bar .provider { background: var(--provider); } .bar .challenger { background: var(--challenger); }
td.provider, td.challenger { white-space: nowrap; }
td.provider { color: var(--provider); } td.challenger { color: var(--challenger); }
.legend span { white-space: nowrap; margin-right: 18px; color: var(--soft); font-size: 15px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
footer { color: var(--soft); font-size: 14px; margin-top: 32px; }
@media (max-width: 560px) { body { font-size: 16px; } .bar { display: none; } table { font-size: 13px; }
  th, td { padding: 5px 3px; } .sum { display: none; } main { padding: 20px 12px 40px; } .card { padding: 14px; } }
"""


def page(tale: Tale) -> str:
    """The page's text, UTF-8."""
    names = tale.names
    title = f"{'Convicted' if tale.convicted else 'Acquitted'}: {names.about}"
    verdict = "convicted" if tale.convicted else "acquitted"
    chapters = [_chapter(tale, number, chapter) for number, chapter in enumerate(tale.chapters)]
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>",
            f'<p class="stamp {verdict}">{verdict.upper()}</p>',
            f"<h1>{escape(names.about)}</h1>",
            f'<p class="lead">{escape(tale.ending)} Nobody computed the run again for the contract: it narrowed the '
            "dispute down, question by question, to one small piece, and computed that.</p>",
            _facts(tale),
            _primer(tale),
            *chapters,
            _link(None),
            _judge(tale),
            _costs(tale),
            _gains(tale),
            f"<footer><p>Job <code>{escape(names.job)}</code>.</p><p>Drawn from the moves of the game alone, which "
            "anybody can read from the events of the chain.</p></footer>",
            "</main></body></html>",
        ]
    )


def _facts(tale: Tale) -> str:
    facts = []
    if tale.work is not None:
        facts.append((f"{tale.work:,}", "single operations in the run"))
    if tale.judgement is not None and tale.judgement.computed:
        facts.append((str(tale.judgement.computed), "that the contract computed"))
    rounds = sum(len(chapter.rows) for chapter in tale.chapters)
    facts.append((str(rounds), "questions until it could be judged"))
    if tale.costs:
        facts.append((f"{tale.gas:,}", f"gas, in {len(tale.costs)} transactions of all"))
    return (
        '<div class="facts">' + "".join(f"<div><b>{value}</b><span>{of}</span></div>" for value, of in facts) + "</div>"
    )


def _primer(tale: Tale) -> str:
    provider, challenger = escape(tale.names.provider), escape(tale.names.challenger)
    return (
        '<section class="card"><h2>How to read this</h2>'
        f"<p><b>{provider}</b> computed the run, was to be paid for it, and gave its <i>fingerprint</i>: 32 bytes that "
        "would be others if any number in the run were another. "
        f"<b>{challenger}</b> computed the same run and came to another fingerprint. One of the two is wrong.</p>"
        "<p>A fingerprint is made from fingerprints of parts, and these from those of smaller parts. So at each "
        "question one of them shows the parts of its own run, and the other points at the <b>first</b> part that its "
        "own run has otherwise, and shows what that is made of in turn. What came before that is agreed upon; what "
        "comes after does not matter. Who does not answer in time loses.</p>"
        '<p class="legend"><span><i style="background:var(--right)"></i>both agree</span>'
        '<span><i style="background:var(--wrong)"></i>the first on which they differ</span>'
        '<span><i style="background:var(--later)"></i>not looked at any more</span></p></section>'
    )


def _chapter(tale: Tale, number: int, chapter: Chapter) -> str:
    before = tale.chapters[number - 1].rows[-1] if number else None
    parts = [_link(before)]
    parts.append(
        f'<section class="card" id="{chapter.level.value}"><div class="level"><h2>{number + 1}. '
        f"{escape(chapter.title)}</h2><small>{_gas_of(tale.costs, chapter.level.value)}</small></div>"
        f"<p>{escape(chapter.text)}</p>"
    )
    for at, row in enumerate(chapter.rows):
        if at:
            parts.append(_link(chapter.rows[at - 1]))
        parts.append(_row(tale.names, row))
    parts.append(f'<p class="found">{escape(chapter.found)}</p></section>')
    return "".join(parts)


def _row(names: Names, row: Row) -> str:
    by, other = (names.provider, names.challenger) if row.by is Side.ASSERTER else (names.challenger, names.provider)
    each = f"each {row.each}" if row.count > 1 else row.each
    values = f" Of the red one it says {_hex(row.shown)}" if row.shown else ""
    if row.own:
        values += f", and {escape(other)} {_hex(row.own)}"
    values += "." if values else ""
    return (
        f'<p class="each">{escape(by[:1].upper() + by[1:])} shows {row.count}: {escape(each)}.{values}</p>{_cells(row)}'
    )


def _hex(value: str) -> str:
    return f'<code title="{value}">{_shortened(value)}</code>'


def _cells(row: Row) -> str:
    """A strip of cells: those before the picked one are agreed upon."""
    step = _WIDTH / row.count
    gap = min(4.0, step / 5)
    parts = []
    for at in range(row.count):
        colour = "right" if row.picked is None or at < row.picked else "wrong" if at == row.picked else "later"
        parts.append(
            f'<rect x="{at * step + gap / 2:.2f}" y="0" width="{step - gap:.2f}" height="{_CELLS}" rx="2" '
            f'style="fill:var(--{colour})"/>'
        )
    picked = "none of them" if row.picked is None else f"number {row.picked + 1}"
    return (
        f'<svg class="cells" viewBox="0 0 {_WIDTH} {_CELLS}" preserveAspectRatio="none" role="img" '
        f'aria-label="{row.count} shown, {picked} picked">' + "".join(parts) + "</svg>"
    )


def _link(row: Row | None) -> str:
    """From the picked cell to the whole width below: what it is made of."""
    left, right = _WIDTH * 0.44, _WIDTH * 0.56
    if row is not None and row.picked is not None:
        left, right = (_WIDTH * (row.picked + end) / row.count for end in (0, 1))
    return (
        f'<svg class="link" viewBox="0 0 {_WIDTH} {_LINK}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M{left:.1f} 0H{right:.1f}L{_WIDTH} {_LINK}H0Z" style="fill:var(--wrong)" opacity=".16"/></svg>'
    )


def _judge(tale: Tale) -> str:
    found = tale.judgement
    gas = _gas_of(tale.costs, "judge")
    head = (
        f'<section class="card" id="judge"><div class="level"><h2>The contract computes</h2><small>{gas}</small></div>'
    )
    if found is None:
        return f'{head}<p>It did not have to.</p><p class="found">{escape(tale.ending)}</p></section>'
    values = ""
    if found.claimed is not None and found.right is not None:
        values = (
            f'<div class="two">{_value(tale.names.provider + " showed", found.claimed, found, bad=tale.convicted)}'
            f"{_value('the contract computed', found.right, found, bad=False)}</div>"
        )
    elif found.claimed_hash:
        values = (
            '<div class="two"><div>'
            f'{escape(tale.names.provider)} showed<span class="hex long">{escape(found.claimed_hash)}</span></div>'
            f'<div>the program names<span class="hex long">{escape(found.right_hash)}</span></div></div>'
        )
    tone = "bad" if tale.convicted else "good"
    return f'{head}<p>{escape(found.text)}</p>{values}<p class="found {tone}">{escape(tale.ending)}</p></section>'


def _value(whose: str, bits: int, found: Judgement, *, bad: bool) -> str:
    """A value as hex, as a number and bit by bit; bits that differ from the other one are marked."""
    differing = (found.claimed or 0) ^ (found.right or 0)
    shown = []
    for at in range(31, -1, -1):
        digit = str(bits >> at & 1)
        shown.append(f"<b>{digit}</b>" if differing >> at & 1 else digit)
        if at in (31, 23):
            shown.append(" ")
    number = struct.unpack(">f", bits.to_bytes(4, "big"))[0]
    return (
        f'<div{" style=border-color:var(--wrong)" if bad else ""}>{escape(whose)}<span class="hex">0x{bits:08x}</span>'
        f'{number:.9g}<br><code class="bits">{"".join(shown)}</code></div>'
    )


def _gas_of(costs: Sequence[Cost], level: str) -> str:
    gas = [cost.gas for cost in costs if cost.level == level]
    return f"{sum(gas):,} gas in {len(gas)} transaction{'s' if len(gas) != 1 else ''}" if gas else ""


def _costs(tale: Tale) -> str:
    if not tale.costs:
        return ""
    most = max(cost.gas for cost in tale.costs)
    total = 0
    rows = []
    for cost in tale.costs:
        total += cost.gas
        side = "provider" if cost.side is Side.ASSERTER else "challenger"
        who = tale.names.provider if cost.side is Side.ASSERTER else tale.names.challenger
        title = f' title="{escape(cost.tx)}"' if cost.tx else ""
        rows.append(
            f'<tr{title}><td class="{side}">{escape(who)}</td><td>{escape(cost.what)}</td>'
            f'<td class="bar"><i class="{side}" style="width:{100 * cost.gas / most:.1f}%"></i></td>'
            f'<td class="num">{cost.gas:,}</td><td class="num sum">{total:,}</td></tr>'
        )
    return (
        '<h2 class="part">What it cost</h2><section class="card"><table><tr><th>who</th><th>move</th>'
        '<th class="bar"></th><th class="num">gas</th><th class="num sum">so far</th></tr>'
        + "".join(rows)
        + "</table></section>"
    )


def _gains(tale: Tale) -> str:
    if not tale.gains:
        return ""
    rows = "".join(
        f'<tr><td>{escape(gain.who)}</td><td class="num {"bad" if gain.amount.startswith("-") else "good"}">'
        f"{escape(gain.amount)}</td><td>{escape(gain.why)}</td></tr>"
        for gain in tale.gains
    )
    return (
        '<h2 class="part">Who got what</h2><section class="card"><table><tr><th>who</th><th class="num">amount</th>'
        f"<th>why</th></tr>{rows}</table></section>"
    )


def _shortened(value: str) -> str:
    return value if len(value) <= _FITS else f"{value[:10]}…{value[-6:]}"

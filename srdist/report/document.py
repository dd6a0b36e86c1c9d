"""What every report is made of: one HTML file that needs nothing else, cards, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files


def document(title: str, body: Iterable[str]) -> str:
    """The whole HTML text, with style and script in it."""
    package = files("srdist.report")
    style, script = (package.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} - srdist</title><link rel="icon" href="data:,">'
        f"<style>{style}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>{script}</script></body></html>\n"
    )


def card_row(cards: Iterable[tuple[str, str]]) -> str:
    """Figures in a row: (the figure, what it is)."""
    inner = "".join(
        f'<div class="card"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in cards
    )
    return f'<div class="cards">{inner}</div>'


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: bool = True,
    marks: Sequence[str] | None = None,
) -> str:
    """A table of plain texts.

    Args:
        numbers: whether all columns but the first are set flush right.
        marks: for each row the `data-trial` that ties it to the curves.
    """
    style = ' class="n"' if numbers else ""

    def line(tag: str, cells: Sequence[str], mark: str = "") -> str:
        inner = "".join(f"<{tag}{style if i else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr{mark}>{inner}</tr>"

    listed = list(rows)
    tied = [""] * len(listed) if marks is None else [f' data-trial="{escape(mark)}"' for mark in marks]
    body = "".join(line("td", row, mark) for row, mark in zip(listed, tied, strict=True))
    return f'<div class="wide"><table><thead>{line("th", heads)}</thead><tbody>{body}</tbody></table></div>'

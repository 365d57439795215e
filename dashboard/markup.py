"""Small pieces of HTML. Everything that comes from outside is escaped here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal
from urllib.parse import urlencode

from dashboard.formats import plain

Tone = Literal["", "good", "warn", "bad", "muted"]


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that was made here: it is not escaped again."""

    html: str


Text = str | Markup


@dataclass(frozen=True, slots=True)
class Fact:
    """A number with its name, and what stands small behind it."""

    name: str
    value: Text
    note: str = ""
    tone: Tone = ""


def html_of(text: Text) -> str:
    """Escaped, unless it was made here."""
    return text.html if isinstance(text, Markup) else plain(text, 2000)


def title(name: str, note: Text = "") -> str:
    """The heading of a page."""
    return f'<div class="page-title"><h1>{escape(name)}</h1><span>{html_of(note)}</span></div>'


def section(name: str, note: Text = "") -> str:
    """The heading of a part of a page."""
    return f'<h2 class="section">{escape(name)}<small>{html_of(note)}</small></h2>'


def notice(headline: Text, advice: Text = "", *, tone: Tone = "muted") -> str:
    """What a page says instead of data, and what to do next."""
    return (
        f'<div class="notice {tone}" style="--tone: var(--{tone or "muted"}, #8893a1); color: inherit; opacity: 1"'
        f' role="status"><b>{html_of(headline)}</b>{html_of(advice)}</div>'
    )


def facts(items: Iterable[Fact]) -> str:
    """Numbers in a row."""
    cells = "".join(
        f'<div><div class="k">{escape(item.name)}</div><div class="v {item.tone}">{html_of(item.value)}'
        f"{f'<small>{plain(item.note)}</small>' if item.note else ''}</div></div>"
        for item in items
    )
    return f'<div class="facts">{cells}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[Text]], *, numeric: Sequence[int] = ()) -> str:
    """A table; columns in ``numeric`` stand right."""
    number = [' class="n"' if place in numeric else "" for place in range(len(columns))]
    head = "".join(f"<th{mark}>{escape(name)}</th>" for name, mark in zip(columns, number, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{html_of(cell)}</td>" for cell, mark in zip(row, number, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scrolling"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def pairs(rows: Iterable[tuple[Text, Text]]) -> str:
    """Names and values, a line each."""
    body = "".join(f'<tr><td class="k">{html_of(name)}</td><td>{html_of(value)}</td></tr>' for name, value in rows)
    return f'<div class="scrolling"><table class="plain pairs"><tbody>{body}</tbody></table></div>'


def toned(text: str, tone: Tone) -> Markup:
    """A text in the colour of its tone."""
    return Markup(f'<span class="{tone}">{plain(text)}</span>')


def code(text: str) -> Markup:
    """A text as it is typed."""
    return Markup(f"<code>{plain(text, 2000)}</code>")


def share_bar(ratio: float) -> Markup:
    """A bar of up to six em for a share of the whole."""
    return Markup(f'<span class="share" style="width: {max(0.0, min(1.0, ratio)) * 6:.2f}em"></span>')


def joined(*texts: Text) -> Markup:
    """Texts side by side."""
    return Markup("".join(html_of(text) for text in texts))


def address(page: str, params: Mapping[str, str]) -> str:
    """The address of a page of ours, relative to the page that it stands on, safe inside an attribute."""
    return escape(f"{page}?{urlencode(params)}")

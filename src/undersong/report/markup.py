"""HTML and SVG written so that no text can become markup."""

import html
import re
from collections.abc import Iterable

# What XML forbids in text, and browsers drop or misread.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is markup already; every other text is escaped by ``tag``."""


Child = str | Iterable[str] | None


def escape(text: str) -> Markup:
    """Write any text so that it shows as it is, within an element and within an attribute."""
    return Markup(html.escape(UNPRINTABLE.sub("\ufffd", text)))


def join(children: Iterable[Child]) -> Markup:
    """Put children one after the other; None is left out, plain text escaped."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, str):
            parts.append(child if isinstance(child, Markup) else escape(child))
        elif child is not None:
            parts.append(join(child))
    return Markup("".join(parts))


def tag(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Write one element: ``tag("p", "1 < 2", class_="note")``.

    In the name of an attribute a trailing ``_`` is dropped and any other means ``-``; numbers are
    written with up to two decimals; an attribute that is None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def name_of(text: str) -> Markup:
    """Write a name from the data: its direction, left or right, does not touch what follows."""
    return tag("bdi", text)


def coded(sentence: str) -> Markup:
    """Set what stands between backticks as code."""
    parts = sentence.split("`")
    return join(tag("code", x) if k % 2 else x for k, x in enumerate(parts))


def table(
    caption: Child, header: Iterable[Child], rows: Iterable[Iterable[Child]], *, class_: str = ""
) -> Markup:
    """Write a table whose first column names its rows."""
    head = tag("tr", (tag("th", x, scope="col") for x in header))
    body = []
    for first, *rest in rows:
        body.append(tag("tr", tag("th", first, scope="row"), (tag("td", x) for x in rest)))
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    return tag("div", whole, class_=f"table {class_}".strip(), tabindex="0")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")

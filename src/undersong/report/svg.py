"""SVG elements in which no text can become markup."""

from collections.abc import Iterable

from markupsafe import Markup, escape

Child = str | Iterable[str] | None


def tag(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """Return one element: ``tag("text", "1 < 2", class_="note")``.

    Text is escaped, ``Markup`` is not, and None is left out. In the name of an attribute a
    trailing ``_`` is dropped and any other means ``-``; numbers get up to two decimals.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{pairs}>{_join(children)}</{name}>")


def _join(children: Iterable[Child]) -> str:
    parts = (escape(x) if isinstance(x, str) else _join(x) for x in children if x is not None)
    return "".join(parts)


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")

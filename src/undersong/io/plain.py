"""Text from files that people see: nothing in it commands a terminal or a log."""

import re
from collections.abc import Iterable

# What commands a terminal, breaks a line, or turns the direction of writing around; half letters.
CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
COMMANDS = re.compile(f"[{CONTROL}\ud800-\udfff]")
BREAKS = re.compile(f"[\t\n{CONTROL}\ud800-\udfff]")


def one_line(text: str) -> str:
    """Return a name or another text from a file in one line, with what commands escaped."""
    return BREAKS.sub(_escape, text)


def harmless(text: str) -> str:
    """Return lines of text with what commands escaped."""
    return COMMANDS.sub(_escape, text)


def harmless_json(text: str) -> str:
    """Return JSON with what commands escaped, so that it means the same."""
    return COMMANDS.sub(lambda x: f"\\u{ord(x[0]):04x}", text)


def text_of(lines: Iterable[str]) -> str:
    """Join lines, each with names in it from files, to a text for people."""
    return "\n".join(map(one_line, lines))


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"

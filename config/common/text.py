"""Text for people: counted nouns, and text from users that a terminal shows but never obeys."""

import re

from rich.console import Console
from rich.text import Text

# Characters that a terminal acts on (C0, DEL, C1) or that change the order or the lines of what is shown.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ACTIVE_IN_LINES = re.compile(_ACTIVE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


class TableConsole(Console):
    """Prints tables. A pipe that is closed is left to the command: rich itself would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def counted(count: int, noun: str = "record") -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def visible(text: str) -> str:
    """Return the text on one line, with characters that a terminal acts on as escapes such as `\\x1b`."""
    return _ACTIVE.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """Return the text with the same escapes, but keep its line breaks and tabs."""
    return _ACTIVE_IN_LINES.sub(_escaped, text)


def cell(text: str) -> Text:
    """Return a table cell that shows the text literally: rich reads markup and emoji names in plain strings."""
    return Text(visible(text))


def _escaped(match: "re.Match[str]") -> str:
    return match[0].encode("unicode_escape").decode()

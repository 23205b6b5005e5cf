"""Text for people: counted nouns, and text of users that is safe to print on a terminal."""

import re

# Control characters (C0, DEL, C1), and characters that change the order or the lines of the text.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ACTIVE_IN_LINES = re.compile(_ACTIVE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def counted(count: int, noun: str = "record") -> str:
    """Return a count with its noun: `1 record`, `2,000 records`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def visible(text: str) -> str:
    r"""Return the text on one line. Control characters become escapes such as `\x1b`."""
    return _ACTIVE.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """Return the text with the same escapes as `visible`, but keep its line breaks and tabs."""
    return _ACTIVE_IN_LINES.sub(_escaped, text)


def _escaped(match: "re.Match[str]") -> str:
    return match[0].encode("unicode_escape").decode()

"""Check names of projects, datasets, keys and tokens. People must be able to see all characters of a name."""

import unicodedata

from django.core.exceptions import ValidationError

# Control characters, surrogates, line and paragraph separators.
_INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
# Unicode's explicit directional characters. They would also change how the text after the name is shown.
_DIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_SHOWN = {"L", "N", "P", "S"}  # letters, numbers, punctuation and symbols: the first letters of Unicode's categories


def check_name(name: str) -> None:
    """Raise ValidationError if a name has a control or directional character, or no visible character."""
    for each in name:
        if unicodedata.category(each) in _INVISIBLE or unicodedata.bidirectional(each) in _DIRECTIONAL:
            raise ValidationError(
                f"The name has the invisible character U+{ord(each):04X}. Remove it.", code="invisible_character"
            )
    if name.strip() and not any(unicodedata.category(each)[0] in _SHOWN for each in name):
        raise ValidationError(
            "The name has no visible character. Use at least one letter or digit.", code="invisible_name"
        )

"""The code of the recipes, as a reader copies it from their pages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.documents import ROOT

FOLDER = ROOT / "docs" / "clients"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Target:
    """What a reader puts into the code: an address, a key and a dataset."""

    url: str
    token: str
    dataset_id: int
    also: Mapping[str, str] = field(default_factory=dict)  # other texts to replace, such as paths

    def filled(self, code: str) -> str:
        """Return code with our values. Each text to replace must be in it."""
        code, found = re.subn(r"(datasets?[/ ])13\b", rf"\g<1>{self.dataset_id}", code)
        assert found
        for theirs, ours in {"http://localhost:8000": self.url, "YOUR_API_KEY": self.token, **self.also}.items():
            assert theirs in code, theirs
            code = code.replace(theirs, ours)
        return code


def text_of(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text()


def code_of(page: str, language: str, number: int = 0) -> str:
    """Return one of a page's blocks in a language. An empty language means a block without one."""
    blocks: list[tuple[str, str]] = _BLOCK.findall(text_of(page))
    return [code for marked, code in blocks if marked == language][number]

"""Read the code of the recipes from their pages, as users copy it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.documents import ROOT
from tests.support.processes.stack import Stack, words

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
        """Return `code` with our values. Each text to replace must be in `code`."""
        code, found = re.subn(r"(datasets?[/ ])13\b", rf"\g<1>{self.dataset_id}", code)
        assert found
        for theirs, ours in {"http://localhost:8000": self.url, "YOUR_API_KEY": self.token, **self.also}.items():
            assert theirs in code, theirs
            code = code.replace(theirs, ours)
        return code


def text_of(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text()


def first_record(stack: Stack, language: str) -> tuple[str, int, int]:
    """Make the dataset of the page about the first record. Return its program, and the IDs of project and dataset."""
    fields = json.loads(words("echo '(.+?)' >", code_of("first-record", "sh")))["fields"]
    project_id, dataset_id, token = stack.make_dataset(f"first-{language}", fields)
    code, found = re.subn(r"\b13\b", str(dataset_id), code_of("first-record", language))
    assert found == 1
    return code.replace("http://localhost:8000", stack.url).replace("YOUR_API_KEY", token), project_id, dataset_id


def code_of(page: str, language: str, number: int = 0) -> str:
    """Return one of a page's blocks in a language. An empty language means a block without one."""
    blocks: list[tuple[str, str]] = _BLOCK.findall(text_of(page))
    return [code for marked, code in blocks if marked == language][number]

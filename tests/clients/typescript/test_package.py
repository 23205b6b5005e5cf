"""The TypeScript client is built, passes its own tests, and works as its README says."""

import gzip
import json
import re

import pytest

from tests.clients.typescript.artifact import README, packed, program, run, snippets, source
from tests.support.tools import executable

IMPORT = 'import { DatasetIngestClient, defineDataset } from "@dataset-ingest/client";'


def test_the_code_is_formatted() -> None:
    run(source() / "node_modules/.bin/biome", "check", cwd=source())


def test_its_own_tests_pass() -> None:
    packed()
    run(source() / "node_modules/.bin/tsc", "-p", "test", cwd=source())
    files = sorted((source() / "build").glob("*.test.js"))
    printed = run(executable("node"), "--test", "--test-timeout=100000", *files, cwd=source())
    count = re.search(r"^# pass (\d+)$", printed, re.MULTILINE)
    assert count is not None
    assert int(count[1]) > 90


def test_the_package_has_what_it_needs_and_nothing_else() -> None:
    said = json.loads((program() / "package-lock.json").read_text())["packages"]
    assert [*said] == ["", "node_modules/@dataset-ingest/client"]
    files = {path.name for path in (program() / "node_modules/@dataset-ingest/client").iterdir()}
    assert files == {"CHANGELOG.md", "LICENSE", "README.md", "dist", "package.json"}


@pytest.mark.parametrize(
    ("name", "line"),
    [("module.mjs", IMPORT), ("module.cjs", IMPORT.replace("import", "const").replace("from", "= require(") + ")")],
)
def test_a_program_can_import_it(name: str, line: str) -> None:
    line = line.replace('client";)', 'client");')
    (program() / name).write_text(f"{line}\nconsole.log(DatasetIngestClient.name, defineDataset.name);")
    assert run(executable("node"), name, cwd=program()) == "DatasetIngestClient defineDataset\n"


def test_what_a_page_needs_is_as_small_as_the_readme_says() -> None:
    page = source() / "page.js"
    page.write_text(IMPORT.replace("import", "export"))
    bundle = ("--bundle", "--minify", "--format=esm", "--outfile=page.min.js")
    packed()
    run(source() / "node_modules/.bin/esbuild", page, *bundle, cwd=source())
    size = len(gzip.compress((source() / "page.min.js").read_bytes(), 9, mtime=0))
    stated = re.search(r"at most 8 KB \(([\d,]+) bytes\)", README)
    assert stated is not None
    assert size <= int(stated[1].replace(",", "")), size


def test_every_example_compiles_in_esm_and_commonjs() -> None:
    first, *others = snippets()
    head = f"{IMPORT}\nimport {{ type InferRecord }} from '@dataset-ingest/client';\n"
    head += "import { appendFileSync } from 'node:fs';\n"
    head += "declare const options: ConstructorParameters<typeof DatasetIngestClient>[0];\n"
    texts = [first, *(head * ("import" not in text) + text + "\nexport {};" for text in others)]
    examples = {f"example{number}.mts": text for number, text in enumerate(texts)}
    examples["example.cts"] = head + others[0]
    for name, text in examples.items():
        (source() / name).write_text(text)
    packed()
    options = ("--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom")
    run(source() / "node_modules/.bin/tsc", *options, "--types", "node", "--skipLibCheck", *examples, cwd=source())

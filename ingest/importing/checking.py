"""Check a chunk against a schema: put the good records into one payload, and list the problems of the others."""

from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from config.common.errors import InvalidJson
from datasets.schemas.schema import CompiledSchema
from ingest.errors import InvalidRecords
from ingest.importing.rows import Chunk, Row
from ingest.queue.formats import Payload
from ingest.validation.json_errors import check_json
from ingest.validation.lenient import examined
from ingest.validation.payloads import payload_of, validate_array, validate_lines
from ingest.validation.record_errors import Good, Problem


class Refusal(Struct):
    """A row that was refused, with every problem that an answer of the API would list."""

    row: Row
    problems: Sequence[Problem]


class Checked(Struct):
    """The good records of a chunk as a payload (None if there are none), and its refused rows in their order."""

    payload: Payload | None
    refused: list[Refusal]


def check(schema: CompiledSchema, earlier: CompiledSchema | None, chunk: Chunk, *, are_lines: bool) -> Checked:
    """Check the rows of a chunk as the API checks a batch with `Prefer: handling=lenient`.

    In a grace period, a row that does not match `schema` is checked against the `earlier` schema version.
    """
    refused = [Refusal(row, [row.problem] if row.problem else []) for row in chunk.refused]
    texts = [row.text for row in chunk.records]
    if not texts:
        return Checked(None, refused)
    try:
        if are_lines:
            return Checked(validate_lines(schema, b"\n".join(texts), earlier=earlier), refused)
        return Checked(validate_array(schema, b"[%b]" % b",".join(texts), earlier=earlier), refused)
    except (InvalidJson, InvalidRecords):
        good: list[Good] = []
        for row in chunk.records:
            problems, taken = examined(schema, earlier, row.text, partial(check_json, row.text))
            if taken is None:
                refused.append(Refusal(row, problems))
            else:
                good.append(taken)
    refused.sort(key=lambda each: each.row.position)
    if not good:
        return Checked(None, refused)
    payload = payload_of(schema, [each.text for each in good], earlier, [each.by_earlier for each in good])
    return Checked(payload, refused)

"""syslog-ng's http() destination sends a refused batch again, followed by more lines."""

import json
from collections.abc import Sequence

from tests.support.processes.stack import Stack

FIELDS = {"number": "number"}
BATCH_LINES = 20


def line(number: object) -> str:
    return json.dumps({"timestamp": "2026-06-10T10:58:00Z", "context": {"host": "web-1"}, "number": number})


def ship(stack: Stack, token: str, dataset_id: int, lines: Sequence[str], prefer: Sequence[str]) -> list[int]:
    """Send lines in batches as syslog-ng does: if the answer is not 2xx, repeat them before the next lines.

    Return the statuses. After three refusals in a row, stop. syslog-ng would continue.
    """
    waiting, ahead, statuses = list(lines[:BATCH_LINES]), list(lines[BATCH_LINES:]), [0]
    headers = [("Content-Type", "application/x-ndjson"), *(("Prefer", each) for each in prefer)]
    with stack.client(token) as client:
        while waiting and statuses[-3:] != [400] * 3:
            body = "\n".join(waiting)
            statuses.append(client.post(f"/datasets/{dataset_id}/batch", content=body, headers=headers).status_code)
            if statuses[-1] == 202:
                waiting = []
            waiting, ahead = waiting + ahead[:BATCH_LINES], ahead[BATCH_LINES:]
    return statuses[1:]


def test_one_bad_record_does_not_stop_a_log_shipper(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("logs", FIELDS)
    lines = [line(number) for number in range(40)]
    lines.insert(17, line("seventeen"))
    assert ship(stack, token, dataset_id, lines, prefer=()) == [400, 400, 400]
    assert ship(stack, token, dataset_id, lines, prefer=("respond-async", "handling=lenient")) == [202, 202, 202]
    stack.wait_until_drained(dataset_id, 40)
    stored = stack.query(project_id, dataset_id, "SELECT number FROM records ORDER BY number")
    assert stored == [(number,) for number in range(40)]
    assert "refused: 1 record of a lenient batch" in stack.log("web")

"""Redis is killed: all processes resume. `tests/abuse/crowds/test_redis_away.py` tests what clients notice."""

import math

from tests.support.processes.stack import Stack, wait_for

FIELDS = {"number": "number", "sender": "string"}


def test_workers_resume_without_a_restart(stack: Stack) -> None:
    project_id, dataset_id, token = stack.make_dataset("resumed", FIELDS, owner="dorothy")
    workers = {name: stack.program(name).pid for name in ("worker", "upkeep", "beat")}
    for number in range(3):
        killed = stack.program("redis")
        killed.kill()
        wait_for(lambda killed=killed: stack.program("redis").pid != killed.pid, "another Redis")  # type: ignore[misc]
        body = {"timestamp": "2026-06-10T10:58:00Z", "context": {}, "number": number, "sender": "it"}
        with stack.client(token) as client:
            wait_for(lambda: client.post(f"/datasets/{dataset_id}", json=body).status_code == 202, "acceptance")  # noqa: B023
        stack.wait_until_drained(dataset_id, number + 1)
    assert {name: stack.program(name).pid for name in workers} == workers
    with stack.client() as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, "readiness")
    assert math.isclose(stack.query(project_id, dataset_id, "SELECT sum(number) FROM records")[0][0], 3.0)

"""Compare a table with the answers that clients got."""

from collections import Counter

from tests.abuse.crowds.senders import Senders
from tests.support.processes.stack import Stack, wait_for


def nothing_is_lost_or_doubled(stack: Stack, senders: Senders, project_id: int, dataset_id: int, owner: str) -> None:
    """Assert that accepted records are stored once and refused ones are not, and that ledger and quota agree."""
    assert senders.failures == []
    accepted, refused, unknown = senders.accepted, senders.refused, senders.unknown
    stack.wait_for_rows(dataset_id, len(accepted))

    def balance() -> dict[str, int]:
        found = stack.ledger(dataset_id)
        assert found["adds_up"], found
        return found

    wait_for(lambda: balance()["queued"] == 0, "an empty queue")
    stored = [int(number) for (number,) in stack.query(project_id, dataset_id, "SELECT number FROM records")]
    assert [number for number, times in Counter(stored).items() if times > 1] == [], "doubled"
    assert sorted({*accepted} - {*stored}) == [], "accepted and not stored"
    assert sorted({*refused} & {*stored}) == [], "refused, and stored all the same"
    assert {*stored} <= {*accepted, *unknown}
    found = balance()
    assert (found["accepted"], found["stored"], found["quarantined"]) == (len(stored), len(stored), 0)
    assert stack.do("quota", owner).startswith(f"{owner}: {len(stored)} of ")
    print(f"\n{len(accepted)} accepted, {len(refused)} refused, {len(unknown)} unknown; {len(stored)} stored")

"""Every Redis key of the queue. Quota keys are in `quotas.counters`, revisions in `datasets.contracts.revisions`.

Glossary
    generation      names the present set of Redis data; a wiped Redis gets a new one, so that its new stream ids
                    cannot be mistaken for old ones
    stream          a dataset's queue: one entry per accepted request (fields below)
    accepted        of one dataset: records ever accepted (of this generation)
    queued          of one dataset: records in the stream
    queued bytes    of one dataset: bytes of the bodies in the stream
    total bytes     of all datasets: queued bytes
    total accepted  of all datasets: accepted
    pending         sorted set of a project: dataset id -> when its next drain is due, in ms since the epoch
    turns           sorted set: project id -> when it was drained last, or when something of it is due, in ms since the
                    epoch. The first one has the next turn. Every project with a pending dataset is in it
    slot            of one web thread: the number and the stream id of its last admission, so that a request whose
                    reply was lost can be sent again without being admitted twice
    slots           set of the slots there are: they live until `slots.forget_slots` deletes them
    idempotency     what an Idempotency-Key was first answered with: 8 bytes of a digest of the body, then
                    `<generation> <stream id> <number of records>`, and for a lenient batch, after another space, what
                    the answer said of refused records, deflated. The key's name is a digest, too: clients choose
                    Idempotency-Keys, and a long one must not cost more memory than a short one
    known keys      hash of a project: time at which Idempotency-Keys are forgotten (s since the epoch) -> how many
    room            queued bytes (of all datasets) that admission may reach until it looks at Redis's memory again
    lock            held by the drain that is at work on a dataset; saves work, correctness does not rest on it
    replayed        hash of a dataset's quarantine rows that were put back into its stream -> the new place
    trimmed         of one dataset: the table's position as of the last trim. If the table has another, a drain died
                    before its trim, or this Redis was restored from an older copy
    stored by hour  hash of a dataset: hour of acceptance (hours since the epoch) -> records stored or quarantined
                    (a replay counts for none: its hour was counted before)
    refused by hour hash of a project: `<hour since the epoch>:<error code>` -> requests refused with one of its keys
    untidy          set of the datasets whose tables were written to since they were last compacted
    swept           present for six hours after a sweep of all tables: until it is gone, no sweep is due
    refused         hash: error code -> requests refused with it
    refusal log     list of a project: its latest refusals, newest first (`ingest.monitoring.refusals.Refusal`, packed)
    refusal logs    sorted set: project id -> when its refusal log was last written, in ms since the epoch
    sign            of life, of a process or of the storage: `ok` or what is wrong (see heartbeat.py)

Fields of a stream entry
    b body, as `queue.packed` leaves it     f format: o object, a array, l lines (NDJSON)
    n number of records                     v schema version id
    t trace id                              o original stream id (only after a replay)
"""

import hashlib

from datasets import installation

GENERATION = installation.GENERATION
TURNS = "queue:turns"
TOTAL_BYTES = "queue:bytes"
TOTAL_ACCEPTED = "queue:accepted"
KEYS_LAST_USED = "keys:last_used"
SLOTS = "queue:slots"
ROOM = "queue:room"
UNTIDY = "queue:untidy"
SWEPT = "queue:swept"
REFUSED = "requests:refused"
REFUSAL_LOGS = "refusals:logs"
REFUSAL_LOG_PREFIX = "refusals:log:"


def stream(dataset_id: int) -> str:
    return f"queue:stream:{dataset_id}"


def accepted(dataset_id: int) -> str:
    return f"queue:accepted:{dataset_id}"


def queued(dataset_id: int) -> str:
    return f"queue:queued:{dataset_id}"


def queued_bytes(dataset_id: int) -> str:
    return f"queue:bytes:{dataset_id}"


def pending(project_id: int) -> str:
    return f"queue:pending:{project_id}"


def trimmed(dataset_id: int) -> str:
    return f"queue:trimmed:{dataset_id}"


def slot(name: str) -> str:
    return f"queue:slot:{name}"


def idempotency(dataset_id: int, key: str) -> bytes:
    return b"idem:" + hashlib.blake2b(f"{dataset_id}:{key}".encode(), digest_size=16).digest()


def known_keys(project_id: int) -> str:
    return f"queue:keys:{project_id}"


def lock(dataset_id: int) -> str:
    return f"queue:lock:{dataset_id}"


def sign(name: str) -> str:
    return f"sign:{name}"


def refused_by_hour(project_id: int) -> str:
    return f"stats:refused:{project_id}"


def refusal_log(project_id: int) -> str:
    return f"{REFUSAL_LOG_PREFIX}{project_id}"


def stored_by_hour(dataset_id: int) -> str:
    return f"stats:stored:{dataset_id}"


def replayed(dataset_id: int) -> str:
    return f"queue:replayed:{dataset_id}"

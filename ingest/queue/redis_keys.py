"""Every Redis key of the queue.

Other modules have the other keys: `quotas.counters` (limits and usage), `datasets.contracts.revisions` (revisions),
`datasets.contracts.old_form` (the records of grace periods), `datasets.queries.figures` (queries), and
`datasets.installation` (version, installation and a move into a cluster). `ingest.moving.names` must know each key.

In a cluster, the keys of a project carry the tag of its owner (see `config.common.cluster.key_tags`), and "all" below
means all datasets of this user.

Glossary
    generation      name of the present set of Redis data. A wiped Redis gets a new one, so that new stream IDs
                    are never mistaken for old ones
    stream          a dataset's queue: one entry per accepted request (fields below)
    accepted        number of records that a dataset has accepted in this generation
    queued          number of records in a dataset's stream
    queued bytes    bytes of the bodies in a dataset's stream
    total bytes     sum of the queued bytes of all datasets
    total accepted  sum of `accepted` of all datasets
    pending         sorted set of a project: dataset ID -> when its next drain is due, in ms since the epoch
    turns           sorted set: project ID -> when its last drain began, or when its next one is due, in ms since the
                    epoch. The first project has the next turn. Every project with a pending dataset is in the set
    slot            number and stream ID of the last admission that used it. If the reply is lost, the web process can
                    send the admission again, and Redis does not admit it twice
    slots           set of all slots. A slot lives until `slots.forget_slots` deletes it
    idempotency     the first answer to an Idempotency-Key: 8 bytes of a digest of the body, then
                    `<generation> <stream ID> <number of records>`. For a lenient batch, a space and the compressed
                    answer about refused records follow. The name of this key is a digest: clients choose
                    Idempotency-Keys, and a long one must not take more memory than a short one
    before move     present while Idempotency-Keys from before a move into a cluster are kept. Their names have no tag,
                    because the owner of a digest is unknown
    known keys      hash of a project: time when Idempotency-Keys are forgotten (s since the epoch) -> how many
    rate            hash of a browser key: second of acceptance (since the epoch) -> records, for the last minute
    room            total bytes up to which admission accepts requests, until it looks at Redis's memory again
    lock            held by the drain of a dataset. It only saves work: drains are correct without it
    deaths          hash of a dataset: how many of its drains in a row died, and what the next ones try (see
                    `ingest.storing.isolation`)
    replayed        hash of a dataset: quarantine row that was put back into the stream -> its new place
    trimmed         the watermark of a dataset's table at the last trim. If the table has another watermark now, a drain
                    died before its trim, or this Redis was restored from an older copy
    stored by hour  hash of a dataset: hour of acceptance (hours since the epoch) -> records stored or quarantined
                    (a replay is not counted again)
    refused by hour hash of a project: `<hour since the epoch>:<error code>` -> requests refused with one of its keys
    untidy          set of the datasets whose tables were written to since their last compaction
    swept           present for six hours after a sweep of all tables: until it is gone, no sweep is due
    refused         hash: error code -> requests refused with it
    refusal log     list of a project: its latest refusals, newest first (`ingest.monitoring.refusals.Refusal`, packed)
    refusal logs    sorted set: project ID -> when its refusal log was last written, in ms since the epoch
    heartbeat       of a process or of the storage: `ok`, or what is wrong (see heartbeat.py)

Fields of a stream entry
    b body, as `formats.packed` returns it  f format: o object, a array, l lines (NDJSON)
    n number of records                     v schema version ID
    t trace ID                              o original stream ID (only after a replay)
    e the earlier schema version's ID, and which records are of this version (only if the records are of two versions;
      then `v` is the later version): see `formats.Earlier`
    r original stream ID of an entry that was renumbered, because another record has that ID. The entry is stored under
      its new ID, and the table's log keeps the original one: see `ingest.storing.already_stored`
"""

import hashlib

from config.common.cluster.key_tags import tagged
from datasets import installation, tags

# In a cluster, these keys exist once for each user: write them as `tagged(NAME, tag)`.
GENERATION = installation.GENERATION
TURNS = "queue:turns"
TOTAL_BYTES = "queue:bytes"
TOTAL_ACCEPTED = "queue:accepted"
KEYS_LAST_USED = "keys:last_used"
SLOTS = "queue:slots"
ROOM = "queue:room"
REFUSED = "requests:refused"  # without a tag: the requests whose project is unknown
REFUSAL_LOGS = "refusals:logs"
REFUSAL_LOG_PREFIX = "refusals:log:"
IDEMPOTENCY = "idem:"  # without a tag: keys from before a move into a cluster
# These keys exist once, also in a cluster. No script uses them.
BEFORE_MOVE = "queue:before_move"
UNTIDY = "queue:untidy"
SWEPT = "queue:swept"


def stream(dataset_id: int) -> str:
    """Return the key of a dataset's stream."""
    return tagged(f"queue:stream:{dataset_id}", tags.of_dataset(dataset_id))


def accepted(dataset_id: int) -> str:
    """Return the key of a dataset's counter of accepted records."""
    return tagged(f"queue:accepted:{dataset_id}", tags.of_dataset(dataset_id))


def queued(dataset_id: int) -> str:
    """Return the key of a dataset's counter of queued records."""
    return tagged(f"queue:queued:{dataset_id}", tags.of_dataset(dataset_id))


def queued_bytes(dataset_id: int) -> str:
    """Return the key of a dataset's counter of queued bytes."""
    return tagged(f"queue:bytes:{dataset_id}", tags.of_dataset(dataset_id))


def pending(project_id: int) -> str:
    """Return the key of a project's pending datasets."""
    return tagged(f"queue:pending:{project_id}", tags.of_project(project_id))


def trimmed(dataset_id: int) -> str:
    """Return the key of `trimmed`: the table's watermark at the last trim."""
    return tagged(f"queue:trimmed:{dataset_id}", tags.of_dataset(dataset_id))


def slot(name: str, tag: int) -> str:
    """Return the key of a slot for admissions whose keys have this tag."""
    return tagged(f"queue:slot:{name}", tag)


def idempotency(dataset_id: int, key: str) -> bytes:
    """Return the key of the first answer to an Idempotency-Key."""
    return tagged(IDEMPOTENCY, tags.of_dataset(dataset_id)).encode() + _digest(dataset_id, key)


def idempotency_before_move(dataset_id: int, key: str) -> bytes:
    """Return the key of the first answer to an Idempotency-Key that came before a move into a cluster."""
    return IDEMPOTENCY.encode() + _digest(dataset_id, key)


def _digest(dataset_id: int, key: str) -> bytes:
    return hashlib.blake2b(f"{dataset_id}:{key}".encode(), digest_size=16).digest()


def known_keys(project_id: int) -> str:
    """Return the key of a project's counts of Idempotency-Keys."""
    return tagged(f"queue:keys:{project_id}", tags.of_project(project_id))


def rate(key_id: int, project_id: int) -> str:
    """Return the key of a browser key's records in the last minute."""
    return tagged(f"queue:rate:{key_id}", tags.of_project(project_id))


def lock(dataset_id: int) -> str:
    """Return the key of the lock of a dataset's drain."""
    return tagged(f"queue:lock:{dataset_id}", tags.of_dataset(dataset_id))


def deaths(dataset_id: int) -> str:
    """Return the key of a dataset's drains that died."""
    return tagged(f"queue:deaths:{dataset_id}", tags.of_dataset(dataset_id))


def heartbeat(name: str) -> str:
    """Return the key of a heartbeat."""
    return f"sign:{name}"


def refused_by_hour(project_id: int) -> str:
    """Return the key of a project's counts of refused requests."""
    return tagged(f"stats:refused:{project_id}", tags.of_project(project_id))


def refusal_log(project_id: int) -> str:
    """Return the key of a project's refusal log."""
    return tagged(f"{REFUSAL_LOG_PREFIX}{project_id}", tags.of_project(project_id))


def stored_by_hour(dataset_id: int) -> str:
    """Return the key of a dataset's counts of stored records."""
    return tagged(f"stats:stored:{dataset_id}", tags.of_dataset(dataset_id))


def replayed(dataset_id: int) -> str:
    """Return the key of a dataset's replayed quarantine rows."""
    return tagged(f"queue:replayed:{dataset_id}", tags.of_dataset(dataset_id))

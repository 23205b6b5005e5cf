"""Clients that send records, and what they know about the fate of each record."""

import json
import random
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx

BASE_SCHEMA = {"client": "string", "sequence": "number"}
OPTIONAL_FIELDS = {"note": "string", "score": "number", "flag": "boolean", "seen_at": "timestamp"}
VALUES: dict[str, Any] = {"string": "é\n", "number": 0.5, "boolean": True, "timestamp": "2026-06-10T10:58:00.5+02:00"}
# After this time a client sends the request again with the same Idempotency-Key.
_CLIENT_TIMEOUT_SECONDS = 4.0
NOTHING_HAPPENED = "Nothing was queued or charged."
_AFTER_LONG = 1e12

Record = tuple[str, int]  # client, sequence


@dataclass
class Asked:
    """The schema that a dataset's clients must follow, and since when that is certain (monotonic clock).

    In a grace period, records of the previous version are also accepted: certainly until `earlier_surely_until`, and
    certainly not after `earlier_until`.
    """

    optional: frozenset[str] = frozenset()
    certain_since: float = 0.0
    number: int = 1  # the number of the schema version
    earlier: frozenset[str] | None = None
    earlier_surely_until: float = 0.0
    earlier_until: float = 0.0

    def accepts(self, form: frozenset[str], began: float) -> bool:
        """Return whether the service may accept the fields `form` in a request that began at `began`."""
        return form == self.optional or (form == self.earlier and began < self.earlier_until)

    def surely_accepts(self, form: frozenset[str], answered: float) -> bool:
        """Return whether the service must accept the fields `form` in a request that it answered at `answered`."""
        return form == self.optional or (form == self.earlier and answered < self.earlier_surely_until)


@dataclass
class Reign:
    """The time in which a schema version may have accepted records (monotonic clock), and its optional fields."""

    optional: frozenset[str]
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Sent:
    """Records whose fate is decided: when they were first sent, and when their fate was known or given up."""

    dataset: int
    records: list[Record]
    began: float
    known_at: float
    tried: float = 0.0  # the start of the first attempt that may have been accepted


@dataclass
class Truth:
    """What the clients know, and the errors they have seen. All threads share it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: dict[int, set[Record]] = field(default_factory=lambda: defaultdict(set))
    unresolved: dict[int, set[Record]] = field(default_factory=lambda: defaultdict(set))
    rejected: dict[int, set[Record]] = field(default_factory=lambda: defaultdict(set))  # certainly not accepted
    enqueued: int = 0  # records that programs have passed to a client
    sent: list[Sent] = field(default_factory=list)
    seen_twice: dict[int, set[Record]] = field(default_factory=lambda: defaultdict(set))  # seen by a reader
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0

    def found_wrong(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)


@dataclass
class World:
    """The present schemas and keys, as the service's admin has set them."""

    projects: dict[int, int] = field(default_factory=dict)  # dataset -> project
    asked: dict[int, Asked] = field(default_factory=dict)  # by dataset
    reigns: dict[int, dict[int, Reign]] = field(default_factory=dict)  # by dataset and number of the version
    tokens: dict[int, str] = field(default_factory=dict)  # by project
    keys: dict[int, int] = field(default_factory=dict)  # by project
    revoking: set[str] = field(default_factory=set)  # tokens that are being revoked, or are revoked
    revoked: dict[str, float] = field(
        default_factory=dict
    )  # token -> when its revocation was complete (monotonic clock)
    uncertain_until: float = 0.0  # a restored Redis has older revisions, until the catalog reloads
    owners: dict[int, int] = field(default_factory=dict)  # by project


@dataclass
class Batch:
    """Records that are sent in one request, with one Idempotency-Key until their fate is known."""

    dataset: int
    form: str  # object, array or lines
    records: list[Record]
    optional: frozenset[str]
    other: frozenset[str] | None = None  # the optional fields of every second record, if they are different
    key: str = ""
    tried: float = 0.0  # the start of the first attempt that may have been accepted
    unknown: bool = False  # whether the service may have accepted the batch already

    def __post_init__(self) -> None:
        self.key = secrets.token_hex(8)

    def request(self) -> tuple[str, bytes, dict[str, str]]:
        """Return the path, body and headers of the request."""
        rows = [self._row(*record, self._form(at)) for at, record in enumerate(self.records)]
        kind = "application/x-ndjson" if self.form == "lines" else "application/json"
        headers = {"Content-Type": kind, "Idempotency-Key": self.key}
        path = f"/datasets/{self.dataset}"
        if self.form == "object":
            return path, json.dumps(rows[0]).encode(), headers
        if self.form == "array":
            return f"{path}/batch", json.dumps(rows).encode(), headers
        return f"{path}/batch", "\n".join(map(json.dumps, rows)).encode(), headers

    @property
    def forms(self) -> list[frozenset[str]]:
        """The optional fields of the batch's records: one set for all, or two sets, which the records have in turn."""
        return [self.optional] if self.other is None else [self.optional, self.other]

    def _form(self, at: int) -> frozenset[str]:
        return self.forms[at % len(self.forms)]

    def _row(self, client: str, sequence: int, form: frozenset[str]) -> dict[str, Any]:
        optional = {name: VALUES[OPTIONAL_FIELDS[name]] for name in sorted(form)}
        return {
            "timestamp": "2026-06-10T10:58:00Z",
            # A record has the same context each time that it is sent. The contexts of different records differ so much
            # that a batch compresses like real data.
            "context": {"by": client, "noise": sha256(f"{client} {sequence}".encode()).hexdigest()[:16]},
            "client": client,
            "sequence": sequence,
            **optional,
        }


class Client(threading.Thread):
    """Sends one batch after another, each until it is acknowledged or its fate cannot be found out."""

    def __init__(self, name: str, url: str, world: World, truth: Truth, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.url, self.world, self.truth = url, world, truth
        self.random = random.Random(seed)
        self.tokens = dict(world.tokens)
        self.optional: dict[int, frozenset[str]] = defaultdict(frozenset)
        self.sequence = 0
        self.over = threading.Event()
        self.give_up_at = _AFTER_LONG

    def is_sending(self) -> bool:
        return self.sequence > 0

    def finish(self, seconds: float) -> None:
        """Send no new batch, and give up the last one after `seconds`."""
        self.give_up_at = time.monotonic() + seconds
        self.over.set()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=_CLIENT_TIMEOUT_SECONDS, trust_env=False, verify=False) as http:
            while not self.over.is_set():
                self._send(http, self._next())
                self.over.wait(self.random.uniform(0.02, 0.25))

    def _next(self) -> Batch:
        dataset = self.random.choice(list(self.world.projects))
        form = self.random.choice(("object", "array", "lines"))
        # The largest batches are queued compressed.
        count = 1 if form == "object" else self.random.choice((1, 5, 40, 200))
        first, self.sequence = self.sequence, self.sequence + count
        records = [(self.name, number) for number in range(first, self.sequence)]
        return Batch(dataset, form, records, self.optional[dataset], self._other(dataset))

    def _other(self, dataset: int) -> frozenset[str] | None:
        """For some batches in a grace period, return the optional fields of the other version, to mix both versions."""
        asked, own = self.world.asked[dataset], self.optional[dataset]
        if asked.earlier is None or time.monotonic() > asked.earlier_until or self.random.random() < 0.6:
            return None
        return asked.earlier if own == asked.optional else asked.optional

    def _send(self, http: httpx.Client, batch: Batch) -> None:
        began = time.monotonic()
        while True:
            known = self._once(http, batch)
            if known is not None:
                with self.truth.lock:
                    self.truth.sent.append(Sent(batch.dataset, batch.records, began, time.monotonic(), batch.tried))
                    fate = self.truth.acknowledged if known else self.truth.unresolved
                    fate[batch.dataset].update(batch.records)
                return
            if time.monotonic() > self.give_up_at:
                self.truth.found_wrong(f"{self.name}: {len(batch.records)} records not acknowledged after healing")
                batch.unknown = True
                with self.truth.lock:
                    self.truth.sent.append(Sent(batch.dataset, batch.records, began, time.monotonic(), batch.tried))
                    self.truth.unresolved[batch.dataset].update(batch.records)
                return
            time.sleep(self.random.uniform(0.05, 0.4))

    def _once(self, http: httpx.Client, batch: Batch) -> bool | None:
        """Send a batch. Return True if it is acknowledged, False if its fate stays unknown, None to send it again."""
        project = self.world.projects[batch.dataset]
        token = self.tokens[project]
        path, body, headers = batch.request()
        began = time.monotonic()
        if not batch.unknown:
            batch.tried = began
        try:
            answer = http.post(path, content=body, headers={**headers, "Authorization": f"Bearer {token}"})
        except httpx.ConnectError:
            self._count("not connected", began)
            return None
        except httpx.HTTPError as failure:
            self._count(type(failure).__name__, began)
            batch.unknown = True
            return None
        self._count(str(answer.status_code), began)
        if answer.status_code == 202:
            self._check_entitled(batch, token, began, answer)
            return True
        return self._refused(batch, answer, token, began)

    def _count(self, answer: str, began: float) -> None:
        with self.truth.lock:
            self.truth.answers[answer] += 1
            self.truth.longest_seconds = max(self.truth.longest_seconds, time.monotonic() - began)

    def _check_entitled(self, batch: Batch, token: str, began: float, answer: httpx.Response) -> None:
        """Check that the key and the schema of an accepted request were valid when it was sent."""
        if began < self.world.uncertain_until:
            return
        if began > self.world.revoked.get(token, _AFTER_LONG):
            self.truth.found_wrong(f"let in: {answer.request.url} with a revoked key")
        asked, replayed = self.world.asked[batch.dataset], "Idempotent-Replayed" in answer.headers
        for form in batch.forms if began > asked.certain_since and not replayed else ():
            if not asked.accepts(form, began):
                self.truth.found_wrong(f"let in: fields {sorted(form)}, not {sorted(asked.optional)}")
        if batch.form != "object" and answer.json()["count"] != len(batch.records):
            self.truth.found_wrong(f"{answer.text} for {len(batch.records)} records")

    def _refused(self, batch: Batch, answer: httpx.Response, token: str, began: float) -> bool | None:
        told = self._told(answer)
        if answer.status_code == 503 and "detail" in told:
            batch.unknown |= told["detail"] != NOTHING_HAPPENED
            return None
        if answer.status_code == 409:
            return None
        if answer.status_code == 400 and told.get("code") in ("missing_field", "extra_field"):
            return self._adapt(batch, told, began)
        if answer.status_code == 401 and told.get("code") == "invalid_api_key":
            return self._another_key(batch, token)
        self.truth.found_wrong(f"unexpected: {answer.status_code} {answer.text[:300]}")
        return False

    def _told(self, answer: httpx.Response) -> Mapping[str, Any]:
        try:
            told = answer.json()
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def _adapt(self, batch: Batch, told: Mapping[str, Any], began: float) -> bool | None:
        """The schema has changed: send the same records with the new fields, if that is safe."""
        asked = self.world.asked[batch.dataset]
        now = time.monotonic()
        if began > asked.certain_since and all(asked.surely_accepts(form, now) for form in batch.forms):
            self.truth.found_wrong(f"refused by mistake: {told}")
        problems = told.get("errors", [told])
        missing = {problem["field"] for problem in problems if problem["code"] == "missing_field"}
        extra = {problem["field"] for problem in problems if problem["code"] == "extra_field"}
        fields = (batch.optional | missing) - extra
        self.optional[batch.dataset] = fields
        if batch.unknown:
            return False
        batch.optional, batch.other = fields, None
        batch.key = secrets.token_hex(8)
        return None

    def _another_key(self, batch: Batch, token: str) -> bool | None:
        """The key was revoked: continue with the new key once there is one.

        If an earlier attempt may have been accepted, give up the batch in half of the cases. Its fate stays unknown.
        """
        project = self.world.projects[batch.dataset]
        if token not in self.world.revoking:
            self.truth.found_wrong("refused by mistake: a key that was not revoked")
        self.tokens[project] = self.world.tokens[project]
        return False if batch.unknown and self.random.random() < 0.5 else None

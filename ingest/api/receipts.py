"""Receipts, with which a client can learn when its records are in the table.

A receipt is `<generation>-<ms>-<seq>-<signature>`: an entry's place in the queue, and a signature. The service accepts
only receipts that it has issued, and each only for its dataset.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings

from ingest.errors import ReceiptNotFound
from ingest.queue.admission import Admission

_RECEIPT = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})-([0-9]{1,7})-([0-9a-f]{16})").fullmatch


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt whose signature is valid."""

    dataset_id: int
    generation: str
    stream_id: str


def issue(admission: Admission) -> str:
    """Return the receipt of an accepted request."""
    place = f"{admission.generation}-{admission.stream_id}"
    return f"{place}-{_signature(admission.dataset_id, place, settings.API_KEY_SECRET)}"


def read(dataset_id: int, receipt: str) -> Receipt:
    """Return what a receipt says.

    Raises:
        ReceiptNotFound: The service did not issue this receipt, or issued it for another dataset.
    """
    match = _RECEIPT(receipt)
    if match is None:
        raise ReceiptNotFound
    generation, ms, seq, signature = match.groups()
    place = f"{generation}-{ms}-{seq}"
    secrets = (settings.API_KEY_SECRET, *settings.API_KEY_SECRET_FALLBACKS)
    if not any(hmac.compare_digest(signature, _signature(dataset_id, place, secret)) for secret in secrets):
        raise ReceiptNotFound
    return Receipt(dataset_id, generation, f"{ms}-{seq}")


def _signature(dataset_id: int, place: str, secret: str) -> str:
    digest = _keyed(secret).copy()
    digest.update(f"{dataset_id}:{place}".encode())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _keyed(secret: str) -> "hashlib.blake2b":
    return hashlib.blake2b(
        key=secret.encode()[:64], digest_size=8, person=b"receipt"
    )  # a key of BLAKE2b has at most 64 bytes

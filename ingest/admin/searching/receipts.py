"""Find the records of a receipt. A client gets a receipt when its request is accepted."""

from __future__ import annotations

from typing import Any

from config.common.errors import ApiError
from datasets.models import Dataset
from ingest.api import receipts
from ingest.api.lookup import look_up
from ingest.storing.conversion import row_id_prefix


class NoReceipt(Exception):
    """The text is not a receipt of the dataset."""

    def __str__(self) -> str:
        return "This is not a receipt of this dataset. A receipt is the last part of the Location header of an answer."


def find(dataset: Dataset, text: str) -> tuple[str, dict[str, Any]]:
    """Return the prefix of the IDs of a receipt's records, and what the API says about the receipt.

    Args:
        dataset: The dataset.
        text: A receipt, or a Location header.

    Raises:
        NoReceipt: The text is not a receipt of the dataset.
    """
    try:
        receipt = receipts.read(dataset.pk, text.rstrip("/").rpartition("/")[2])
    except ApiError as refusal:
        raise NoReceipt from refusal
    milliseconds, _, sequence = receipt.stream_id.partition("-")
    try:
        status = look_up(receipt)
    except ApiError as refusal:
        status = {"status": refusal.error}
    return row_id_prefix(milliseconds, sequence), status

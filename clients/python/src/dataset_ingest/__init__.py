"""Clients of the dataset ingest service."""

from dataset_ingest.aio import AsyncDatasetIngestClient
from dataset_ingest.client import DatasetIngestClient, Delivery
from dataset_ingest.errors import (
    AuthenticationError,
    BufferFullError,
    ClosedError,
    DatasetError,
    OutcomeUnknownError,
    QuotaExceededError,
    RateLimitedError,
    ServiceUnavailableError,
    ValidationError,
)
from dataset_ingest.queries.client import DatasetQueryClient
from dataset_ingest.receipts import Receipt
from dataset_ingest.schema.datasets import Dataset
from dataset_ingest.schema.problems import Problem
from dataset_ingest.version import __version__

__all__ = [
    "AsyncDatasetIngestClient",
    "AuthenticationError",
    "BufferFullError",
    "ClosedError",
    "Dataset",
    "DatasetError",
    "DatasetIngestClient",
    "DatasetQueryClient",
    "Delivery",
    "OutcomeUnknownError",
    "Problem",
    "QuotaExceededError",
    "RateLimitedError",
    "Receipt",
    "ServiceUnavailableError",
    "ValidationError",
    "__version__",
]

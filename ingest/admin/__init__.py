"""Records, quarantine, ledger and the start page in the admin."""

from ingest.admin import quarantine, records, start

__all__ = ["quarantine", "records", "start"]

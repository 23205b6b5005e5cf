"""Admin pages of records and quarantine. `config.site.urls` adds the pages here that belong to no model."""

from ingest.admin import quarantine, records

__all__ = ["quarantine", "records"]

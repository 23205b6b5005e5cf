"""Records and quarantine in the admin; the pages of this folder that belong to no model are in `config.site.urls`."""

from ingest.admin import quarantine, records

__all__ = ["quarantine", "records"]

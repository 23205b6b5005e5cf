"""Admin pages of records and quarantine.

The pages of this package that belong to no model have their URLs in `config.site.urls`.
"""

from ingest.admin import quarantine, records

__all__ = ["quarantine", "records"]

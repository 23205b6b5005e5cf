"""Projects, datasets, keys and the change log in the admin. What it changes, it changes through `datasets.services`."""

from datasets.admin import datasets, keys, log, projects

__all__ = ["datasets", "keys", "log", "projects"]

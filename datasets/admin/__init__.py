"""Projects, datasets, keys and people in the admin. What it changes, it changes through `datasets.services`."""

from datasets.admin import datasets, keys, log, people, projects

__all__ = ["datasets", "keys", "log", "people", "projects"]

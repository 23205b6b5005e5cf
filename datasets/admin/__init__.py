"""Projects, datasets, keys, tokens and the change log in the admin. All changes go through `datasets.services`."""

import django_stubs_ext

# Lets admin and form classes of all apps name their model, for the type checker. They all import from this package.
django_stubs_ext.monkeypatch()

from datasets.admin import datasets, keys, log, projects, tokens  # noqa: E402

__all__ = ["datasets", "keys", "log", "projects", "tokens"]

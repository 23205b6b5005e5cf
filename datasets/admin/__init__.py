"""Projects, datasets, keys, tokens and the change log in the admin. `datasets.services` changes contracts."""

import django_stubs_ext

# Let admin and form classes name their model for the type checker, as in `ModelAdmin[Dataset]`. All modules with such
# classes import from this package, so this line runs before them.
django_stubs_ext.monkeypatch()

from datasets.admin import datasets, keys, log, projects, tokens  # noqa: E402

__all__ = ["datasets", "keys", "log", "projects", "tokens"]

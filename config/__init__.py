"""The project: settings, paths, Celery, and what the apps share."""

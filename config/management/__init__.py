"""The command `manage.py up`."""

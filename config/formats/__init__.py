"""Formats of dates and numbers, for each language of the admin (Django: FORMAT_MODULE_PATH)."""

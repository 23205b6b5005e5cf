"""Manage datasets and query their records, with a personal access token."""

"""Queries over HTTP: a part of the management API."""

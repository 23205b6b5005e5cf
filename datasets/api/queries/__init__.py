"""Queries over HTTP, as a part of the management API."""

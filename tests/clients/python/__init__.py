"""Tests of the Python client, as its users install it."""

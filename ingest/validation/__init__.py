"""Validation: from the bytes of a request to records that match their schema."""

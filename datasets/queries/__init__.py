"""Queries of stored records: the language in JSON, and the engine that answers from a dataset's table."""

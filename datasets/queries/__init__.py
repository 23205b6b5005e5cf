"""Queries of stored records: the query language in JSON, and the engine that reads a dataset's table."""

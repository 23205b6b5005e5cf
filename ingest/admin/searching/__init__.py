"""The search on the records page: its forms, the queries that they describe, and the results."""

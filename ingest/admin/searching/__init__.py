"""The search on the records page: its forms, the queries that they stand for, and what these have found."""

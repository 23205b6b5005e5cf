"""Answer queries: choose files, write SQL, run it in DuckDB, and check the result."""

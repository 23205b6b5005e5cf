"""Import the records of a file, as `dataset-ingest import` does."""

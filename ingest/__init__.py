"""Accept records, queue them, and store them in the datasets' tables."""

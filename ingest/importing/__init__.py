"""Import records from a file: read rows, check them, and admit them chunk by chunk as a client's batches."""

"""The Delta Lake tables that hold stored records: how they are made, written, read, exported and maintained."""

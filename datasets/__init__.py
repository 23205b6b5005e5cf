"""What a dataset is: projects, datasets, schema versions, API keys, and the tables that hold stored records."""

"""The schema language: field types, the rules of a schema, samples, and what a change of a schema means."""

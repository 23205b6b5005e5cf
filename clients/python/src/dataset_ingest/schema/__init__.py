"""Check records against a schema, with the rules and the error texts of the service."""

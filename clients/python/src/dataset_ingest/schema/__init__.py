"""Schemas: what a record must be, checked by the rules and with the texts of the service."""

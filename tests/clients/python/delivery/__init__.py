"""Sending, enqueuing, retries and the spool."""

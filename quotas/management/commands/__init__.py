"""Commands of the quotas app, one module each."""

"""Show how the service does: statistics, refusals, health, metrics and diagnosis."""

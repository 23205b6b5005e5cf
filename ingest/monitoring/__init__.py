"""Show the state of the service: statistics, refusals, health, metrics and diagnosis."""

"""The whole service over a Redis that restarts, has TLS, or is behind Sentinel."""

"""Queries run in processes of their own, which a web process starts, watches and kills."""

"""Contracts: what a request with a given API key, for a given dataset, is held to."""

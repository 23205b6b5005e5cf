"""Contracts: what holds for a request with a given API key, for a given dataset."""

"""The management API at /api/. It uses DRF in the usual way, personal access tokens, and `datasets.services`."""

"""The management API at /api/: ordinary DRF, with the services that the admin uses and personal access tokens."""

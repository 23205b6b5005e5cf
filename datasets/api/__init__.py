"""The management API at /api/: ordinary DRF over the services that the admin uses. A user's token opens it."""

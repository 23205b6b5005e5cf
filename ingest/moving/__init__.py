"""Move the data of one Redis server into a cluster: `manage.py move_to_cluster`."""

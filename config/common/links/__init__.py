"""Connections of the event loop to Redis. Many commands share a connection, and the replies come in their order."""

"""Connections of the event loop to Redis. Many commands share a connection. The replies come in the commands' order."""

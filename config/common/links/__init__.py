"""Connections of the event loop to Redis: many commands share each, and replies come in the order of the commands."""

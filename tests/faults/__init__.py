"""Clients write while processes, storage and servers fail at random; then everything accepted is looked for."""

"""Redis as a cluster of several primaries: the syntax of its URL, and connections to the node that has a key."""

"""Redis as a cluster of several primaries: the syntax of its URL, the names of keys, and connections to its nodes."""

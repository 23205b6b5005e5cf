"""Redis behind Sentinel: the syntax of its URL, and connections to the present primary."""

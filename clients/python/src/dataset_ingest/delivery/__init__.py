"""How records get to the service. Nothing here reads or writes: the clients do, step by step."""

"""How records get to the service. This code only says what to do next: the clients send and write."""

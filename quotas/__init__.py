"""How many records a user may send a month, and how many were sent."""

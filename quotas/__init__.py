"""How many records a user's projects may accept in a month, and how many they have accepted."""

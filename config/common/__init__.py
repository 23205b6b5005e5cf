"""Code that every app may import. It imports no app."""

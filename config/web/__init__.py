"""The WSGI application, and what it does around Django."""

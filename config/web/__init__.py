"""The ASGI application: how the API and the admin are served."""

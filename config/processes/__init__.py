"""The processes of `manage.py up`, and the threads that watch them."""

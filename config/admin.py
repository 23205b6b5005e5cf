"""Django looks for model admins in a module of this name."""

from config.site import people

__all__ = ["people"]

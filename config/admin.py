"""Import our model admins. Django looks for them in a module with this name."""

from config.site import people

__all__ = ["people"]

"""Import this app's model admins. Django looks for them in a module called `admin`."""

from config.site import people

__all__ = ["people"]

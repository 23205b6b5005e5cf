"""The admin site: its navigation, its start page, and the people who use it. It knows all apps."""

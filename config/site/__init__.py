"""The admin site: sidebar, start page, users and groups. This package may import all apps."""

"""How the admin writes times: as the API does, not as a language does. All are UTC."""

DATETIME_FORMAT = r"Y-m-d H:i \U\T\C"
DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i"

"""The formats of dates and times in the admin. They are the API's formats, not English ones. All times are UTC."""

DATETIME_FORMAT = r"Y-m-d H:i \U\T\C"
DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i"

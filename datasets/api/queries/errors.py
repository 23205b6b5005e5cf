"""The errors of queries that clients see."""

from config.common.errors import ApiError

_RETRY = {"Retry-After": "1"}


class InvalidQuery(ApiError):
    """The query is wrong. `at` is the path of the first problem, and `errors` has all problems."""

    status, code, error = 400, "invalid_query", "Invalid query"


class NotAcceptable(ApiError):
    """The header Accept allows none of the formats that a result can have."""

    status, code, error = 406, "not_acceptable", "Not acceptable"


class QueryTooSlow(ApiError):
    """The query has reached the time limit."""

    status, code, error = 408, "query_too_slow", "Query too slow"


class QueryTooLarge(ApiError):
    """The query or its result needs more memory than the limit."""

    status, code, error = 413, "query_too_large", "Query too large"


class TooManyQueries(ApiError):
    """The project runs as many queries as are allowed, or other queries use all processors."""

    status, code, error, headers = 429, "too_many_queries", "Too many queries", _RETRY

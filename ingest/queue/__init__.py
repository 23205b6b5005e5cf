"""The queue: admission of requests, streams in Redis, and the turns of drains."""

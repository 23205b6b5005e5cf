"""Run a query in its process, and write the result to a file."""

import logging
from typing import IO

from config.lazy import deltalake
from datasets.queries import engine, language
from datasets.queries.errors import InvalidQuery, QueryTooLarge
from datasets.queries.parsing.values import read_json
from datasets.queries.processes import formats
from datasets.queries.processes.messages import Failure, Job, Outcome, details_of
from datasets.tables.storage import unreadable

logger = logging.getLogger(__name__)

# The share of the memory that DuckDB may use. The rest is for the result.
_ENGINE_SHARE = 0.75


def run(job: Job, file: IO[bytes]) -> Outcome:
    """Run a query, write its result to the file, and return its outcome."""
    try:
        query = language.parse(read_json(job.query), job.fields)
        if job.max_characters is not None:
            query = query.shortened(job.max_characters)
        result = engine.run(query, job.location, memory_bytes=int(job.memory * _ENGINE_SHARE))
        formats.write(result, job.media_type, file)
    except InvalidQuery as invalid:
        return Outcome(Failure.INVALID, details_of(invalid))
    except (QueryTooLarge, MemoryError):
        return Outcome(Failure.TOO_LARGE)
    except (deltalake.exceptions.DeltaError, OSError) as failure:
        logger.warning("a query cannot read %s: %s", job.location.uri, failure)
        return Outcome(Failure.UNREADABLE, {"detail": unreadable(failure)})
    except Exception:
        logger.exception("unexpected error in a query")
        return Outcome(Failure.DEFECT)
    return Outcome(headers=formats.headers(result))

"""Failures of a drain of several datasets: if one dataset fails, the others are drained anyway."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from config.lazy import deltalake
from datasets.models import Dataset
from datasets.tables.commits import ConcurrentCommit
from ingest.queue.stream import AnotherGeneration

logger = logging.getLogger(__name__)


class Failures:
    """The datasets whose drain failed or stopped, each with its error.

    If a drain failed, its dataset is due again after a lease. If a drain only stopped, its dataset is due now.
    """

    def __init__(self) -> None:
        self.failed: dict[int, Exception] = {}
        self.stopped: dict[int, Exception] = {}

    def stop(self, datasets: Iterable[Dataset], reason: Exception) -> None:
        """Remember datasets whose drain stops here. The next drain continues."""
        for dataset in datasets:
            self.stopped[dataset.pk] = reason

    @contextmanager
    def of(self, dataset: Dataset) -> Iterator[None]:
        """Remember the error of a dataset's drain. Catch it if the storage failed or the next drain can continue."""
        try:
            yield
        except (ConcurrentCommit, AnotherGeneration) as reason:
            logger.info(
                "dataset %s: the drain stopped at %s; the next drain continues", dataset.pk, type(reason).__name__
            )
            self.stopped[dataset.pk] = reason
        except (deltalake.exceptions.DeltaError, OSError) as failure:
            logger.error("dataset %s: the drain failed: %s", dataset.pk, failure)
            self.failed[dataset.pk] = failure
        except Exception as failure:
            self.failed[dataset.pk] = failure
            raise

    def raise_first(self, *, also_stopped: bool = False) -> None:
        """Raise the first error of a failed drain or, with `also_stopped`, of a stopped drain, if there is one."""
        found = [*self.failed.values(), *(self.stopped.values() if also_stopped else ())]
        if found:
            raise found[0]

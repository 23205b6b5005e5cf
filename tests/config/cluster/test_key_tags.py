"""The tags of keys, and how they spread the users over the primaries."""

from collections import Counter

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from config.common.cluster.key_tags import NO_TAG, tagged

USERS = 10_000


def test_a_name_has_a_tag_only_if_there_is_one() -> None:
    assert tagged("queue:turns", 7) == "{7}:queue:turns"
    assert tagged("queue:turns", NO_TAG) == "queue:turns"


@pytest.mark.parametrize("primaries", [1, 3, 6])
def test_users_spread_evenly_over_the_primaries(primaries: int) -> None:
    slots = [key_slot(tagged("queue:turns", user).encode()) for user in range(1, USERS + 1)]
    found = Counter(slot * primaries // REDIS_CLUSTER_HASH_SLOTS for slot in slots)
    assert len(found) == primaries
    assert all(count * primaries / USERS == pytest.approx(1, abs=0.15) for count in found.values())

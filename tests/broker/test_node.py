"""The broker as a process, and processes that use it: killed, stopped, garbling, flooding, and the broker killed itself."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.node import DEVICE
from broker.users import as_user
from gpumax.broker import messages as msg
from gpumax.broker import wire
from gpumax.broker.node.reception import CLIENTS
from gpumax.broker.words import ErrorCode

HERE = Path(__file__).parent
MIB = 1 << 20
WAIT = 60.0
"""Seconds after which something that should come has not; nothing takes so long unless it's broken."""


class Program:
    """A process, its lines as they come."""

    def __init__(self, *command: str | Path, user: int | None = None) -> None:
        path = os.pathsep.join([str(HERE.parents[1] / "src"), str(HERE.parent)])
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": path}, user=user,
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        self.heard: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("ended")

    def until(self, wanted: str) -> str:
        """The next line that begins so; those before it are kept in `heard`."""
        while True:
            line = self.lines.get(timeout=WAIT)
            self.heard.append(line)
            if line.startswith(wanted):
                return line
            assert line != "ended", (wanted, self.heard)

    def do(self, line: str) -> str:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.until("done")[4:].strip()

    def become(self, state: str) -> None:
        while self.do("state") != state:
            pass

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


class Node:
    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self.broker = self.serve()

    def serve(self) -> Program:
        broker = Program(HERE / "node.py", self.directory, "400")
        self._stack.callback(broker.end)
        broker.until("up")
        return broker

    def client(self, group: str, *, device: str = DEVICE) -> Program:
        client = Program(HERE / "client.py", self.directory / f"{group}.sock", device)
        self._stack.callback(client.end)
        return client

    def kill(self) -> None:
        self.broker.signal(signal.SIGKILL)
        self.broker.process.wait()

    @property
    def pages(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "pages").iterdir())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(tmp_path / "gpu", stack)


def welcomed(node: Node, group: str) -> Program:
    client = node.client(group)
    client.until("heard WELCOME")
    return client


def working(node: Node, group: str) -> Program:
    client = welcomed(node, group)
    client.do("want")
    client.until("heard GRANT")
    return client


def test_two_groups_take_turns_and_each_hears_of_its_own(node: Node) -> None:
    a, b = working(node, "a"), working(node, "b")
    for client in (a, b, a, b):
        client.until("heard REVOKE")
        client.until("heard GRANT")


def test_memory_is_granted_up_to_the_limit_of_the_group(node: Node) -> None:
    a, other = welcomed(node, "a"), welcomed(node, "a")
    a.do(f"ask {600 * MIB}")
    assert a.until("heard MEM") == f"heard MEM_GRANT {600 * MIB}"
    other.do(f"ask {400 * MIB}")
    assert other.until("heard MEM") == "heard MEM_DENY 3"
    other.do(f"pin {200 * MIB}")
    assert other.until("heard MEM") == "heard MEM_DENY 4"


def test_who_does_not_fit_beside_another_is_swapped_in_and_the_other_out(node: Node) -> None:
    a, b = working(node, "a"), working(node, "b")
    a.do(f"ask {700 * MIB}")
    a.until("heard MEM_GRANT")
    b.do(f"ask {700 * MIB}")
    a.until("heard SWAP_OUT")
    b.until("heard MEM_GRANT")
    b.until("heard SWAP_OUT")
    a.until("heard SWAP_IN")
    a.until("heard GRANT")


def test_host_memory_to_swap_to_comes_as_a_descriptor_of_the_promised_size(node: Node) -> None:
    a = welcomed(node, "a")
    a.do(f"ask {300 * MIB}")
    assert a.until("heard POOL") == f"heard POOL {512 * MIB} of which {512 * MIB} are there"


def test_another_share_is_told_to_its_processes_and_stands_in_their_pages(node: Node) -> None:
    a = working(node, "a")
    assert node.broker.do("share a 200 800") == ""
    assert a.until("heard CONFIG") == f"heard CONFIG 200 {800 * MIB} {800 * MIB}"
    a.do(f"ask {850 * MIB}")
    assert a.until("heard MEM") == "heard MEM_DENY 3"


def test_a_limit_below_what_is_held_is_refused_and_nothing_changes(node: Node) -> None:
    a = working(node, "a")
    a.do(f"ask {700 * MIB}")
    a.until("heard MEM_GRANT")
    said = node.broker.do("share a 200 600")
    assert said.startswith(f"group a: it has 0.6836 GiB of {DEVICE}; it can't be limited to 0.5859 GiB"), said
    a.do(f"ask {150 * MIB}")
    assert a.until("heard MEM") == f"heard MEM_GRANT {150 * MIB}"


def test_a_holder_that_is_killed_leaves_nothing_behind(node: Node) -> None:
    a, b = working(node, "a"), working(node, "b")
    a.do(f"ask {700 * MIB}")
    a.until("heard MEM_GRANT")
    a.become("GRANTED")
    a.end()
    b.until("heard GRANT")
    b.do(f"ask {800 * MIB}")
    b.until("heard MEM_GRANT")
    assert len(node.pages) == 2, "page and owner of the one that is left"


def test_a_holder_that_stops_is_fenced_and_asks_anew(node: Node) -> None:
    a, b = working(node, "a"), working(node, "b")
    a.become("GRANTED")
    a.signal(signal.SIGSTOP)
    node.broker.until("report fenced a")
    b.until("heard GRANT")
    a.signal(signal.SIGCONT)
    a.until("heard GRANT")


def test_one_that_stops_within_a_call_is_told_of_and_its_device_is_given_to_nobody(node: Node) -> None:
    a, b = working(node, "a"), welcomed(node, "b")
    a.do("call 1")
    b.do("want")
    a.signal(signal.SIGSTOP)
    node.broker.until("report stuck a")
    assert "heard GRANT" not in b.heard
    a.signal(signal.SIGCONT)
    b.until("heard GRANT")


def test_a_client_that_garbles_is_told_and_then_disconnected_and_others_go_on(node: Node) -> None:
    a, b = welcomed(node, "a"), working(node, "b")
    a.do("garbage 3")
    assert a.until("heard ERROR").startswith("heard ERROR 1 magic")
    a.do("garbage 20")
    a.until("heard END")
    a.until("heard BACK")
    b.do("release")
    b.do("want")
    b.until("heard GRANT")


def test_connections_to_one_group_take_nothing_from_another_and_those_that_say_nothing_end(
    node: Node,
) -> None:
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            for _ in range(CLIENTS + 1)
        ]
        for each in crowd:
            each.connect(str(node.directory / "a.sock"))  # waits where as many are before it
            each.settimeout(WAIT)
        working(node, "b")
        said = [wire.decode(crowd[number].recv(4096))[1] for number in (-1, 0)]
    assert [each.code for each in said if isinstance(each, msg.Error)] == [
        ErrorCode.TOO_MANY,
        ErrorCode.STATE,
    ]
    working(node, "a")


def test_while_a_client_floods_others_go_on(node: Node) -> None:
    """It may take a while until it's disconnected: a machine that is busy hears less of it than is allowed."""
    a, b = welcomed(node, "a"), working(node, "b")
    a.do("flood 5000")
    b.do("release")
    b.do("want")
    b.until("heard GRANT")


def test_what_was_said_to_another_broker_is_not_acted_on(node: Node) -> None:
    a = welcomed(node, "a")
    a.do("stale")
    assert a.until("heard ERROR").startswith(f"heard ERROR {ErrorCode.STALE} epoch")
    assert a.do("state") == "NONE"


def test_a_device_that_is_not_the_groups_is_refused(node: Node) -> None:
    stranger = node.client("a", device="ff" * 16)
    assert stranger.until("heard ERROR").startswith(f"heard ERROR {ErrorCode.UNKNOWN_DEVICE}")


def test_the_holder_goes_on_while_the_broker_is_dead_and_keeps_its_lease_with_the_next(node: Node) -> None:
    a, b = working(node, "a"), welcomed(node, "b")
    a.do(f"ask {700 * MIB}")
    a.until("heard MEM_GRANT")
    node.kill()
    a.until("heard END")
    assert a.do("state") == "GRANTED"
    b_heard = len(b.heard)
    node.broker = node.serve()
    a.until("heard BACK")
    a.until("heard GRANT")
    b.until("heard BACK")
    assert "heard GRANT" not in b.heard[b_heard:]
    b.do("want")
    b.until("heard GRANT")
    a.until("heard REVOKE")


def test_a_holder_that_does_not_come_back_is_fenced_by_its_old_page(node: Node) -> None:
    a, b = working(node, "a"), welcomed(node, "b")
    a.signal(signal.SIGSTOP)
    node.kill()
    node.broker = node.serve()
    b.until("heard BACK")
    b.do("want")
    node.broker.until("report fenced a")
    b.until("heard GRANT")
    a.signal(signal.SIGCONT)
    a.until("heard BACK")
    a.until("heard GRANT")


def test_a_holder_that_died_with_the_broker_keeps_nobody_waiting(node: Node) -> None:
    a, b = working(node, "a"), welcomed(node, "b")
    node.kill()
    a.end()
    node.broker = node.serve()
    b.do("want")
    b.until("heard GRANT")


def test_a_second_broker_in_the_same_directory_is_refused(node: Node) -> None:
    second = subprocess.run(
        [sys.executable, HERE / "node.py", node.directory, "400"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1] / 'src'}{os.pathsep}{HERE.parent}"},
    )  # fmt: skip
    assert "another broker is at work in" in second.stderr


def test_the_socket_is_the_users_alone(node: Node) -> None:
    assert (node.directory / "a.sock").stat().st_mode & 0o777 == 0o600
    assert node.directory.stat().st_mode & 0o777 == 0o750
    assert (node.directory / "pages").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_is_turned_away_even_where_the_socket_is_open() -> None:
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        Path(place).chmod(0o755)  # pytest's own are closed to others
        node = Node(Path(place) / "gpu", stack)
        node.directory.chmod(0o755)
        (node.directory / "a.sock").chmod(0o666)
        said = as_user(65534, lambda: _hello_of_a_stranger(node.directory / "a.sock"))
    assert said.startswith(f"{int(ErrorCode.NOT_ALLOWED)} user 65534 has no share here"), said


def _hello_of_a_stranger(path: Path) -> str:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(path))
    _, error = wire.decode(sock.recv(4096))
    assert isinstance(error, msg.Error)
    return f"{error.code} {error.text}"

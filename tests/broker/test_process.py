"""The broker as a process of its own: told and asked over its control socket, killed, started anew, and given nonsense."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest

from broker.node import DEVICE
from broker.test_node import HERE, WAIT, Program
from broker.users import as_user
from gpumax.broker.control import Control, Device, Group, Seen, connect, uuid
from gpumax.broker.node.pages import found
from gpumax.broker.words import LeaseState
from gpumax.errors import Conflict, Refused, Unreachable

MIB = 1 << 20
GPU = uuid(DEVICE)


def eventually(check: Callable[[], bool]) -> None:
    """True within a minute; what takes so long is broken."""
    until = time.monotonic() + WAIT
    while not check():
        assert time.monotonic() < until


class Broker:
    """The process in a directory; `start` begins the next one."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.control = Control(directory, timeout_s=WAIT)
        self._stack = stack

    def start(self, *options: str) -> subprocess.Popen[str]:
        given = options or ("--device", f"{GPU}:1Gi:A100", "--swap-memory", "4Gi", "--heartbeat", "0.2")
        process = subprocess.Popen(
            [sys.executable, "-m", "gpumax.broker", "--directory", str(self.directory), *given],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._stack.callback(_end, process)
        return process

    def up(self, *options: str) -> subprocess.Popen[str]:
        process = self.start(*options)
        eventually(lambda: self.answers or process.poll() is not None)
        assert process.poll() is None, process.stderr and process.stderr.read()
        return process

    @property
    def answers(self) -> bool:
        try:
            self.control.status()
        except Unreachable:
            return False
        return True

    def client(self, group: str) -> Program:
        client = Program(HERE / "client.py", self.directory / f"{group}.sock", DEVICE)
        self._stack.callback(client.end)
        return client


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with ExitStack() as stack:
        yield Broker(tmp_path / "gpu", stack)


def half(name: str, *, swap: bool = False) -> Group:
    return Group(name, (GPU,), 300 * MIB, 700 * MIB, share=0.5, swap=swap)


def names(status: Seen) -> list[str]:
    return [group.name for group in status.groups]


def test_a_group_that_was_added_has_a_socket_by_which_its_programs_get_their_share(broker: Broker) -> None:
    broker.up()
    path = broker.control.add(half("a"))
    client = broker.client("a")
    client.until("heard WELCOME")
    client.do("want")
    client.until("heard GRANT")

    status = broker.control.status()

    assert path == broker.directory / "a.sock"
    assert (status.devices[0].uuid, status.devices[0].name, status.devices[0].bytes) == (GPU, "A100", 1 << 30)
    assert (status.devices[0].holder, status.devices[0].state) == ("a", "busy")
    (group,) = status.groups
    assert (group.mode, group.share, group.guaranteed, group.limit) == ("fair", 0.5, 300 * MIB, 700 * MIB)
    assert [(each.pid, each.lease) for each in group.clients] == [(client.process.pid, "granted")]


def test_what_a_process_holds_is_told(broker: Broker) -> None:
    broker.up()
    broker.control.add(half("a", swap=True))
    client = broker.client("a")
    client.until("heard WELCOME")
    client.do(f"ask {100 * MIB}")
    client.until("heard MEM_GRANT")

    status = broker.control.status()

    held = status.groups[0].clients[0].devices[GPU]
    assert (held.resident, held.swapped, held.budget) == (100 * MIB, 0, 100 * MIB)
    assert status.devices[0].used == 100 * MIB


def test_memory_to_swap_to_for_emulated_devices_takes_none_until_its_written(broker: Broker) -> None:
    broker.up("--device", f"{GPU}:1Gi", "--swap-memory", "4Gi", "--sparse-swap")
    for name in ("a", "b"):
        broker.control.add(half(name, swap=True))
    client = broker.client("a")
    client.until("heard WELCOME")
    client.do(f"ask {100 * MIB}")

    assert client.until("heard POOL").endswith("of which 0 are there")


def test_a_broker_that_was_killed_is_followed_by_one_that_knows_its_groups(broker: Broker) -> None:
    first = broker.up()
    broker.control.add(half("a"))
    broker.control.add(half("b"))
    broker.control.remove("b")
    client = broker.client("a")
    client.until("heard WELCOME")
    epoch = broker.control.status().epoch
    first.kill()
    first.wait()

    broker.up()

    status = broker.control.status()
    assert names(status) == ["a"]
    assert status.epoch == epoch + 1
    assert [each.pid for each in status.groups[0].clients] == [client.process.pid]


def test_another_share_holds_at_once_and_the_next_broker_knows_it(broker: Broker) -> None:
    first = broker.up()
    broker.control.add(half("a", swap=True))
    client = broker.client("a")
    client.until("heard WELCOME")
    broker.control.configure(msgspec.structs.replace(half("a", swap=True), share=0.25, limit=800 * MIB))
    assert client.until("heard CONFIG") == f"heard CONFIG 250 {800 * MIB} {800 * MIB}"
    first.kill()
    first.wait()
    broker.up()
    (group,) = broker.control.status().groups
    assert (group.share, group.limit) == (0.25, 800 * MIB)


def test_what_cant_be_changed_is_refused_in_words(broker: Broker) -> None:
    broker.up()
    broker.control.add(half("a"))
    with pytest.raises(Refused, match="group b isn't here; wanted one of a"):
        broker.control.configure(half("b"))
    with pytest.raises(Refused, match="whose processes may connect doesn't change"):
        broker.control.configure(msgspec.structs.replace(half("a"), users="any"))
    with pytest.raises(Refused, match=r"1\.172 GiB"):
        broker.control.configure(msgspec.structs.replace(half("a"), limit=1200 * MIB))
    assert broker.control.groups() == (half("a"),)


def test_a_program_whose_group_went_while_no_broker_was_there_may_not_submit_any_more(broker: Broker) -> None:
    first = broker.up()
    broker.control.add(half("a"))
    client = broker.client("a")
    client.until("heard WELCOME")
    client.do("want")
    client.until("heard GRANT")
    first.kill()
    first.wait()
    (broker.directory / "groups" / "a.json").unlink()

    broker.up()

    client.become("FENCED")


def test_sigterm_ends_a_broker_in_good_order(broker: Broker) -> None:
    process = broker.up()
    broker.control.add(half("a"))

    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=WAIT)

    assert process.returncode == 0
    assert "Traceback" not in said
    assert not (broker.directory / "control.sock").exists()


def test_a_second_broker_in_a_directory_says_that_there_is_one(broker: Broker) -> None:
    broker.up()

    second = broker.start()
    _, said = second.communicate(timeout=WAIT)

    assert second.returncode == 3
    assert "another broker is at work" in said
    assert len(said.splitlines()) == 1
    assert broker.answers


def test_only_its_own_user_gets_to_the_control_socket(broker: Broker) -> None:
    broker.up()

    assert stat.S_IMODE((broker.directory / "control.sock").stat().st_mode) == 0o600


def test_the_same_group_once_more_is_no_fault_and_another_of_its_name_is(broker: Broker) -> None:
    broker.up()
    broker.control.add(half("a"))

    again = broker.control.add(half("a"))
    with pytest.raises(Conflict, match="there already, with swap False"):
        broker.control.add(half("a", swap=True))

    assert again.name == "a.sock"
    broker.control.remove("a")
    broker.control.remove("a")
    assert names(broker.control.status()) == []


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (Group("a", (GPU,), 1, share=0), "share: found 0; wanted a part"),
        (Group("a", (GPU,), 1, share=1.2), "share: found 1.2; wanted a part"),
        (Group("a", (GPU,), 2 << 30), "limit of 2 GiB; .* has 1 GiB"),
        (Group("a", (GPU,), 600, 500), "limit: found 500; wanted at least what is guaranteed"),
        (Group("a", (GPU,), -1), "guaranteed: found -1"),
        (Group("a", (), 1), "no device"),
        (Group("a", ("GPU-7",), 1), "devices: found 'GPU-7'; wanted a UUID"),
        (Group("a", (uuid("f" * 32),), 1), "isn't of this node"),
        (Group("../a", (GPU,), 1), "name: found '../a'"),
        (Group("control", (GPU,), 1), "name: found 'control'"),
    ],
)
def test_what_cant_be_is_refused_in_words(broker: Broker, group: Group, words: str) -> None:
    broker.up()

    with pytest.raises(Refused, match=words):
        broker.control.add(group)

    assert names(broker.control.status()) == []


def test_shares_and_guarantees_of_a_device_add_up_to_what_it_has_at_most(broker: Broker) -> None:
    broker.up()
    broker.control.add(Group("a", (GPU,), 900 * MIB, share=0.3))

    with pytest.raises(Refused, match="left to guarantee"):
        broker.control.add(Group("b", (GPU,), 300 * MIB, share=0.3))
    with pytest.raises(Refused, match=r"0\.7 left"):
        broker.control.add(Group("b", (GPU,), 10 * MIB, share=0.8))


@pytest.mark.parametrize(
    "line", [b"nonsense", b'{"do":"dance"}', b"[]", b'{"do":"add"}', b'{"do":"add","group":{"nme":1}}']
)
def test_nonsense_is_answered_in_words_and_keeps_nobody_from_going_on(broker: Broker, line: bytes) -> None:
    broker.up()
    with socket.socket(socket.AF_UNIX) as sock:
        connect(sock, broker.directory / "control.sock")
        sock.sendall(line + b"\n")
        answer = json.loads(sock.makefile().readline())

    assert "found no request that this broker knows" in answer["error"]
    assert broker.answers


def test_a_line_without_end_is_cut_off(broker: Broker) -> None:
    broker.up()
    with socket.socket(socket.AF_UNIX) as sock:
        connect(sock, broker.directory / "control.sock")
        sock.settimeout(WAIT)
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                sock.sendall(b"x" * (1 << 16))
            pytest.fail("a line of 6 MiB was taken")

    assert broker.answers


def test_a_group_goes_with_the_process_for_which_it_is_there(broker: Broker) -> None:
    broker.up()
    program = (
        "import sys; from pathlib import Path; from gpumax.broker.control import Control, Group;"
        f"Control(Path(sys.argv[1])).add(Group('a', ('{GPU}',), 1, share=0.5), owned=True); print('there', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(broker.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "there\n"
    assert names(broker.control.status()) == ["a"]

    _end(owner)

    eventually(lambda: names(broker.control.status()) == [])


def test_a_broker_ends_by_itself_once_it_had_no_group_for_long_enough(broker: Broker) -> None:
    process = broker.up("--device", f"{GPU}:1Gi", "--swap-memory", "0", "--idle", "0.5")

    assert process.wait(WAIT) == 0


def test_whoever_watches_hears_until_the_broker_ends(broker: Broker) -> None:
    process = broker.up()
    watching = broker.control.watch()
    first = next(watching)
    broker.control.add(half("a"))

    assert names(first) == []
    eventually(lambda: names(next(watching)) == ["a"])
    process.send_signal(signal.SIGTERM)
    assert all(names(each) == ["a"] for each in watching)
    assert process.wait(WAIT) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_metrics_are_told(broker: Broker) -> None:
    broker.up()
    broker.control.add(half("a"))
    broker.client("a").until("heard WELCOME")

    text = broker.control.metrics()
    broker.control.remove("a")

    assert 'gpumax_broker_clients{group="a"} 1.0' in text
    assert 'group="a"' not in broker.control.metrics()


def test_groups_whose_device_is_gone_are_told_and_dropped(broker: Broker) -> None:
    first = broker.up()
    broker.control.add(half("a"))
    first.kill()
    first.wait()
    (broker.directory / "groups" / "b.json").write_text("{")

    broker.up("--device", f"{uuid('f' * 32)}:1Gi")

    status = broker.control.status()
    assert names(status) == []
    assert {(each.kind, each.group) for each in status.reports} == {("lost", "a"), ("lost", "b")}


def test_who_is_left_of_a_group_that_has_gone_submits_no_more(broker: Broker) -> None:
    """The next broker doesn't know it, so nobody else would ever take its turn from it. Others' pages stay as they are."""
    first = broker.up()
    held = {}
    for name in ("a", "b"):
        broker.control.add(half(name))
        client = broker.client(name)
        client.until("heard WELCOME")
        if name == "a":
            client.do("want")
            client.until("heard GRANT")
    for each in found(broker.directory / "pages"):
        held[each.owner.group] = each
    assert held["a"].state == LeaseState.GRANTED
    first.kill()
    first.wait()
    (broker.directory / "groups" / "a.json").unlink()

    broker.up()

    assert held["a"].state == LeaseState.FENCED
    assert not list((broker.directory / "pages").glob(f"{held['a'].owner.client}.*"))
    assert held["b"].state != LeaseState.FENCED
    for each in held.values():
        each.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "GPU-7:1Gi"), "--device: found GPU-7 with"),
        (("--device", f"{GPU}:much"), "--device: found"),
        (("--device", GPU), "wanted UUID:BYTES"),
        (("--device", f"{GPU}:1Gi", "--device", f"{GPU}:1Gi"), "a device twice"),
        (("--devices", "nonsense"), "--devices: found"),
        (("--device", f"{GPU}:1Gi", "--swap-memory", "much"), "--swap-memory: found much"),
        (("--device", f"{GPU}:1Gi", "--heartbeat", "nan"), "heartbeat"),
        (("--device", f"{GPU}:1Gi", "--idle", "-1"), "idle"),
    ],
)
def test_bad_options_are_told_in_words(broker: Broker, options: tuple[str, ...], words: str) -> None:
    process = broker.start(*options)
    _, said = process.communicate(timeout=WAIT)

    assert process.returncode == 2
    assert words in said
    assert "Traceback" not in said


def test_devices_come_as_json_too(broker: Broker) -> None:
    broker.up("--devices", json.dumps([{"uuid": GPU, "bytes": 1 << 30, "name": "A100"}]))

    assert [each.uuid for each in broker.control.status().devices] == [GPU]
    assert Device(GPU, 1 << 30).name == "GPU"


def test_a_directory_whose_sockets_would_have_too_long_a_path_is_told_of(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = Broker(tmp_path / ("d" * 90), stack)
        broker.up()

        with pytest.raises(Refused, match="too long for a socket's path"):
            broker.control.add(half("a"))


def test_where_anybody_may_connect_the_socket_is_alone_in_a_folder_for_a_container(broker: Broker) -> None:
    broker.up()
    broker.control.add(Group("a", (GPU,), 1, share=0.5, users="any"))

    folder = broker.directory / "a.d"
    assert [each.name for each in folder.iterdir()] == ["gpu.sock"]
    assert stat.S_IMODE((folder / "gpu.sock").stat().st_mode) == 0o666


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_may_not_ask_even_where_the_socket_is_open() -> None:
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        Path(place).chmod(0o755)  # pytest's own are closed to others
        broker = Broker(Path(place) / "gpu", stack)
        broker.up()
        broker.directory.chmod(0o755)
        (broker.directory / "control.sock").chmod(0o666)
        said = as_user(65534, lambda: _refused(broker.control))
        assert said == "user 65534 has nothing to ask this broker; its own user may, and root"
        assert broker.control.groups() == ()


def _refused(control: Control) -> str:
    try:
        return str(control.groups())
    except Refused as error:
        return str(error)

"""Whatever bytes come by a socket: the broker answers or hangs up, and serves the others as before."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.node import DEVICE
from broker.test_node import Node, Program, working
from gpumax.broker.wire import FORMS, HEADER
from gpumax.broker.words import MAGIC, VERSION, Type
from thorough import examples

HELLO = FORMS[Type.HELLO].struct.pack(1, 0, 13000, 1, 0, 0, bytes.fromhex(DEVICE), *[bytes(16)] * 15)

words = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1, 2, 1 << 31, 1 << 32, 1 << 63])
payloads = st.builds(
    lambda kind, numbers: (kind, b"".join(n.to_bytes(8, "little") for n in numbers)),
    st.sampled_from(sorted(FORMS)), st.lists(words, max_size=40),
)  # fmt: skip
exact = st.builds(lambda kind, fill: (kind, (fill * 300)[: FORMS[kind].struct.size]), st.sampled_from(sorted(FORMS)),
                  st.binary(min_size=8, max_size=24))  # fmt: skip
raw = st.builds(lambda data: (0, data), st.binary(max_size=5000))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(tmp_path_factory.mktemp("garble") / "gpu", stack)


@pytest.fixture(scope="module")
def other(node: Node) -> Program:
    return working(node, "b")


def framed(kind: int, payload: bytes, number: int, epoch: int) -> bytes:
    return HEADER.pack(MAGIC, VERSION, kind, len(payload), 0, number, epoch) + payload


def throw(path: Path, messages: list[tuple[int, bytes]], *, introduced: bool) -> None:
    """One connection on which all of this is said, as far as it lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        sock.settimeout(20)
        epoch = 0
        if introduced:
            sock.send(framed(Type.HELLO, HELLO, 1, 0))
            data, fds, _, _ = socket.recv_fds(sock, 4096, 1)
            epoch = HEADER.unpack_from(data)[6]
            for fd in fds:
                os.close(fd)
        with suppress(OSError):  # it may hang up at any moment
            for number, (kind, payload) in enumerate(messages, 2):
                sock.send(payload if kind == 0 else framed(kind, payload, number, epoch))
        sock.setblocking(False)
        with suppress(OSError):
            while sock.recv(4096):
                pass


@pytest.mark.deep
@given(st.lists(raw | payloads | exact, min_size=1, max_size=20), st.booleans())
@settings(
    max_examples=examples(80, 2000), deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_no_bytes_keep_others_from_their_turn(
    node: Node, other: Program, messages: list[tuple[int, bytes]], introduced: bool
) -> None:
    throw(node.directory / "a.sock", messages, introduced=introduced)
    other.do("release")
    other.do("want")
    other.until("heard GRANT")
    assert node.broker.process.poll() is None

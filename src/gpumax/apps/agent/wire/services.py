"""Services by their paths on the wire, and a socket to serve them on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from gpumax.errors import Refused

REGISTRATION: Final = "pluginregistration.Registration"
"""Of any plugin, asked by the kubelet."""
CLAIMS: Final = {
    "v1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
    "v1beta1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin",
}
"""The versions in which claims are made ready, as they are announced, and where each is served: their messages are the same."""
PLUGIN: Final = "v1beta1.DevicePlugin"
KUBELET: Final = "v1beta1.Registration"
"""Where device plugins register, served by the kubelet."""
POD_RESOURCES: Final = "v1.PodResourcesLister"
M = TypeVar("M", bound=Message)
ANSWER_S: Final = 5.0
LONGEST_PATH: Final = 100
"""A socket's path may have 107 bytes."""

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]


def unary(work: Callable[..., Any], asked: type[Message], answer: type[Message]) -> Handler:
    """A method that answers once."""
    return grpc.unary_unary_rpc_method_handler(
        work, request_deserializer=asked.FromString, response_serializer=answer.SerializeToString
    )


def stream(work: Callable[..., Any], asked: type[Message], answer: type[Message]) -> Handler:
    """A method that answers again and again."""
    return grpc.unary_stream_rpc_method_handler(
        work, request_deserializer=asked.FromString, response_serializer=answer.SerializeToString
    )


async def asked(path: Path, method: str, question: Message, answer: type[M]) -> M:
    """One call over somebody's socket. AioRpcError where nobody answers in time."""
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        ask = channel.unary_unary(
            method,
            request_serializer=type(question).SerializeToString,
            response_deserializer=answer.FromString,
        )
        found: M = await ask(question, timeout=ANSWER_S)
        return found


@asynccontextmanager
async def served(path: Path, services: Mapping[str, dict[str, Handler]]) -> AsyncIterator[None]:
    """Serve on a socket that only its owner may use, in place of what an earlier process left there. It goes at the end."""
    if len(str(path)) > LONGEST_PATH:
        raise Refused(f"the path of a socket may have {LONGEST_PATH} characters; found {path}")
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    os.chmod(path, 0o600)
    try:
        yield
    finally:
        await server.stop(grace=1.0)
        path.unlink(missing_ok=True)

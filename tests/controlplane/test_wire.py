"""The client over a bad wire to a real API server: cut in the middle of whatever is under way, and held up for long."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import msgspec
import pytest

from controlplane.plane import ControlPlane
from engines.kubernetes.stub import story
from gpumax.engines.kubernetes.client.api import Api
from gpumax.engines.kubernetes.client.cache import Change
from gpumax.engines.kubernetes.client.connection import Request
from gpumax.engines.kubernetes.client.errors import ApiRefused, NoAnswer, OutcomeUnknown
from gpumax.engines.kubernetes.client.informer import Informer
from gpumax.engines.kubernetes.client.kinds import Kind
from gpumax.engines.kubernetes.client.kubeconfig import access_from
from gpumax.engines.kubernetes.client.views import Thing

CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap", Thing)
SPACE = "default"


def wired(name: str) -> dict[str, object]:
    """An object of these tests."""
    return {"metadata": {"name": name, "labels": {"over": "wire"}}, "data": {"text": "x" * 2000}}


async def sure(api: Api, name: str) -> None:
    """Create an object, and look before doing it again where the outcome is unknown."""
    while True:
        try:
            await api.create(CONFIG_MAPS, wired(name), SPACE)
            return
        except OutcomeUnknown:
            with suppress(ApiRefused, NoAnswer):
                await api.get(CONFIG_MAPS, name, SPACE)
                return
        except NoAnswer:
            pass
        except ApiRefused as refused:
            if refused.reason != "AlreadyExists":
                raise
            return


class Ledger:
    """What an informer told, which has to add up."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def heard(self, change: Change[Thing]) -> None:
        """A change: nothing comes twice, and nothing goes that wasn't there."""
        name = change.key[1]
        assert (name in self.known) == (change.old is not None)
        (self.known.discard if change.new is None else self.known.add)(name)


def test_a_wire_that_is_cut_again_and_again_loses_and_doubles_nothing(plane: ControlPlane) -> None:
    """Writes and watches are cut at any moment: in the end all is there once, and what was heard adds up to it."""

    @story
    async def told() -> None:
        ledger, chance = Ledger(), random.Random(7)
        with plane.wire() as wire:
            async with Api(access_from((plane.kubeconfig_over(wire),))) as api:
                informer = Informer(api, CONFIG_MAPS, SPACE, labels="over=wire")
                informer.cache.on_change(ledger.heard)
                following = asyncio.create_task(informer.run())
                cuts = 0
                for block in range(12):
                    work = [asyncio.create_task(sure(api, f"w{block}-{number}")) for number in range(8)]
                    while not wire.used:
                        await asyncio.sleep(0.001)
                    for _ in range(chance.randrange(40)):
                        await asyncio.sleep(0)
                    cuts += wire.cut()
                    await asyncio.gather(*work)
                there = await api.list(CONFIG_MAPS, SPACE, labels="over=wire")
                await informer.reached(there.version)
                assert len(there.items) == 96
                assert ledger.known == {one.metadata.name for one in there.items}
                assert cuts >= 12, "watches and writes were cut"
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following
        plane.api.delete(f"/api/v1/namespaces/{SPACE}/configmaps", params={"labelSelector": "over=wire"})

    told()


def test_a_wire_that_is_held_up_is_waited_for_and_a_write_on_it_is_unknown(plane: ControlPlane) -> None:
    """A stall ends nothing that is only watched; a write that got no answer in time isn't taken for failed, and comes through later."""

    @story
    async def told() -> None:
        with plane.wire() as wire:
            async with Api(access_from((plane.kubeconfig_over(wire),))) as api:
                informer = Informer(api, CONFIG_MAPS, SPACE, labels="over=wire")
                following = asyncio.create_task(informer.run())
                await informer.reached("0")
                await api.list(CONFIG_MAPS, SPACE)  # so that there is a connection for the write
                body = msgspec.json.encode(wired("held"))
                with wire.held(), pytest.raises(OutcomeUnknown, match="nothing came in time"):
                    await api.write(Request("POST", CONFIG_MAPS.path(SPACE), body=body, patience_s=0.5))
                await sure(api, "held")
                while ("default", "held") not in informer.cache.objects:
                    await informer.changed()
                assert informer.lists == 1
                await api.delete(CONFIG_MAPS, "held", SPACE)
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following

    told()

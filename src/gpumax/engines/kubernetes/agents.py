"""Which nodes have an agent, and which devices each gives out."""

from __future__ import annotations

import re
from typing import Final

from gpumax.engines.kubernetes import keys, quantities
from gpumax.engines.kubernetes.offers import Slice, annotated, offered_by, with_agent
from gpumax.engines.kubernetes.views import NodeObject
from gpumax.model.node import Device, Node

Devices = tuple[Device, ...]


CLAIMS_FOR_RESOURCES: Final = 36
"""The minor version from which on kubelets give a container devices of a claim for a resource that it asks for."""
_VERSION: Final = re.compile(r"v1\.(\d{1,4})\.")


def _has_tickets(view: NodeObject) -> bool:
    built, _ = quantities.exact({keys.PART: (view.status.capacity or {}).get(keys.PART, 0)})
    return bool(built.get(keys.PART))


def _minor(view: NodeObject) -> int:
    found = (
        _VERSION.match(view.status.node_info.kubelet_version) if view.status.node_info is not None else None
    )
    return int(found[1]) if found is not None else 0


class Agents:
    """What agents offer: by ResourceSlices where the cluster has them, else by an annotation of their node."""

    def __init__(self) -> None:
        self._slices: dict[str, tuple[str, Devices]] = {}  # by the name of the slice
        self._by_claim: dict[str, Devices] = {}
        self._by_plugin: dict[str, Devices] = {}
        self._newer: set[str] = set()  # nodes whose kubelet takes claims for resources

    @property
    def there(self) -> bool:
        """Whether there is any."""
        return bool(self._by_claim or self._by_plugin)

    def see_slice(self, name: str, view: Slice | None) -> set[str]:
        """A slice as it is now; None where it is gone. Returns the nodes whose offer changed."""
        before = self._slices.pop(name, None)
        if view is not None and view.spec.driver == keys.DRIVER and view.spec.node_name:
            self._slices[name] = view.spec.node_name, offered_by(view)
        after = self._slices.get(name)
        if before == after:
            return set()
        nodes = {own[0] for own in (before, after) if own is not None}
        for node in nodes:
            self._by_claim.pop(node, None)
        self._by_claim.update(own for own in self._slices.values() if own[0] in nodes)
        return nodes

    def see_node(self, name: str, view: NodeObject | None) -> bool:
        """A node as it is now; None where it is gone. Returns whether its offer changed."""
        before = self._by_plugin.pop(name, None), name in self._newer
        self._newer.discard(name)
        if view is not None and _minor(view) >= CLAIMS_FOR_RESOURCES:
            self._newer.add(name)
        # An agent that was removed leaves the annotation behind; its kubelet forgets the resource minutes later.
        offered = annotated(view) if view is not None and _has_tickets(view) else None
        if offered is not None:
            self._by_plugin[name] = offered
        return before != (offered, name in self._newer)

    def whole(self, name: str) -> bool:
        """Whether the agent of this node gives whole devices to pods that ask for the vendor's resource: it can by claims for resources."""
        return name in self._by_claim and name in self._newer

    def applied(self, node: Node) -> Node:
        """The node with the devices that its agent gives out; the same where it has none."""
        for offers, how in ((self._by_claim, keys.DRIVER), (self._by_plugin, keys.PART)):
            if node.name in offers:
                return with_agent(node, offers[node.name], how, whole=self.whole(node.name))
        return node

    def oddity(self, node: Node) -> str:
        """What is odd about a node's offer, as a sentence; empty where nothing is."""
        if node.name not in self._by_claim and node.name not in self._by_plugin:
            return ""
        if not any(not device.slices for device in node.devices):
            return ""
        return (
            f"node {node.name}: its GPUs are given out by gpumax's agent and by {node.labels.get(keys.VENDOR, 'a plugin')}, "
            "which don't know of each other; only the agent's are used"
        )

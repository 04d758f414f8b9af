"""Which nodes have an agent, and which devices each gives out."""

from __future__ import annotations

from gpumax.engines.kubernetes import keys
from gpumax.engines.kubernetes.offers import Slice, annotated, offered_by, with_agent
from gpumax.engines.kubernetes.views import NodeObject
from gpumax.model.node import Device, Node

Devices = tuple[Device, ...]


class Agents:
    """What agents offer: by ResourceSlices where the cluster has them, else by an annotation of their node."""

    def __init__(self) -> None:
        self._slices: dict[str, tuple[str, Devices]] = {}  # by the name of the slice
        self._by_claim: dict[str, Devices] = {}
        self._by_plugin: dict[str, Devices] = {}

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
        before = self._by_plugin.pop(name, None)
        offered = annotated(view) if view is not None else None
        if offered is not None:
            self._by_plugin[name] = offered
        return before != offered

    def applied(self, node: Node) -> Node:
        """The node with the devices that its agent gives out; the same where it has none."""
        for offers, vendor in ((self._by_claim, keys.DRIVER), (self._by_plugin, keys.PART)):
            if node.name in offers:
                return with_agent(node, offers[node.name], vendor)
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

"""Our messages are the kubelet's: the same numbers of fields, of the same types, under the same paths."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gpumax.apps.agent.wire import kubelet_pb2 as wire
from gpumax.apps.agent.wire import services

MODULE = Path(__file__).parents[1] / "controlplane" / "modules" / "newest"
FIELD = re.compile(r"^\s*(repeated |optional )?(map<[^>]+>|[\w.]+)\s+(\w+)\s*=\s*(\d+);", re.M)
SAME = {
    "pluginregistration/v1": {"PluginInfo": "PluginInfo", "RegistrationStatus": "RegistrationStatus"},
    "dra/v1": {
        "Claim": "Claim", "NodePrepareResourcesRequest": "Claims", "NodeUnprepareResourcesRequest": "Claims",
        "Device": "PreparedDevice", "NodePrepareResourceResponse": "PreparedClaim",
        "NodePrepareResourcesResponse": "PreparedClaims", "NodeUnprepareResourceResponse": "UnpreparedClaim",
        "NodeUnprepareResourcesResponse": "UnpreparedClaims",
    },
    "deviceplugin/v1beta1": {
        "DevicePluginOptions": "PluginOptions", "RegisterRequest": "RegisterRequest", "Device": "PluginDevice",
        "ListAndWatchResponse": "PluginDevices", "PreStartContainerRequest": "ContainerIds",
        "ContainerAllocateRequest": "ContainerIds", "AllocateRequest": "AllocateRequest", "CDIDevice": "CdiDevice",
        "ContainerAllocateResponse": "ContainerDevices", "AllocateResponse": "AllocateResponse",
    },
    "podresources/v1": {
        "ContainerDevices": "HeldDevices", "ContainerResources": "PodContainer", "PodResources": "PodResources",
        "ListPodResourcesResponse": "AllPodResources",
    },
}  # fmt: skip
"""By the file of the kubelet's interface: its names of messages, and ours."""
SAME["dra/v1beta1"] = SAME["dra/v1"]
NEWER = {("dra/v1beta1", "share_id")}
"""What an older version doesn't know, and skips."""
PATHS = {
    "pluginregistration/v1": ("Registration", services.REGISTRATION),
    "dra/v1": ("DRAPlugin", services.CLAIMS["v1.DRAPlugin"]),
    "dra/v1beta1": ("DRAPlugin", services.CLAIMS["v1beta1.DRAPlugin"]),
    "deviceplugin/v1beta1": ("DevicePlugin", services.PLUGIN),
    "podresources/v1": ("PodResourcesLister", services.POD_RESOURCES),
}


@pytest.fixture(scope="module")
def interface() -> Path:
    """The kubelet's own description of its interface, of the version that our other tests run on."""
    if shutil.which("go") is None:
        pytest.skip("no Go here, so the kubelet's interface can't be fetched")
    asked = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "k8s.io/kubelet"]
    found = subprocess.run(asked, cwd=MODULE, capture_output=True, text=True, check=False)
    folder = Path(found.stdout.strip() or "nowhere") / "pkg" / "apis"
    if not folder.is_dir():
        pytest.skip(f"the kubelet's interface isn't in the cache of Go modules: {found.stderr[:300]}")
    return folder


def fields(text: str, message: str) -> dict[str, tuple[int, str]]:
    """Numbers and kinds of the fields of a message, by name."""
    body = re.search(rf"^message {message} {{(.*?)^}}", text, re.M | re.S)
    assert body is not None, message
    found = FIELD.findall(body[1])
    return {name.lower(): (int(number), _shape(label.strip(), kind)) for label, kind, name, number in found}


def _shape(label: str, kind: str) -> str:
    """Types of messages are called otherwise here; whatever else is compared."""
    if kind.startswith("map<"):
        return "map"
    return f"{label} {kind if kind in ('string', 'bool', 'int32', 'int64', 'uint64') else 'message'}".strip()


@pytest.mark.parametrize("file", SAME)
def test_messages_have_the_same_fields(interface: Path, file: str) -> None:
    """Each of ours is there under the same number and of the same kind; what we leave out is skipped when it comes."""
    (proto,) = (interface / file).glob("*.proto")
    theirs = proto.read_text()
    ours = Path(wire.__file__).with_name("kubelet.proto").read_text()
    for their_name, our_name in SAME[file].items():
        known = fields(theirs, their_name)
        for name, own in fields(ours, our_name).items():
            if (file, name) not in NEWER:
                assert known.get(name) == own, f"{their_name}.{name}"


@pytest.mark.parametrize("file", PATHS)
def test_services_have_the_same_paths(interface: Path, file: str) -> None:
    """Package and name."""
    (proto,) = (interface / file).glob("*.proto")
    text = proto.read_text()
    package = re.search(r"^package ([\w.]+);", text, re.M)
    name, path = PATHS[file]
    assert package is not None
    assert re.search(rf"^service {name} {{", text, re.M)
    assert path == f"{package[1]}.{name}"

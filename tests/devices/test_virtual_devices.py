"""Virtual devices by their spec."""

from __future__ import annotations

import pytest

from gpumax.devices import open_devices
from gpumax.errors import BadFile
from gpumax.model.node import Device


def test_spec() -> None:
    """Parts follow each other in the order in which they are written, with one index after the other."""
    devices = open_devices(" 2xH100:80Gi, 1xRTX 4090:24564Mi ")
    assert devices.virtual
    assert devices.read() == (
        Device(0, "H100", 81920),
        Device(1, "H100", 81920),
        Device(2, "RTX 4090", 24564),
    )


def test_none() -> None:
    """A machine may be said to have none; its tasks then see none."""
    devices = open_devices("none")
    assert not devices.virtual
    assert devices.read() == ()
    assert devices.visible(()) == {"CUDA_VISIBLE_DEVICES": ""}


def test_visible() -> None:
    """A process is shown the devices by index, in the order asked for, and told that they are virtual."""
    devices = open_devices("4xA100:40Gi")
    assert devices.visible((3, 1)) == {"CUDA_VISIBLE_DEVICES": "3,1", "GPUMAX_VIRTUAL_DEVICES": "1"}
    with pytest.raises(KeyError):
        devices.visible((4,))


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("", "nothing"),
        ("8", "`8`"),
        ("8xH100", "`8xH100`"),
        ("H100:80Gi", "`H100:80Gi`"),
        ("-1xH100:80Gi", "`-1xH100:80Gi`"),
        ("0xH100:80Gi", "`0xH100:80Gi`: 0 devices"),
        ("8xH100:", "`8xH100:`"),
        ("8xH100:lots", "`8xH100:lots`: the memory `lots`"),
        ("8xH100:NaN", "`8xH100:NaN`: the memory `NaN`"),
        ("8xH100:-80Gi", "`8xH100:-80Gi`: the memory `-80Gi`"),
        ("8xH100:1", "`8xH100:1`: the memory `1`"),
        ("8xH100:1e300", "`8xH100:1e300`: the memory `1e300`"),
        ("999999999xH100:80Gi", "more than 1024 devices"),
        ("8x\u0661:80Gi", "`8x\u0661:80Gi`"),
        ("8xH100:80Gi,", "nothing"),
    ],
)
def test_bad_spec(spec: str, found: str) -> None:
    """A spec that can't be read is refused with what was found and what was wanted."""
    with pytest.raises(BadFile) as caught:
        open_devices(spec)
    (fault,) = caught.value.faults
    assert fault.found == found
    assert fault.wanted


def test_all_faults() -> None:
    """All faults of a spec are told at once."""
    with pytest.raises(BadFile) as caught:
        open_devices("8,2xA100:40Gi,0xH100:80Gi,1xH100:x")
    assert len(caught.value.faults) == 3

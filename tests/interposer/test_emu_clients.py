"""Real client libraries on the emulated driver: cuda.core, and every function that cuda-bindings asks for."""

from __future__ import annotations

from interposer.emulated import Machine


def test_cuda_core_uses_devices_streams_buffers_and_events(machine: Machine) -> None:
    program = """
    from cuda.core import Device, EventOptions
    device = Device(0)
    device.set_current()
    stream = device.create_stream()
    buffer = device.allocate(1 << 20, stream=stream)
    other = device.allocate(1 << 20, stream=stream)
    ok(d.cuMemsetD8Async(int(buffer.handle), 9, 1 << 20, stream.handle))
    buffer.copy_to(other, stream=stream)
    before, after = device.create_event(EventOptions(timing_enabled=True)), device.create_event(EventOptions(timing_enabled=True))
    stream.record(before)
    stream.record(after)
    stream.sync()
    out = download(int(other.handle), np.empty(1 << 20, np.uint8))
    buffer.close(stream)
    other.close(stream)
    say([device.name, [int(x) for x in device.compute_capability], bool((out == 9).all()), after - before >= 0, device.uuid[:4]])
    """
    name, capability, same, timed, _ = machine.run(program)
    assert [name, capability, same, timed] == ["Small", [8, 6], True, True]


def test_the_bindings_find_each_function_that_the_driver_of_that_version_has(machine: Machine) -> None:
    """They look all of them up by name and version at once; a function that isn't emulated is there, and says so."""
    program = """
    ok(d.cuInit(0))
    said = []
    for call in (lambda: d.cuMulticastGetGranularity(d.CUmulticastObjectProp(), d.CUmulticastGranularity_flags(0)),
                 lambda: d.cuGraphCreate(0), lambda: d.cuDeviceGetTexture1DLinearMaxWidth(d.CUarray_format(1), 1, 0)):
        said.append(name(call()))
    say(said)
    """
    assert machine.run(program) == ["CUDA_ERROR_NOT_SUPPORTED", "CUDA_SUCCESS", "CUDA_ERROR_NOT_SUPPORTED"]


def test_what_is_not_emulated_is_told_once(machine: Machine) -> None:
    process = machine.start("""
    ok(d.cuInit(0))
    for _ in range(3):
        d.cuDeviceGetTexture1DLinearMaxWidth(d.CUarray_format(1), 1, 0)
    """)
    _, err = process.communicate(timeout=60)
    assert err == "gpumax: emulated driver: cuDeviceGetTexture1DLinearMaxWidth isn't emulated\n"

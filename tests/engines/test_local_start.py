"""What a task of the local engine finds around it, and what becomes of what can't be started."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine_kit import Machine, alive, cmdline
from gpumax.model.workload import DeviceShare

SECRET = "the-value-of-a-secret"


def keep_secret(machine: Machine, name: str, value: str = SECRET, mode: int = 0o600) -> None:
    """Write a secret down where the engine looks for it."""
    path = machine.data / "secrets" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(f"{value}\n")
    path.chmod(mode)


def environment_of(machine: Machine, **changes: object) -> dict[str, str]:
    """The environment that a task finds."""
    machine.start("env", "/usr/bin/env", "-0", **changes)
    assert machine.until("env", "exited").exit_code == 0
    return dict(pair.split("=", 1) for pair in machine.log("env").split("\0") if pair)


def test_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task gets what it was given and a small base; nothing else of the server's environment."""
    monkeypatch.setenv("SERVER_TOKEN", SECRET)
    monkeypatch.setenv("LC_TIME", "C")
    found = environment_of(machine, env={"EPOCHS": "10", "PATH": "/bin:/usr/bin"})
    assert found["EPOCHS"] == "10"
    assert found["PATH"] == "/bin:/usr/bin"
    assert found["HOME"] == os.environ["HOME"]
    assert found["LC_TIME"] == "C"
    assert found["GPUMAX_ATTEMPT"] == machine.id("env")
    assert "SERVER_TOKEN" not in found
    assert SECRET not in found.values()


def test_devices(machine: Machine) -> None:
    """A task sees the devices that it holds and how much of each, whatever its own settings say."""
    shares = (DeviceShare(5, 500), DeviceShare(2, 1000))
    found = environment_of(machine, devices=shares, env={"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"})
    assert found["CUDA_VISIBLE_DEVICES"] == "5,2"
    assert found["GPUMAX_DEVICE_MILLI"] == "500,1000"
    assert found["GPUMAX_VIRTUAL_DEVICES"] == "1"


def test_no_devices(machine: Machine) -> None:
    """A task that holds no device sees none."""
    assert environment_of(machine, devices=())["CUDA_VISIBLE_DEVICES"] == ""


def test_device_that_is_gone(machine: Machine) -> None:
    """A start on a device that isn't there any more is refused in words."""
    (refusal,) = machine.start("a1", "true", devices=(DeviceShare(9, 1000),))
    assert refusal.why == "n1 has no device 9 any more"


def test_process(machine: Machine) -> None:
    """A task runs in its directory, leads a session of its own, and has nothing to read."""
    machine.start("a1", "pwd; ps -o sid= -p $$ | tr -d ' '; echo $$; cat", workdir="/usr")
    assert machine.until("a1", "exited").exit_code == 0
    directory, session, pid = machine.log("a1").splitlines()
    assert directory == "/usr"
    assert session == pid


def test_open_files(machine: Machine) -> None:
    """A task inherits its input and outputs, and no other open file."""
    machine.start("a1", "ls", "/proc/self/fd")
    machine.until("a1", "exited")
    assert machine.log("a1").split() == ["0", "1", "2", "3"]  # 3 is what ls reads the list from


@pytest.mark.parametrize(
    "ignored", [None, signal.SIGHUP, signal.SIGQUIT], ids=["none", "nohup", "background"]
)
def test_signals(ignored: signal.Signals | None, machine: Machine) -> None:
    """A task begins with every signal as the system sets it, whatever was ignored where gpumax began: none blocked, none ignored."""
    before = signal.signal(ignored, signal.SIG_IGN) if ignored is not None else None
    try:
        machine.start("a1", "grep", "-E", "SigBlk|SigIgn", "/proc/self/status")
    finally:
        if ignored is not None:
            signal.signal(ignored, before)
    machine.until("a1", "exited")
    standard = (1 << 31) - 1  # the C library keeps some above those for itself
    assert {int(line.split()[1], 16) & standard for line in machine.log("a1").splitlines()} == {0}


def test_exec_form(machine: Machine) -> None:
    """Arguments arrive as they were written, without a shell in between."""
    words = ["", "a b", "$HOME", "*", "ü\udcff", "-n\n"]
    machine.start("a1", "/usr/bin/printf", "%s|", *words)
    machine.until("a1", "exited")
    log = (machine.data / "logs" / "w" / "a1.log").read_bytes()
    assert log == b"|a b|$HOME|*|\xc3\xbc\xff|-n\n|"


def test_signal_is_the_exit_code(machine: Machine) -> None:
    """A task that dies of a signal has the exit code that shells give it."""
    machine.start("a1", "kill -SEGV $$")
    assert machine.until("a1", "exited").exit_code == 128 + signal.SIGSEGV


def test_setup(machine: Machine) -> None:
    """Setup runs before the command, in the same place; what it leaves running lives as long as the task."""
    machine.start(
        "a1", "cat made; kill -0 $(cat left)", setup="echo ready > made; sleep 1000 & echo $! > left"
    )
    assert machine.until("a1", "exited").exit_code == 0
    assert machine.log("a1") == "ready\n"
    assert not alive(machine.pid("left"))


def test_setup_fails(machine: Machine) -> None:
    """Where setup fails, the task has failed with its exit code, and the command is never run."""
    machine.start("a1", "echo never", setup="echo broken; exit 9")
    seen = machine.until("a1", "exited")
    assert (seen.exit_code, seen.message) == (9, "its setup failed with exit code 9")
    assert machine.log("a1") == "broken\ngpumax: its setup failed with exit code 9\n"


def test_stop_during_setup(machine: Machine) -> None:
    """A task that is stopped during its setup ends there, and not as if it had done its work."""
    machine.start("a1", "touch never", setup="trap 'exit 0' TERM; echo up > up; while :; do sleep 0.01; done")
    machine.file("up")
    machine.stop("a1")
    assert machine.until("a1", "exited").exit_code == 143
    assert not (machine.data / "never").exists()


@pytest.mark.parametrize(
    ("argv", "workdir", "code", "words"),
    [
        (("no-such-command",), "/", 127, "can't run no-such-command: no such command"),
        (("./here",), "/", 127, "can't run ./here: no such command"),
        (("/etc/passwd",), "/", 126, "can't run /etc/passwd: Permission denied"),
        (("/usr",), "/", 126, "can't run /usr: Permission denied"),
        (("true",), "/no/such/place", 127, "can't work in /no/such/place: No such file or directory"),
        (("true",), "/etc/passwd", 127, "can't work in /etc/passwd: Not a directory"),
        (("true", "x" * 200_000), "/", 126, "can't run true: its arguments and environment are too large"),
    ],
)  # fmt: skip
def test_cannot_run(machine: Machine, argv: tuple[str, ...], workdir: str, code: int, words: str) -> None:
    """What can't be run ends with a shell's exit code, and one plain line in its message and its log."""
    machine.start("a1", argv=argv, workdir=workdir)
    seen = machine.until("a1", "exited")
    assert (seen.exit_code, seen.message) == (code, words)
    assert machine.log("a1") == f"gpumax: {words}\n"


def test_scripts(machine: Machine) -> None:
    """A script without a first line, or with a wrong one, is told apart from one that isn't there."""
    for name, text, code, words in (
        ("plain", "echo hi\n", 126, "no program (a script needs a first line like #!/bin/sh)"),
        ("wrong", "#!/no/such/shell\n", 127, "what its first line names isn't there"),
    ):
        script = machine.data / name
        script.write_text(text)
        script.chmod(0o700)
        machine.start(name, str(script), "")
        seen = machine.until(name, "exited")
        assert (seen.exit_code, seen.message) == (code, f"can't run {script}: {words}")


def test_secrets(machine: Machine) -> None:
    """A secret arrives in the environment of the task, and is on no command line, in no other file and not with the supervisor."""
    keep_secret(machine, "TOKEN")
    machine.start(
        "a1", 'test "$TOKEN" = the-value-of-a-secret && echo yes > got; sleep 1000', secrets=("TOKEN",)
    )
    assert machine.file("got") == "yes\n"
    supervisor = machine.supervisor("a1")
    value = SECRET.encode()
    assert value not in cmdline(supervisor)
    assert value not in Path(f"/proc/{supervisor}/environ").read_bytes()
    machine.stop("a1")
    machine.until("a1", "exited")
    written = [path for path in machine.data.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    assert {"attempt", "started", "exited", "a1.log"} <= {path.name for path in written}
    assert [path for path in written if value in path.read_bytes()] == []


@pytest.mark.parametrize("name", ["MISSING", "../TOKEN", "OPEN", "."])
def test_secret_refused(machine: Machine, name: str) -> None:
    """A secret that isn't there, is no name, or can be read by others is a refusal in words, and nothing starts."""
    keep_secret(machine, "OPEN", mode=0o644)
    (refusal,) = machine.start("a1", "true", secrets=(name,))
    assert name in refusal.why
    assert SECRET not in refusal.why
    assert machine.seen("a1") is None


def test_objections(machine: Machine) -> None:
    """What is known against a start before it: secrets, directories, text that no program can be given."""
    keep_secret(machine, "TOKEN")
    keep_secret(machine, "OPEN", mode=0o644)
    inside = str(machine.data / "a" / "b")
    good = machine.launch("a1", "true", secrets=("TOKEN",), checkpoint_dir=inside)
    assert machine.engine.objection(good) == ""
    for changes, words in (
        (
            {"secrets": ("TOKEN", "MISSING")},
            f"there is no secret MISSING; wanted: its value in {machine.data}/secrets/",
        ),
        ({"secrets": ("OPEN",)}, "others may read the secret OPEN; wanted: chmod 600 "),
        (
            {"checkpoint_dir": "/etc/passwd"},
            "its checkpoint directory /etc/passwd can't be made: /etc/passwd is no dir",
        ),
        (
            {"checkpoint_dir": "/etc/passwd/x"},
            "its checkpoint directory /etc/passwd/x can't be made: /etc/passwd is no",
        ),
        ({"workdir": "/no/such"}, "its workdir /no/such is not there"),
        ({"workdir": "/etc/passwd"}, "its workdir /etc/passwd is no directory"),
        ({"env": {"A": "a\0b"}}, "its command, paths or environment hold a NUL byte"),
        ({"argv": ("echo", "\ud800")}, "its command, paths or environment hold a NUL byte or broken text"),
    ):
        assert machine.engine.objection(replace(good, **changes)).startswith(words)
    assert not (machine.data / "a").exists()


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_text_that_no_program_can_be_given(machine: Machine, word: str) -> None:
    """A NUL byte, or half of a character, is a refusal in words, and nothing starts."""
    for changes in ({"env": {"A": word}}, {"workdir": word}, {"setup": word}):
        (refusal,) = machine.start("a1", "true", **changes)
        assert "NUL byte" in refusal.why
    assert machine.start("a1", "echo", word)
    assert machine.engine.observe().attempts == ()


def test_checkpoint_moment(machine: Machine) -> None:
    """The engine makes the checkpoint directory, for its user only, and says when a file in it was last written."""
    directory = machine.data / "checkpoints" / "w"
    machine.start("a1", "sleep 1000", checkpoint_dir=str(directory))
    assert machine.until("a1", "running").checkpointed_ms is None
    assert directory.stat().st_mode & 0o777 == 0o700
    (directory / "step").mkdir()
    for name, moment in (("step/1", 1_000), ("2", 2_500), ("3", 2_000)):
        (directory / name).touch()
        os.utime(directory / name, ns=(0, moment * 1_000_000))
    seen = machine.seen("a1")
    assert seen is not None
    assert seen.checkpointed_ms == 2_500


def test_processes_are_named_for_people(machine: Machine) -> None:
    """`ps` and `top` show whose the supervisor is."""
    machine.start("a1", "sleep 1000")
    machine.until("a1", "running")
    assert Path(f"/proc/{machine.supervisor('a1')}/comm").read_text() == "gpumax-task\n"

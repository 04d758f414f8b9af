"""What fingers know from other tools, and what it is called here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

COMMANDS: Final = {
    "submit": "run", "launch": "run", "srun": "run", "sbatch": "apply", "create": "apply", "list": "ps",
    "ls": "ps", "get": "ps", "squeue": "ps", "jobs": "ps", "describe": "show", "inspect": "show", "log": "logs",
    "top": "board", "cancel": "stop", "kill": "stop", "scancel": "stop", "rm": "delete", "remove": "delete",
    "pause": "suspend", "hold": "suspend", "unpause": "resume", "release": "resume", "queues": "queue",
    "node": "nodes", "sinfo": "nodes", "gpus": "gpu", "start": "up", "server": "up", "serve": "up", "shutdown": "down",
    "check": "doctor", "explain": "why", "dryrun": "plan", "dry-run": "plan", "info": "status",
}  # fmt: skip
"""What other tools call a command."""

SUBCOMMANDS: Final = {
    "ls": "list", "ps": "list", "get": "show", "describe": "show", "create": "set", "add": "set", "update": "set",
    "edit": "set", "apply": "set", "rm": "delete", "remove": "delete",
}  # fmt: skip
"""What other tools call what is done with a thing."""

OPTIONS: Final = {
    "--accelerators": "--gpu", "--gres": "--gpu", "--gpus-per-task": "--gpu", "--gpu-portion-request": "--gpu",
    "--gpu-memory-request": "--gpu-memory", "--cpus-per-task": "--cpu", "--mem": "--memory", "--num-nodes": "--tasks",
    "--nodes": "--tasks", "--nnodes": "--tasks", "--ntasks": "--tasks", "--workers": "--tasks", "--replicas": "--tasks",
    "--queue": "--project", "--partition": "--project", "--account": "--project",
    "--job-name": "--name", "--export": "--env", "--envs": "--env", "--secrets": "--secret", "--chdir": "--workdir",
    "--cwd": "--workdir", "--working-dir": "--workdir", "--time": "--max-duration", "--timeout": "--max-duration",
    "--max-retries": "--retries", "--dryrun": "--dry-run", "--file": "-f", "--filename": "-f", "--format": "--output",
    "--force": "--yes", "--all-namespaces": "--all", "--lines": "--tail", "--node": "--task", "--rank": "--task",
}  # fmt: skip
"""What other tools call an option."""


def guesses(word: str, known: Iterable[str], elsewhere: dict[str, str]) -> list[str]:
    """What an unknown word may have meant, the likeliest first."""
    from difflib import get_close_matches

    names = list(known)
    first = elsewhere.get(word)
    near = [first] if first in names else []
    return near + [match for match in get_close_matches(word, names, 3, 0.6) if match not in near]


def did_you_mean(found: list[str], prefix: str = "") -> str:
    """The guesses as a question; empty where there is none."""
    return f"did you mean {' or '.join(f'`{prefix}{name}`' for name in found)}?" if found else ""

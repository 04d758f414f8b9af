"""The group of all commands, which imports a command when it is called and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from gpumax.apps.cli.habits import COMMANDS, SUBCOMMANDS, did_you_mean, guesses


class Entry(NamedTuple):
    """Where a command is, as `module:attribute` below the package of commands, and its help in a line."""

    where: str
    help: str


Sections = dict[str, dict[str, Entry]]

SECTIONS: Final[Sections] = {
    "Start and stop": {
        "up": Entry("system:up", "Start gpumax on this machine."),
        "down": Entry("system:down", "Stop it; tasks run on unless told otherwise."),
        "status": Entry("system:status", "What the server is and does."),
        "webhook": Entry("webhook:webhook", "Answer what a cluster's API server asks about pods."),
        "doctor": Entry("doctor:doctor", "Check this machine and say what to mend."),
    },
    "Submit": {
        "run": Entry("submit:run", "Submit a command: gpumax run --gpu 2 -- python train.py"),
        "apply": Entry("submit:apply", "Submit the workloads and queues of a file."),
        "plan": Entry("submit:plan", "What would happen if a file were applied; changes nothing."),
        "import": Entry("import_:import_", "Queues of another scheduler, as a file to apply."),
    },
    "Look": {
        "ps": Entry("look:ps", "Workloads, and why they wait."),
        "show": Entry("look:show", "All about one workload."),
        "why": Entry("look:why", "Why a workload waits, in sentences."),
        "logs": Entry("logs:logs", "What tasks print."),
        "board": Entry("board:board", "The cluster as a picture."),
        "events": Entry("events:events", "What happened."),
    },
    "Act": {
        "stop": Entry("act:stop", "End workloads for good."),
        "suspend": Entry("act:suspend", "Take workloads off their GPUs; they keep their checkpoints."),
        "resume": Entry("act:resume", "Let suspended workloads run again."),
        "delete": Entry("act:delete", "Stop workloads and forget them."),
        "exec": Entry("exec_:exec_", "Run a command beside a task, on a cluster."),
    },
    "Share": {
        "queue": Entry("queue:queue", "List, show, set and delete queues."),
        "nodes": Entry("nodes:nodes", "Nodes, and what is free on them."),
        "gpu": Entry("nodes:gpu", "GPUs, and who holds them."),
    },
    "Study": {
        "decide": Entry("decide:decide_command", "Decide on a snapshot file; needs no server."),
        "trace": Entry("trace:trace", "What is in a trace of another cluster; convert one."),
        "simulate": Entry("simulate:simulate", "Play a trace under several policies, and compare them."),
        "report": Entry("simulate:report", "Draw results of simulate as a page or as pictures."),
        "what-if": Entry(
            "what_if:what_if", "The same work with other quotas or nodes; find the smallest cluster."
        ),
        "replay": Entry("replay:replay", "Decide again what a journal holds, and compare."),
    },
    "In a cluster": {
        "agent": Entry("agent:agent", "Give out parts of a node's GPUs; one on each node."),
    },
    "Other": {
        "schema": Entry("other:schema", "JSON Schema of a file format."),
        "completion": Entry("other:completion", "Completion script for a shell."),
        "version": Entry("other:version", "The version."),
    },
}


class Guessing(click.Group):
    """A group that says what an unknown command may have meant."""

    elsewhere = SUBCOMMANDS

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; for an unknown one, the names that it may have meant."""
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            hint = did_you_mean(guesses(args[0], known, self.elsewhere), f"{ctx.command_path} ")
            raise click.UsageError(
                f"there is no command {args[0]!r}; {hint or f'`{ctx.command_path} --help` lists all'}", ctx
            )
        return super().resolve_command(ctx, args)


class LazyGroup(Guessing):
    """A group whose commands are named in a table, in sections."""

    elsewhere = COMMANDS

    def __init__(self, sections: Sections, package: str, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self.sections = sections
        self.package = package

    @property
    def entries(self) -> dict[str, Entry]:
        """All commands, in the order of the help."""
        return {name: entry for section in self.sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        found = getattr(import_module(f"{self.package}.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, a section an intent."""
        wide = max(map(len, self.entries))
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(wide), entry.help) for name, entry in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands that begin so, without importing them."""
        found = [
            CompletionItem(name, help=entry.help)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)

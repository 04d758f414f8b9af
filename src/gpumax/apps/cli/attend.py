"""What `gpumax run --follow` does: stay with a workload until it ends."""

from __future__ import annotations

import json
import sys
from threading import Thread

from gpumax.apps.cli.client import Api, segment
from gpumax.apps.cli.output import clean, say
from gpumax.apps.cli.stream import follow
from gpumax.apps.cli.tail import follow_logs
from gpumax.errors import GpumaxError

_QUIET = ("Submitted", "Exited", "Started", "Succeeded", "Failed")
"""Events that the submit, the log or the end itself tells of."""


class Ended(GpumaxError):
    """The work itself failed."""

    exit_code = 1


def attend(api: Api, name: str) -> None:
    """Print the workload's logs and tell what happens to it, until it is finished; Ended where it failed.

    Ctrl-C lets go of it and says so; the workload goes on, be it that it waits.
    """
    path = f"/workloads/{segment(name)}"
    try:
        Thread(target=_tell, args=(api, name), daemon=True).start()
        follow_logs(api, name, api.get(path)["tasks"])
        end = api.get(path)
    except KeyboardInterrupt:
        sys.stdout.flush()
        say(f"\n{name} goes on; `gpumax logs -f {name}` follows it again, `gpumax stop {name}` ends it")
        raise
    state = end.get("state")
    if state != "succeeded":
        codes = sorted({task["exit_code"] for task in end.get("tasks") or () if task.get("exit_code")})
        told = end.get("reason") or (
            f"exit code {', '.join(map(str, codes))}" if codes else "no reason is known"
        )
        raise Ended(f"{name} {state}: {told}")


def _tell(api: Api, name: str) -> None:
    """What happens to the workload, as prose, from now on."""
    try:
        after = api.get("/events", {"workload": name, "limit": 1, "newest": 1}).get("next") or 0
        for message in follow(api, "/watch", {"after": after}):
            event = json.loads(message.data)
            kind = event.get("kind")
            if event.get("workload") == name and kind not in _QUIET:
                waits = "waits: " if kind == "Held" else ""
                say(clean(f"{name}: {waits}{event.get('message') or kind}"))
    except GpumaxError:
        # The log's own stream tells of a server that is gone.
        return

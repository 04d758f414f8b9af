"""A real browser without a window: opens a page, and says what a person would see and what the page tried to do.

Spoken to through pipes, so that it needs no port, no driver and no other package.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--mute-audio",
    "--remote-debugging-pipe",
)  # fmt: skip
_CHUNK: Final = 1 << 16
_PATIENCE_S: Final = 120
"""A browser that hangs is not waited for without end."""


def browser() -> str | None:
    """The program; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def pages() -> Iterator[Browser]:
    """A browser, for as long as it is needed."""
    program = browser()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="gpumax-browser-", ignore_cleanup_errors=True) as home:
        told, ours = os.pipe()
        heard, theirs = os.pipe()
        # The browser reads from 3 and writes to 4; high numbers first, so that neither is overwritten.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (told, theirs)]
        line = f'exec "$@" 3<&{high[0]} 4>&{high[1]}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", line, "bash", program, *_FLAGS, f"--user-data-dir={home}", "about:blank"],
            pass_fds=high, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
        )  # fmt: skip
        for fd in (told, theirs, *high):
            os.close(fd)
        found = Browser(ours, heard)
        try:
            yield found
            found.call("Browser.close")
        finally:
            os.close(ours)
            os.close(heard)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Browser:
    """Commands go in, answers and events come out."""

    def __init__(self, told: int, heard: int) -> None:
        self._told = told
        self._heard = heard
        self._number = 0
        self._left = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """What a command answers. Events that come before are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._told, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, f"{method}: {said['error']}"
                answer: dict[str, Any] = said["result"]
                return answer
            self.events.append(said)

    def until(self, method: str, session: str) -> None:
        """Until an event has come."""
        while not any(
            event.get("method") == method and event.get("sessionId") == session for event in self.events
        ):
            self.events.append(self._next())

    def open(
        self, path: Path, width: int, *, scheme: Literal["light", "dark"] = "light", height: int = 800
    ) -> Page:
        """A page of a file, as a screen of that width shows it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for name in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{name}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call("Page.navigate", url=path.as_uri())
        self.until("Page.loadEventFired", session)
        return page

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._heard], [], [], _PATIENCE_S)
            assert ready, f"the browser said nothing for {_PATIENCE_S} seconds"
            chunk = os.read(self._heard, _CHUNK)
            assert chunk, "the browser ended"
            self._left += chunk
        text, _, self._left = self._left.partition(b"\0")
        said: dict[str, Any] = json.loads(text)
        return said


class Page:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to this page."""
        return self._browser.call(method, self._session, **params)

    def look(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def complaints(self) -> list[str]:
        """Errors and warnings that the page caused so far."""
        found = []
        for event in self._events():
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            if event["method"] == "Runtime.consoleAPICalled":
                found.append(str(params["args"]))
            if event["method"] == "Log.entryAdded":
                found.append(str(params["entry"]["text"]))
        return found

    def requests(self) -> list[str]:
        """What the page has asked for so far, itself among it."""
        return [
            str(event["params"]["request"]["url"])
            for event in self._events()
            if event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self) -> bytes:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        area = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=area)["data"]
        )

    def paper(self) -> bytes:
        """The page as it is printed, as PDF."""
        return base64.b64decode(
            self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        )

    def close(self) -> None:
        """Let it go."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]

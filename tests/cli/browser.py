"""A headless Chromium, spoken to through its debugging pipe: it measures and photographs a page."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
PLAYWRIGHT = Path("~/.cache/ms-playwright").expanduser()
PATIENCE_S = 120
TABLET_PX = 600  # narrower ones are phones, which widen and shrink a page that does not say it fits
# Chromium listens at file descriptor 3 and answers at 4.
LAUNCHER = "import os, sys; r, w, *c = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(c[0], c)"
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
)


def find_browser() -> str | None:
    """Return a Chromium of this machine, or None."""
    named = next((found for name in NAMES if (found := shutil.which(name))), None)
    downloaded = (str(f) for f in sorted(PLAYWRIGHT.glob("chromium*/*/*")) if f.name in NAMES and os.access(f, os.X_OK))
    return named or next(downloaded, None)


class Browser:
    """One tab."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._unread = b""
        self._count = 0
        self._session: str | None = None
        self._is_loaded = False
        self.requests: list[str] = []
        """URLs that were asked for since the page was opened, data: URIs left out."""
        self.complaints: list[str] = []
        """What was written to the console."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return Chromium's answer to a command of its protocol."""
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        command = {"id": self._count, "method": method, "params": parameters, **session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == self._count:
                assert "error" not in reply, reply["error"]
                result: dict[str, Any] = reply["result"]
                return result

    def open(self, file: Path, *, width: int = 1100, height: int = 900, scheme: str = "light") -> None:
        """Show a file in a window of some size, as one whose system is light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < TABLET_PX}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.requests, self.complaints = [], []
        self._is_loaded = False
        self.ask("Page.navigate", url=file.as_uri())
        while not self._is_loaded:
            self._read()

    def value_of(self, script: str) -> object:
        """Return what JavaScript evaluates to; a debugger is not bound by the page's policy."""
        reply = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def screenshot(self, *, whole: bool = False) -> bytes:
        """Return the window, or the whole page, as a PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def _read(self) -> Mapping[str, Any]:
        while b"\0" not in self._unread:
            read = os.read(self._answers, 1 << 20)
            assert read, "Chromium has ended"
            self._unread += read
        reply, self._unread = self._unread.split(b"\0", 1)
        message: Mapping[str, Any] = json.loads(reply)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, reply: Mapping[str, Any]) -> None:
        if event == "Network.requestWillBeSent" and not reply["request"]["url"].startswith("data:"):
            self.requests.append(reply["request"]["url"])
        elif event == "Log.entryAdded":
            self.complaints.append(reply["entry"]["text"])
        elif event == "Page.loadEventFired":
            self._is_loaded = True


@contextmanager
def browsing(program: str, profile: Path) -> Iterator[Browser]:
    """Yield a browser that ends with the block, or by itself when it hangs."""
    to_hear, commands = os.pipe()
    answers, to_tell = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_hear, to_tell)]  # never 3 or 4 themselves
    # Root has no sandbox to give; CI is root in its own machine.
    flags = [*FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    command = [sys.executable, "-c", LAUNCHER, *map(str, high), program, *flags]
    process = subprocess.Popen(command, pass_fds=high, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for end in (to_hear, to_tell, *high):
        os.close(end)
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        yield Browser(commands, answers)
    finally:
        timer.cancel()
        os.close(commands)  # its end
        process.terminate()
        process.wait()
        os.close(answers)

"""A headless Chromium that tests steer by its debugging pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .waiting import until

FLAGS = (
    "headless no-sandbox disable-gpu hide-scrollbars no-first-run disable-sync disable-quic "
    "disable-background-networking disable-component-update remote-debugging-pipe"
)


def find() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Chromium:
    """One page. Use it as a context manager; what waits gives up after two minutes."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 1000) -> None:
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()

        def arrange() -> None:  # the pipe is file descriptors 3 and 4 by definition
            os.dup2(to_child, 30)
            os.dup2(from_child, 31)
            os.dup2(30, 3)
            os.dup2(31, 4)

        flags = [f"--{flag}" for flag in FLAGS.split()]
        flags += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            [str(find()), *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=arrange,
        )
        os.close(to_child)
        os.close(from_child)
        self._ids, self._rest, self._session = itertools.count(1), b"", ""
        self.errors: list[str] = []
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)[
            "sessionId"
        ]
        self._call("Runtime.enable")
        self._call("Page.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                chunk = os.read(self._read, 1 << 16)
                assert chunk, "Chromium has gone"
                self._rest += chunk
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"]))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def goto(self, url: str) -> None:
        """Load a page."""
        self._call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def ask(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, wanted: Callable[[Any], bool] = bool) -> Any:
        """The value of an expression once it is as ``wanted``."""
        value: Any = None

        def holds() -> bool:
            nonlocal value
            value = self.ask(script)
            return wanted(value)

        until(holds, lambda: f"{script} stays {value!r}; errors: {self.errors}")
        return value

    def key(self, name: str) -> None:
        """Press a key, such as ``ArrowLeft``."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def emulate(self, width: int, height: int, dark: bool = False) -> None:
        """Be of another size, and of a person who likes it dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """What is seen, as a PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

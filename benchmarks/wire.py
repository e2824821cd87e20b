"""A client as thin as can be: what is timed is the server, not the client's types."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any


class Wire:
    """JSON-RPC over the pipes of a server process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._next = 0

    def notify(self, method: str, params: Any) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method: str, params: Any) -> tuple[float, Any]:
        """Seconds from the first byte sent to the last byte of the answer, and the answer."""
        self._next += 1
        message = {"jsonrpc": "2.0", "id": self._next, "method": method, "params": params}
        start = time.perf_counter()
        self._send(message)
        while True:
            body = self._receive()
            seconds = time.perf_counter() - start
            answer = json.loads(body)
            if answer.get("id") == self._next and "method" not in answer:
                return seconds, answer.get("result")
            if "id" in answer:  # a request of the server's: refreshes, progress, configuration
                configuration = answer["method"] == "workspace/configuration"
                result = [None] if configuration else None
                self._send({"jsonrpc": "2.0", "id": answer["id"], "result": result})

    def _send(self, message: Any) -> None:
        body = json.dumps(message).encode()
        self._in.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._in.flush()

    def _receive(self) -> bytes:
        length = 0
        while line := self._out.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            raise SystemExit("the server ended")
        return self._out.read(length)

    def end(self) -> None:
        self.request("shutdown", None)
        self.notify("exit", None)
        self._process.wait(10)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]

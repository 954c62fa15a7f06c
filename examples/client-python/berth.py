"""A client of berth in one file and without dependencies: copy it and make it yours.

Events come as server-sent events, which plain HTTP carries; messages go by POST. For the live terminal take a WebSocket
library and `/ws/console/{session}`, as docs/api.md shows.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener


class BerthError(Exception):
    """What the server refused. `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Berth:
    def __init__(self, url: str = "http://localhost:3030") -> None:
        self._url = url.rstrip("/")
        self._opener = build_opener(ProxyHandler({}))

    def create(self, repo_path: str, prompt: str, **fields: Any) -> dict[str, Any]:
        """Makes a session; further fields are those of the API: agent, backend, name, base_branch, …"""
        return self._call("POST", "/api/sessions", {"repo_path": repo_path, "prompt": prompt, **fields})

    def session(self, session: str) -> dict[str, Any]:
        return self._call("GET", f"/api/sessions/{quote(session, safe='')}")

    def send(self, session: str, content: str) -> dict[str, Any]:
        """Says something to the agent; a shell runs it as a line."""
        return self._call("POST", f"/api/sessions/{quote(session, safe='')}/messages", {"content": content})

    def logs(self, session: str) -> str:
        """The terminal's history and screen as plain text."""
        with self._open(Request(f"{self._url}/api/sessions/{quote(session, safe='')}/logs")) as answer:
            return answer.read().decode()

    def delete(self, session: str, force: bool = False) -> dict[str, Any]:
        return self._call("DELETE", f"/api/sessions/{quote(session, safe='')}?force={str(force).lower()}")

    def events(self, session: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """The session's events from `after` on, live, without gap or repeat; ends when the session is deleted.

        A lost connection is made again and resumes after the last event that was seen.
        """
        wait = 0.25
        while True:
            request = Request(
                f"{self._url}/api/sessions/{quote(session, safe='')}/events/stream",
                headers={"Last-Event-ID": str(after)},
            )
            try:
                with self._open(request) as lines:
                    for line in lines:
                        if not line.startswith(b"data:"):
                            continue
                        wait = 0.25
                        event = json.loads(line[5:])
                        if "at" not in event:
                            continue  # `subscribed`
                        after = event["seq"]
                        yield event
                        if event["type"] == "session_deleted":
                            return
            except BerthError as refused:
                if refused.status != 503:  # The server is starting or stopping: again below.
                    raise
            except (OSError, http.client.HTTPException):
                pass  # Lost: again below.
            time.sleep(wait)
            wait = min(wait * 2, 10)

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        with self._open(Request(self._url + path, data=data, headers=headers, method=method)) as answer:
            return json.load(answer)

    def _open(self, request: Request) -> Any:
        try:
            return self._opener.open(request)
        except HTTPError as refused:
            with refused:
                try:
                    error = json.load(refused)["error"]
                except (ValueError, KeyError):
                    error = {"code": "INTERNAL", "message": f"the server answered {refused.code}"}
            raise BerthError(error["code"], error["message"], refused.code) from None

#!/usr/bin/env python3
"""Runs one command in a session of its own and shows what came of it:

    ./main.py REPOSITORY ['COMMAND' [URL]]
"""

import os
import sys

from berth import Berth


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    repository = os.path.abspath(sys.argv[1])
    command = sys.argv[2] if len(sys.argv) > 2 else "git log --oneline -5"
    berth = Berth(sys.argv[3] if len(sys.argv) > 3 else os.environ.get("BERTH_URL", "http://localhost:3030"))

    session = berth.create(repository, "", agent="shell")
    print(f"created {session['name']}", file=sys.stderr)
    told = False
    for event in berth.events(session["id"]):
        if event["type"] != "session_status":
            continue
        print(f"{event['seq']}: {event['status']}", file=sys.stderr)
        if event["status"] == "running" and not told:
            berth.send(session["id"], f"{command}; exit")
            told = True
        elif event["status"] in ("stopped", "error"):
            break

    print(berth.logs(session["id"]))
    ended = berth.session(session["id"])
    print(ended["status_message"] or ended["status"], file=sys.stderr)
    berth.delete(session["id"], force=True)
    return 0 if ended["status"] == "stopped" else 1


if __name__ == "__main__":
    sys.exit(main())

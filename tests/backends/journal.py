"""What the Python backends share: one line of JSON for each request that was read whole."""

import hashlib
import json
import os

JOURNAL = os.environ["JOURNAL"]


def write(method, target, fields, body):
    """Appends what was read; `fields` maps names in lower case to values."""
    line = {
        "method": method,
        "target": target,
        "client": fields.get("x-real-ip", ""),
        "length": len(body),
        "digest": hashlib.sha256(body).hexdigest(),
        "framing": [fields.get("content-length", ""), fields.get("transfer-encoding", "")],
    }
    # One write, so that lines of several threads stay whole.
    with open(JOURNAL, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def is_admin(path):
    """Whether an application that compares decoded paths would serve what is protected."""
    return "yes" if path == "/admin" or path.startswith("/admin/") else "no"

"""Stands in for `gobblerd serve` where only the demonstration is tested: answers without doing much.

Takes the options of `serve`; with FAKE_DIES set it ends at once, with FAKE_MUTE it never answers a
request, with FAKE_REFUSES every upload is refused.
"""

import http.server
import json
import os
import sys
import threading
import time

OPTIONS = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv[1:])
STAGING, REGISTRY = OPTIONS["staging"], OPTIONS["registry"]
VERSION = os.path.join(REGISTRY, "weather", "berlin", "2026-11")


class Handler(http.server.BaseHTTPRequestHandler):
    """Says that it serves."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def answer(name: str) -> None:
    response = {"status": "SUCCESS", "request": name, "code": 200}
    if name.startswith("request-upload-"):
        if os.path.isdir(VERSION) or os.environ.get("FAKE_REFUSES"):
            response |= {"status": "ERROR", "code": 400, "reason": "it exists"}
        else:
            os.makedirs(VERSION)
            for file, text in (("..manifest", '{"a": {"size": 1}}'), ("a", "x")):
                with open(os.path.join(VERSION, file), "w", encoding="utf-8") as out:
                    out.write(text)
            os.symlink("a", os.path.join(VERSION, "l"))
    os.makedirs(os.path.join(STAGING, "responses"), exist_ok=True)
    path = os.path.join(STAGING, "responses", name)
    with open(f"{path}.new", "w", encoding="utf-8") as out:
        json.dump(response, out)
    os.rename(f"{path}.new", path)


def main() -> None:
    if os.environ.get("FAKE_DIES"):
        sys.exit("address already in use")
    server = http.server.HTTPServer((OPTIONS["host"], int(OPTIONS["port"])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen: set[str] = set()
    while True:
        for name in set(os.listdir(STAGING)) - seen:
            if name.startswith("request-") and not os.environ.get("FAKE_MUTE"):
                seen.add(name)
                answer(name)
        time.sleep(0.01)


if __name__ == "__main__":
    main()

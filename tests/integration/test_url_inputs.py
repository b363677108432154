# SPDX-License-Identifier: Apache-2.0
"""A job whose input lies on a web server: its buyer uploads the rest, the worker fetches it and runs."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .gateway_market import open_door
from .marketplace import wait_until

DATA = bytes(range(256)) * 1000
NAME = hashlib.sha256(DATA).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("allowed", [True, False])
def test_the_worker_fetches_what_the_job_names_unless_it_is_private(
    tmp_path: Path, anvil_binary: Path, allowed: bool
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "today.bin").write_bytes(DATA)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/today.bin"
    entry = {"path": "data.bin", "url": url, "sha256": NAME, "size": len(DATA)}
    job = {"inputs": [{"path": "copy.py"}, entry], "outputs": ["data.bin.copy"]}
    settings = f"fetch_from_private_addresses = {str(allowed).lower()}"
    try:
        with open_door(tmp_path, anvil_binary, job=job, settings=settings) as door, door.client() as client:
            # What the buyer's own `upload` does: send what is missing until nothing is.
            while missing := client.status()["missing"]:
                for name in missing:
                    client.upload(name, door.files[name])
            if allowed:
                wait_until(lambda: client.status()["result"] is not None)
                client.download(NAME, len(DATA), tmp_path / "out")
                assert (tmp_path / "out").read_bytes() == DATA
            else:
                wait_until(lambda: client.status()["fetching"][0]["problem"])
                (shown,) = client.status()["fetching"]
                assert (shown["sha256"], shown["url"]) == (NAME, url)
                assert "not https" in shown["problem"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

# SPDX-License-Identifier: Apache-2.0
"""Images made here from files of this machine, and a registry on loopback that serves them.

The registry is a peer, not a part of ours: a small server of the OCI distribution specification, read-only, that can be
told to misbehave. One test puts Debian's own registry in its place.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
APPLETS = ("sh", "ls", "cat", "sleep", "id", "mount", "dd", "echo", "ps", "true", "wc", "env", "ln", "mknod", "mkdir")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """An archive of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def members(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [
            (entry, (opened.extractfile(entry) or io.BytesIO()).read() if entry.isfile() else b"") for entry in opened
        ]


def file(path: str, content: bytes, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(path)
    entry.mode = mode
    return entry, content


def folder(path: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry, b""


def link(path: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry, b""


def program_files(program: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A program and the libraries that it needs, where they are on this machine."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, check=False).stdout.decode()
    paths = [program, *(Path(path) for path in re.findall(r"(/\S+) \(0x", listed))]
    return [file(str(path).lstrip("/"), path.read_bytes()) for path in dict.fromkeys(paths)]


def busybox_layer() -> bytes | None:
    """A small root file system of this machine's busybox; None if it has none."""
    busybox = shutil.which("busybox")
    if busybox is None:
        return None
    (_, content), *libraries = program_files(Path(busybox).resolve())
    entries = [folder(name) for name in ("bin", "etc", "proc", "sys", "dev")] + [folder("tmp", 0o1777)]
    entries += [file("bin/busybox", content), *libraries]
    return layer(entries + [link(f"bin/{name}", "busybox") for name in APPLETS])


def python_layer() -> bytes:
    """A root file system with this machine's Python, where it is on this machine, without packages."""
    base, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = base / "lib" / version
    entries = [folder("tmp", 0o1777), *program_files((base / "bin" / version).resolve())]
    taken = {"collections", "ctypes", "urllib", "encodings", "importlib", "json", "re", "lib-dynload"}
    for path in sorted([*library.glob("*.py"), *(found for name in taken for found in (library / name).glob("*.*"))]):
        entries.append(file(str(path).lstrip("/"), path.read_bytes()))
        if path.suffix == ".so":
            entries += program_files(path)[1:]
    named = {entry.name: (entry, content) for entry, content in entries}
    wanted = str(base / "bin" / version)
    named["usr/bin/python"] = link("usr/bin/python", wanted)
    if wanted.lstrip("/") not in named:
        named[wanted.lstrip("/")] = link(wanted.lstrip("/"), str((base / "bin" / version).resolve()))
    return layer(named.values())


@dataclass
class Shelf:
    """What a registry has: digest -> content and media type. `lies` are sent in the place of a digest's content."""

    contents: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    lies: dict[str, bytes] = field(default_factory=dict)

    def put(self, content: bytes, kind: str) -> dict[str, Any]:
        """Keeps it; its descriptor."""
        digest = sha256(content)
        self.contents[digest] = content, kind
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def image(
        self,
        *layers: bytes,
        settings: Mapping[str, Any] | None = None,
        architecture: str = ARCHITECTURE,
        packed: Iterable[bytes] | None = None,
        **stated: Any,
    ) -> str:
        """Keeps an image; its digest (hex). `packed` replaces the gzip of the layers, `stated` fields of the first
        layer's descriptor."""
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": dict(settings or {}),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(content)}" for content in layers]},
        }
        sent = [gzip.compress(content, 1, mtime=0) for content in layers] if packed is None else packed
        descriptors = [self.put(content, LAYER) for content in sent]
        descriptors[0] |= stated
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put(json.dumps(config).encode(), CONFIG),
            "layers": descriptors,
        }
        return self._digest(self.put(json.dumps(manifest).encode(), MANIFEST))

    def index(self, images: Mapping[str, str]) -> str:
        """Keeps an index of images for several architectures; its digest (hex)."""
        entries = [
            {
                "mediaType": MANIFEST,
                "digest": f"sha256:{digest}",
                "size": len(self.contents[digest][0]),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, digest in images.items()
        ]
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        return self._digest(self.put(json.dumps(document).encode(), INDEX))

    @staticmethod
    def _digest(descriptor: dict[str, Any]) -> str:
        return str(descriptor["digest"]).removeprefix("sha256:")


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A worker that has seen enough hangs up, and that is no error."""


class RegistryServer:
    """Serves a shelf as any repository. `token` is what it gives to all that ask, and then wants to see.

    asked: the paths of all requests, in order. failures: how many requests for blobs are answered with status 503.
    down: whether every request is answered so. python: the digest of the image with Python, once there is one.
    """

    def __init__(self, shelf: Shelf, token: str | None = None) -> None:
        self.shelf = shelf
        self.token = token
        self.asked: list[str] = []
        self.failures = 0
        self.down = False
        self.python: str | None = None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                status, kind, content, extra = registry._answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def name(self, digest: str, repository: str = "me/image") -> str:
        """The name of an image that is served here."""
        return f"{self.host}/{repository}@sha256:{digest}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, path: str, authorization: str | None) -> tuple[int, str, bytes, dict[str, str]]:
        if self.down:
            return 503, "text/plain", b"", {}
        if path.startswith("/token"):
            return 200, "application/json", json.dumps({"token": self.token}).encode(), {}
        if self.token is not None and authorization != f"Bearer {self.token}":
            challenge = f'Bearer realm="http://{self.host}/token",service="test"'
            return 401, "text/plain", b"", {"WWW-Authenticate": challenge}
        found = re.fullmatch(r"/v2/[a-z0-9/]+/(manifests|blobs)/sha256:([0-9a-f]{64})", path)
        if found is None or found[2] not in self.shelf.contents:
            return 404, "text/plain", b"", {}
        if found[1] == "blobs" and self.failures > 0:
            self.failures -= 1
            return 503, "text/plain", b"", {}
        content, kind = self.shelf.contents[found[2]]
        return 200, kind, self.shelf.lies.get(found[2], content), {}

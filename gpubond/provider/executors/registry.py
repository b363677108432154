# SPDX-License-Identifier: Apache-2.0
"""Fetches a container image from a registry, without unpacking it: judged by its manifest, verified as it streams.

The worker speaks to the registry itself (OCI distribution specification), because an engine would connect to any
address that a stranger names, and unpacks what it gets before anybody can say how much that is. Here every address is
judged (`GuardedHttp`), every byte is hashed, and every layer is unpacked once into nothing, to count.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from gpubond.errors import Refused, Unreachable
from gpubond.jobs.container_section import ImageName, parse_image
from gpubond.jobs.guarded_http import GuardedHttp
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.layer_names import NameCounter

_MIB = 1 << 20
MAX_DOCUMENT_BYTES = 4 * _MIB
MAX_LAYERS = 128
# Tries of one blob; a broken connection is no broken image.
TRIES = 3
PROGRESS_SECONDS = 5.0

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_PLAIN = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_GZIP = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')


class ImageProblem(Exception):
    """The image cannot be had; `reason` says whose fault that is."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _invalid(detail: str) -> ImageProblem:
    return ImageProblem(Reason.IMAGE_INVALID, detail)


@dataclass(frozen=True)
class Blob:
    """A part of an image: SHA-256 (hex), bytes as they are sent, and whether that is gzip."""

    digest: str
    size: int
    gzip: bool = False


@dataclass(frozen=True)
class FetchedImage:
    """An image in a folder in the form that containers/image calls `dir`.

    config: SHA-256 (hex) of its configuration, which engines call the image's id.
    unpacked: bytes of all layers, unpacked. names: files and folders that they make, at most.
    """

    directory: Path
    config: str
    layers: Sequence[str]
    unpacked: int
    names: int
    settings: dict[str, Any]


class Counted(NamedTuple):
    """What a layer unpacks to."""

    bytes: int
    names: int


class Allowance:
    """The time that an image may take, from the first request to the last file: a registry that gives it byte by byte
    must not cost the worker its deadline."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begin = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._begin + self.seconds - time.monotonic())

    def require(self) -> None:
        """Raise ImageProblem if nothing is left."""
        if not self.left:
            raise _invalid(f"it was not here within {self.seconds:.0f} s: its registry is too slow, or it is too large")

    def unreachable(self, detail: str) -> ImageProblem:
        """What to say of a registry that does not answer: at first that is nobody's fault; one that has used a quarter
        of the time up by it is too slow, since the worker tries again from the beginning."""
        if self.left < 0.75 * self.seconds:
            return _invalid(f"its registry is too slow: {detail}")
        return ImageProblem(Reason.IMAGE_UNREACHABLE, detail)


class Registry:
    """Fetches images. Thread-safe.

    Args:
        private: registries (host[:port]) of the owner's, reached on private addresses and by plain http.
        max_bytes: of one image, unpacked.
    """

    def __init__(self, private: Sequence[str], max_bytes: int) -> None:
        self._private = frozenset(private)
        self._max_bytes = max_bytes
        self._public_http = GuardedHttp()
        self._private_http = GuardedHttp(allow_private=True)

    def close(self) -> None:
        """Closes what is open."""
        self._public_http.close()
        self._private_http.close()

    def fetch(
        self,
        image: str,
        directory: Path,
        say: Callable[[str], None],
        cancel: threading.Event,
        allowance: Allowance,
    ) -> FetchedImage:
        """Fetches `image` into the new folder `directory`; `say` hears of the progress, a line at a time.

        Raises: ImageProblem; InterruptedError if `cancel` was set.
        """
        name = parse_image(image)
        pull = _Pull(self._http_for(name.registry), name, name.registry in self._private, say, cancel, allowance)
        manifest = pull.manifest(name.digest, f"{name.registry}/{name.repository}@sha256:{name.digest[:12]}…")
        document = _read(manifest)
        if document.get("mediaType") in _INDEXES or "manifests" in document:
            manifest = pull.manifest(_for_this_machine(document), "the image for this machine")
            document = _read(manifest)
        config, layers = _parts(document)
        sent = sum(layer.size for layer in layers)
        if sent > self._max_bytes:
            raise _invalid(
                f"its layers have {sent:,} bytes by the manifest; this worker takes {self._max_bytes:,} unpacked"
            )
        directory.mkdir(mode=0o700)
        (directory / "version").write_text("Directory Transport Version: 1.1\n")
        (directory / "manifest.json").write_bytes(manifest)
        pull.blob(config, directory / config.digest, None)
        settings = _check_config((directory / config.digest).read_bytes(), len(layers))
        say(f"fetching {len(layers)} layers, {sent:,} bytes")
        unpacked = names = 0
        for number, layer in enumerate(layers, 1):
            counted = pull.blob(layer, directory / layer.digest, self._max_bytes - unpacked)
            unpacked, names = unpacked + counted.bytes, names + counted.names
            say(f"layer {number} of {len(layers)} is here: {layer.size:,} bytes")
        return FetchedImage(directory, config.digest, [layer.digest for layer in layers], unpacked, names, settings)

    def _http_for(self, registry: str) -> GuardedHttp:
        return self._private_http if registry in self._private else self._public_http


class _Pull:
    """One image's requests, with the token that its registry gives to anybody."""

    def __init__(
        self,
        http: GuardedHttp,
        name: ImageName,
        private: bool,
        say: Callable[[str], None],
        cancel: threading.Event,
        allowance: Allowance,
    ) -> None:
        host = "registry-1.docker.io" if name.registry == "docker.io" else name.registry
        self._base = f"{'http' if private else 'https'}://{host}/v2/{name.repository}"
        self._repository = name.repository
        self._http = http
        self._say = say
        self._cancel = cancel
        self._allowance = allowance
        self._token: str | None = None

    def manifest(self, digest: str, what: str) -> bytes:
        """A manifest or index, verified."""
        data = b""
        url = f"{self._base}/manifests/sha256:{digest}"
        for piece in self._pieces(url, MAX_DOCUMENT_BYTES, ", ".join((*_MANIFESTS, *_INDEXES)), what):
            data += piece
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise _invalid(f"the registry sent another image than the one named: sha256:{found}")
        return data

    def blob(self, blob: Blob, target: Path, most: int | None) -> Counted:
        """Writes a blob to `target`; returns what it unpacks to, which must not be more than `most` bytes."""
        for attempt in range(1, TRIES + 1):
            try:
                return self._blob(blob, target, most)
            except ImageProblem as problem:
                if problem.reason is not Reason.IMAGE_UNREACHABLE or attempt == TRIES:
                    raise
                self._say(f"{problem}; trying again")
                self._cancel.wait(attempt)
        raise AssertionError("unreachable")

    def _blob(self, blob: Blob, target: Path, most: int | None) -> Counted:
        digest, count, told = hashlib.sha256(), 0, time.monotonic()
        counter = _Counter(blob.gzip, most)
        with target.open("wb") as stream:
            for piece in self._pieces(f"{self._base}/blobs/sha256:{blob.digest}", blob.size, None, "a layer"):
                digest.update(piece)
                counter.add(piece)
                stream.write(piece)
                count += len(piece)
                if time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    self._say(f"{count:,} of {blob.size:,} bytes of a layer are here")
        if digest.hexdigest() != blob.digest:
            raise _invalid(f"a layer is not what its digest says: sha256:{blob.digest} is sha256:{digest.hexdigest()}")
        return counter.end()

    def _pieces(self, url: str, most: int, accept: str | None, what: str) -> Iterator[bytes]:
        """The bytes at `url`, at most `most`; asks for a token if it needs one."""
        try:
            for _ in range(2):
                headers = {"Accept": accept} if accept else {}
                if self._token is not None:
                    headers["Authorization"] = f"Bearer {self._token}"
                with self._http.answer(url, headers) as (status, named, pieces):
                    if status == 401 and self._token is None:
                        challenge = named.get("www-authenticate", "")
                    elif status != 200:
                        raise self._bad_status(status, what)
                    else:
                        yield from self._bounded(pieces, most, what)
                        return
                self._token = self._ask_for_token(challenge)
            raise self._bad_status(401, what)
        except Refused as error:
            raise _invalid(f"its registry is none to use: {error.message}") from None
        except Unreachable as error:
            raise self._allowance.unreachable(f"{what}: {error.message}") from None

    def _bounded(self, pieces: Iterator[bytes], most: int, what: str) -> Iterator[bytes]:
        count = 0
        for piece in pieces:
            if self._cancel.is_set():
                raise InterruptedError
            count += len(piece)
            if count > most:
                raise _invalid(f"{what} is larger than the {most:,} bytes that it should have")
            self._allowance.require()
            yield piece

    def _bad_status(self, status: int, what: str) -> ImageProblem:
        if status in (401, 403, 404):
            return _invalid(f"{what}: the registry has none that anybody may fetch (HTTP status {status})")
        return self._allowance.unreachable(f"{what}: the registry answers with HTTP status {status}")

    def _ask_for_token(self, challenge: str) -> str:
        asked = dict(_CHALLENGE.findall(challenge))
        if not challenge.startswith("Bearer ") or not urlsplit(asked.get("realm", "")).netloc:
            raise _invalid("its registry wants to know who asks; only images that anybody may fetch are run")
        query = {"scope": f"repository:{self._repository}:pull"}
        if "service" in asked:
            query["service"] = asked["service"]
        url = f"{asked['realm']}?{urlencode(query, quote_via=quote)}"
        data = b""
        with self._http.answer(url, {}) as (status, _, pieces):
            if status != 200:
                raise self._bad_status(status, "the registry's token")
            for piece in self._bounded(pieces, MAX_DOCUMENT_BYTES, "a token"):
                data += piece
        answer = _read(data)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise _invalid("its registry gives no token to anybody")
        return token


class _Counter:
    """Unpacks a layer into nothing and counts: a few bytes of gzip can hold any number of others."""

    def __init__(self, gzip: bool, most: int | None) -> None:
        self._gzip = gzip
        self._most = most
        self._count = 0
        self._names = NameCounter()
        self._inner = zlib.decompressobj(wbits=31)

    def add(self, piece: bytes) -> None:
        if not self._gzip:
            self._take(piece)
            return
        try:
            while piece:
                self._take(self._inner.decompress(piece, _MIB))
                piece = self._inner.unconsumed_tail
                if self._inner.eof:  # gzip files may follow each other
                    piece, self._inner = self._inner.unused_data, zlib.decompressobj(wbits=31)
        except zlib.error as error:
            raise _invalid(f"a layer is no gzip, as it should be: {error}") from None

    def end(self) -> Counted:
        return Counted(self._count, self._names.names)

    def _take(self, unpacked: bytes) -> None:
        self._count += len(unpacked)
        if self._most is not None and self._count > self._most:
            raise _invalid(f"its layers unpack to more than this worker takes: {self._most:,} bytes were left for one")
        self._names.add(unpacked)


def _read(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _invalid("the registry sent something that is no JSON object")
    return document


def _descriptor(raw: Any, allowed: Sequence[str], what: str) -> tuple[Blob, str]:
    found = raw if isinstance(raw, dict) else {}
    digest, size, kind = found.get("digest"), found.get("size"), found.get("mediaType")
    matched = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if matched is None or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _invalid(f"{what} in its manifest has no SHA-256 and size")
    if kind not in allowed:
        raise _invalid(f"{what} is of the kind {str(kind)[:100]!r}; taken are {', '.join(allowed)}")
    return Blob(matched[1], size, kind in _GZIP), str(kind)


def _parts(document: dict[str, Any]) -> tuple[Blob, list[Blob]]:
    """Configuration and layers of a manifest."""
    config, _ = _descriptor(document.get("config"), _CONFIGS, "the configuration")
    if config.size > MAX_DOCUMENT_BYTES:
        raise _invalid("its configuration is too large")
    layers = document.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        raise _invalid(f"it must have 1 to {MAX_LAYERS} layers")
    return config, [_descriptor(layer, (*_PLAIN, *_GZIP), f"layer {at}")[0] for at, layer in enumerate(layers, 1)]


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _for_this_machine(index: dict[str, Any]) -> str:
    """The digest of the manifest for this machine in an index."""
    entries = index.get("manifests")
    for entry in entries if isinstance(entries, list) else []:
        where = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(where, dict) and (where.get("os"), where.get("architecture")) == ("linux", _architecture()):
            return _descriptor(entry, _MANIFESTS, "the image for this machine")[0].digest
    raise _invalid(f"it has none for this machine (linux/{_architecture()})")


def _check_config(data: bytes, layers: int) -> dict[str, Any]:
    """The part of an image's configuration that says how to run it."""
    document = _read(data)
    if (document.get("os"), document.get("architecture")) != ("linux", _architecture()):
        found = f"{document.get('os')}/{document.get('architecture')}"[:60]
        raise _invalid(f"it is for {found}, this machine is linux/{_architecture()}")
    files = document.get("rootfs")
    if not isinstance(files, dict) or len(files.get("diff_ids") or ()) != layers:
        raise _invalid("its configuration names another number of layers than its manifest")
    settings = document.get("config")
    return settings if isinstance(settings, dict) else {}

# SPDX-License-Identifier: Apache-2.0
"""The images that this worker keeps: fetched once, bounded together, the longest unused deleted first."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any, NamedTuple

from gpubond.jobs.container_section import parse_image
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.container_engine import Engine, EngineFailure
from gpubond.provider.executors.registry import Allowance, FetchedImage, ImageProblem, Registry

_logger = logging.getLogger(__name__)

# What must stay free on the disk while an image is unpacked: bytes, and names of files (a layer of empty files needs
# no bytes). Beyond it the unpacking is ended: by the image's fault if it may have filled the disk alone, else by the
# machine's.
FLOOR_BYTES = 512 << 20
FLOOR_FILES = 50_000
# What a file or folder may take beside its bytes.
_NAME_BYTES = 4096
_WATCH_SECONDS = 0.2
# Images are called so in the engine, with their digest.
_NAME = "localhost/gpubond/"


@dataclass
class Image:
    """An image that the engine has.

    id: by which the engine knows it. bytes: of its layers, unpacked. used: when a job last began with it (Unix
    seconds). settings: the image's own (Env, Cmd, Volumes, ...).
    """

    id: str
    bytes: int
    used: float
    settings: dict[str, Any] = field(default_factory=dict)


class _Room(NamedTuple):
    """What is free on the disk; `files` None where the file system counts none."""

    bytes: int
    files: int | None

    @property
    def short(self) -> bool:
        return self.bytes < FLOOR_BYTES or (self.files is not None and self.files < FLOOR_FILES)

    def less(self, bytes_: int, files: int) -> _Room:
        return _Room(self.bytes - bytes_, None if self.files is None else self.files - files)


class Images:
    """Images by digest. Thread-safe; one process at a time.

    Args:
        folder: where the list of them lies, and what is being fetched.
        cache_bytes: of all images together. One that is in use is never deleted, so they can be more for a while.
        seconds: that an image may take until it is here and unpacked.
    """

    def __init__(self, folder: Path, registry: Registry, cache_bytes: int, seconds: float) -> None:
        self._folder = folder
        self._registry = registry
        self._cache_bytes = cache_bytes
        self._seconds = seconds
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._in_use: dict[str, int] = {}

    @contextmanager
    def use(self, engine: Engine, image: str, say: Callable[[str], None], cancel: threading.Event) -> Iterator[Image]:
        """The image, fetched if it is not here, and kept until the end of the `with`.

        Raises: ImageProblem; InterruptedError if `cancel` was set meanwhile; EngineFailure.
        """
        digest = parse_image(image).digest
        with self._lock:
            self._in_use[digest] = self._in_use.get(digest, 0) + 1
            fetching = self._fetching.setdefault(digest, threading.Lock())
        allowance = Allowance(self._seconds)
        try:
            with _held(fetching, allowance, cancel), _disk_faults():
                found = self._known(engine, digest)
                if found is None:
                    found = self._fetch(engine, image, digest, say, cancel, allowance)
                else:
                    say(f"the image is here already: {found.bytes:,} bytes")
                found.used = time.time()
                self._note(digest, found)
            yield found
        finally:
            with self._lock:
                self._in_use[digest] -= 1
                if not self._in_use[digest]:
                    del self._in_use[digest]

    def held(self) -> dict[str, Image]:
        """What is kept: digest (hex) -> image."""
        try:
            raw = json.loads((self._folder / "images.json").read_text())
            return {digest: Image(**entry) for digest, entry in raw.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            # The engine still has them; they are fetched again, and what is not on the list is not deleted.
            _logger.error("%s cannot be read and is begun anew", self._folder / "images.json")
            return {}

    def tidy(self, engine: Engine) -> None:
        """Deletes what a worker that died while it fetched left: files, and images on no list. Call it before the
        first job."""
        for left in self._folder.glob("fetch-*"):
            shutil.rmtree(left, ignore_errors=True)
        if engine.kind == "podman":  # whose images are all ours
            for name in engine.ask("image", "ls", "--quiet", "--no-trunc", "--filter", "dangling=true").stdout.split():
                engine.ask("image", "rm", name, check=False)
            listed = {_NAME + digest for digest in self.held()}
            for name in engine.ask("image", "ls", "--format", "{{.Repository}}").stdout.split():
                if name.startswith(_NAME) and name not in listed:
                    engine.ask("image", "rm", name, check=False)

    def _known(self, engine: Engine, digest: str) -> Image | None:
        image = self.held().get(digest)
        if image is None or engine.ask("image", "inspect", _NAME + digest, check=False).returncode != 0:
            return None
        return image

    def _fetch(
        self,
        engine: Engine,
        image: str,
        digest: str,
        say: Callable[[str], None],
        cancel: threading.Event,
        allowance: Allowance,
    ) -> Image:
        say(f"fetching the image {image}")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self._folder) as name:
            self._require_room(0)
            fetched = self._registry.fetch(image, Path(name, "image"), say, cancel, allowance)
            if engine.kind == "docker" and fetched.settings.get("Volumes"):
                raise ImageProblem(
                    Reason.IMAGE_INVALID, "it declares volumes, which docker makes without a limit: build it without"
                )
            self._make_room(engine, fetched.unpacked)
            before = self._require_room(fetched.unpacked)
            say(f"unpacking the image: {fetched.unpacked:,} bytes")
            self._load(engine, fetched, before, cancel, allowance)
        # An engine deletes images without a name along with others that share their layers.
        engine.ask("tag", fetched.config, _NAME + digest)
        return Image(fetched.config, fetched.unpacked, time.time(), fetched.settings)

    def _load(
        self, engine: Engine, fetched: FetchedImage, before: _Room, cancel: threading.Event, allowance: Allowance
    ) -> None:
        """Hands the image to the engine, and ends that if the disk fills. before: what was free then."""
        if engine.kind == "podman":
            command, archive = engine.command("pull", "--quiet", f"dir:{fetched.directory}"), None
        else:
            command, archive = engine.command("load"), _docker_archive(fetched)
        with tempfile.TemporaryFile(dir=self._folder) as said:
            process = Popen(
                command, stdin=PIPE if archive else None, stdout=said, stderr=said, env=engine.environment()
            )
            try:
                if archive is not None and process.stdin is not None:
                    with archive.open("rb") as stream, process.stdin as pipe:
                        shutil.copyfileobj(stream, pipe)
                self._watch(process, fetched, before, cancel, allowance)
            except BrokenPipeError:
                process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                    # What a killed podman had unpacked goes when it is asked for its images, and not before.
                    engine.ask("image", "ls", "--quiet", check=False)
            said.seek(0)
            words = said.read().decode(errors="replace")
        filled = _filled(fetched, before) if self._room().short else None
        if process.returncode == 0:
            if filled is not None and filled.reason is Reason.IMAGE_INVALID:
                engine.ask("image", "rm", fetched.config, check=False)
                raise filled
            return
        failure = str(EngineFailure(engine, "pull", words))
        _logger.warning("an image of %d layers cannot be unpacked: %s", len(fetched.layers), failure)
        raise filled or ImageProblem(
            Reason.IMAGE_INVALID, "it cannot be unpacked: its layers are no good archives of files"
        )

    def _watch(
        self,
        process: Popen[bytes],
        fetched: FetchedImage,
        before: _Room,
        cancel: threading.Event,
        allowance: Allowance,
    ) -> None:
        while True:
            try:
                process.wait(_WATCH_SECONDS)
            except TimeoutExpired:
                if cancel.is_set():
                    raise InterruptedError from None
                if self._room().short:
                    raise _filled(fetched, before) from None
                allowance.require()
            else:
                return

    def _room(self) -> _Room:
        info = os.statvfs(self._folder)
        return _Room(info.f_bavail * info.f_frsize, info.f_favail if info.f_files > 0 else None)

    def _require_room(self, wanted: int) -> _Room:
        room = self._room()
        if room.less(wanted, 0).short:
            raise ImageProblem(Reason.DISK_FULL, "this machine's disk has no room for the image")
        return room

    def _make_room(self, engine: Engine, wanted: int) -> None:
        """Deletes images that nobody uses, the longest unused first, until `wanted` bytes more fit into the cache."""
        with self._lock:
            held = self.held()
            for digest, image in sorted(held.items(), key=lambda item: item[1].used):
                if sum(other.bytes for other in held.values()) + wanted <= self._cache_bytes:
                    break
                if digest in self._in_use:
                    continue
                # Without force: an engine does not delete what a container still uses.
                if not self._delete(engine, digest):
                    continue
                del held[digest]
                self._write(held)
                _logger.info("deleted the image %s (%d bytes) to make room", digest, image.bytes)

    def _delete(self, engine: Engine, digest: str) -> bool:
        if engine.ask("image", "rm", _NAME + digest, check=False).returncode == 0:
            return True
        return engine.ask("image", "inspect", _NAME + digest, check=False).returncode != 0

    def _note(self, digest: str, image: Image) -> None:
        with self._lock:
            self._write(self.held() | {digest: image})

    def _write(self, held: dict[str, Image]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / "images.json.new"
        with draft.open("w") as stream:
            json.dump({digest: asdict(image) for digest, image in held.items()}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self._folder / "images.json")


def _filled(fetched: FetchedImage, before: _Room) -> ImageProblem:
    """Who filled the disk while an image was unpacked for which there was this room before."""
    if before.less(fetched.unpacked + fetched.names * _NAME_BYTES, fetched.names).short:
        return ImageProblem(Reason.IMAGE_INVALID, "its files fill the disk: it has too many")
    return ImageProblem(Reason.DISK_FULL, "this machine's disk filled up while the image was unpacked")


@contextmanager
def _disk_faults() -> Iterator[None]:
    """What this process itself could not write is the machine's fault."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImageProblem(Reason.DISK_FULL, f"this machine's disk is full: {error.strerror}") from error


@contextmanager
def _held(lock: threading.Lock, allowance: Allowance, cancel: threading.Event) -> Iterator[None]:
    """The lock, if it can be had in time: another job may be fetching the same image."""
    while not lock.acquire(timeout=_WATCH_SECONDS):
        if cancel.is_set():
            raise InterruptedError
        allowance.require()
    try:
        yield
    finally:
        lock.release()


def _docker_archive(fetched: FetchedImage) -> Path:
    """The image in the form that `docker load` takes; docker tells packed layers by themselves."""
    path = fetched.directory / "archive.tar"
    names = [f"{digest}.tar" for digest in fetched.layers]
    listed = json.dumps([{"Config": f"{fetched.config}.json", "RepoTags": None, "Layers": names}]).encode()
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(listed)
        archive.addfile(entry, io.BytesIO(listed))
        archive.add(fetched.directory / fetched.config, f"{fetched.config}.json")
        for digest in dict.fromkeys(fetched.layers):
            archive.add(fetched.directory / digest, f"{digest}.tar")
    return path

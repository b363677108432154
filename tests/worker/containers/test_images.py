# SPDX-License-Identifier: Apache-2.0
"""Images from a registry: fetched once, verified, bounded, and deleted when others need their room."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.registry import Allowance, FetchedImage, ImageProblem, Registry

from ..bench import log_of
from .bench import MIB, ContainerBench
from .images import ARCHITECTURE, RegistryServer, Shelf, file, layer, link, members, sha256


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    server = RegistryServer(Shelf())
    yield server
    server.stop()


SMALL = layer([file("hello", b"hello" * 1000)])
BOMB_BYTES = 100 * MIB


def fetch(server: RegistryServer, image: str, folder: Path, *, most: int = 10 * MIB) -> tuple[FetchedImage, list[str]]:
    said: list[str] = []
    registry = Registry([server.host], most)
    try:
        place = Path(tempfile.mkdtemp(dir=folder))
        return registry.fetch(image, place / "image", said.append, threading.Event(), Allowance(60)), said
    finally:
        registry.close()


def problem(server: RegistryServer, image: str, folder: Path, *, most: int = 10 * MIB) -> ImageProblem:
    with pytest.raises(ImageProblem) as caught:
        fetch(server, image, folder, most=most)
    return caught.value


def test_an_image_is_fetched_with_progress(server: RegistryServer, tmp_path: Path) -> None:
    image, said = fetch(server, server.name(server.shelf.image(SMALL, SMALL, settings={"Cmd": ["x"]})), tmp_path)
    assert image.unpacked == 2 * len(SMALL)
    assert image.settings == {"Cmd": ["x"]}
    assert [sha256((image.directory / name).read_bytes()) for name in [image.config, *image.layers]] == [
        image.config,
        *image.layers,
    ]
    assert said[0].startswith("fetching 2 layers, ")
    assert said[-1].startswith("layer 2 of 2 is here")


def test_the_image_for_this_machine_is_taken_from_an_index(server: RegistryServer, tmp_path: Path) -> None:
    own, other = server.shelf.image(SMALL), server.shelf.image(SMALL, architecture="riscv64")
    fetched, _ = fetch(server, server.name(server.shelf.index({"riscv64": other, ARCHITECTURE: own})), tmp_path)
    assert fetched.unpacked == len(SMALL)
    found = problem(server, server.name(server.shelf.index({"riscv64": other})), tmp_path)
    assert (found.reason, f"linux/{ARCHITECTURE}" in str(found)) == (Reason.IMAGE_INVALID, True)
    assert problem(server, server.name(other), tmp_path).reason is Reason.IMAGE_INVALID


def test_a_token_is_asked_for_where_one_is_wanted(server: RegistryServer, tmp_path: Path) -> None:
    server.token = "given-to-anybody"
    fetched, _ = fetch(server, server.name(server.shelf.image(SMALL)), tmp_path)
    assert fetched.unpacked == len(SMALL)
    tokens = [path for path in server.asked if path.startswith("/token")]
    assert tokens == ["/token?scope=repository%3Ame%2Fimage%3Apull&service=test"]


def test_a_blob_is_tried_again(server: RegistryServer, tmp_path: Path) -> None:
    server.failures = 1
    _, said = fetch(server, server.name(server.shelf.image(SMALL)), tmp_path)
    assert any("HTTP status 503; trying again" in line for line in said)


def test_a_wrong_digest(server: RegistryServer, tmp_path: Path) -> None:
    digest = server.shelf.image(SMALL)
    server.shelf.lies[digest] = server.shelf.contents[server.shelf.image(SMALL, SMALL)][0]
    found = problem(server, server.name(digest), tmp_path)
    assert (found.reason, "another image than the one named" in str(found)) == (Reason.IMAGE_INVALID, True)


def test_a_layer_that_is_another(server: RegistryServer, tmp_path: Path) -> None:
    packed, other = (gzip.compress(content, 0, mtime=0) for content in (SMALL, SMALL.replace(b"hello", b"jello")))
    digest = server.shelf.image(SMALL, packed=[packed])
    server.shelf.lies[sha256(packed)] = other
    found = problem(server, server.name(digest), tmp_path)
    assert (found.reason, "not what its digest says" in str(found)) == (Reason.IMAGE_INVALID, True)


def test_an_image_that_is_not_there(server: RegistryServer, tmp_path: Path) -> None:
    found = problem(server, server.name("0" * 64), tmp_path)
    assert (found.reason, "HTTP status 404" in str(found)) == (Reason.IMAGE_INVALID, True)


def test_a_registry_that_does_not_answer_proves_nothing(server: RegistryServer, tmp_path: Path) -> None:
    name = server.name(server.shelf.image(SMALL))
    registry = Registry([server.host], 10 * MIB)
    server.stop()
    with pytest.raises(ImageProblem) as caught:
        registry.fetch(name, tmp_path / "image", lambda line: None, threading.Event(), Allowance(60))
    assert caught.value.reason is Reason.IMAGE_UNREACHABLE
    # Neither the provider nor the buyer can be blamed for it.
    assert (caught.value.reason.fault, caught.value.reason.on_record) == ("network", False)


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:5000", "169.254.169.254"])
def test_addresses_of_this_machines_network_are_not_reached(tmp_path: Path, host: str) -> None:
    registry = Registry([], 10 * MIB)
    with pytest.raises(ImageProblem) as caught:
        registry.fetch(
            f"{host}/me/x@sha256:{'0' * 64}", tmp_path / "x", lambda line: None, threading.Event(), Allowance(60)
        )
    assert (caught.value.reason, "not one of the open internet" in str(caught.value)) == (Reason.IMAGE_INVALID, True)


def test_an_image_too_large_is_refused_by_its_manifest(server: RegistryServer, tmp_path: Path) -> None:
    digest = server.shelf.image(SMALL, size=11 * MIB)
    found = problem(server, server.name(digest), tmp_path)
    assert (found.reason, "by the manifest" in str(found)) == (Reason.IMAGE_INVALID, True)
    assert not any("/blobs/" in path for path in server.asked)


def test_a_layer_longer_than_stated_is_cut_off(server: RegistryServer, tmp_path: Path) -> None:
    found = problem(server, server.name(server.shelf.image(SMALL, size=10)), tmp_path)
    assert (found.reason, "larger than the 10 bytes" in str(found)) == (Reason.IMAGE_INVALID, True)


def test_a_layer_bomb_is_counted_before_it_is_unpacked(server: RegistryServer, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(BOMB_BYTES), 9, mtime=0)
    assert len(bomb) < MIB
    digest = server.shelf.image(SMALL, packed=[bomb])
    found = problem(server, server.name(digest), tmp_path)
    assert (found.reason, "unpack to more" in str(found)) == (Reason.IMAGE_INVALID, True)
    # Several gzip files after each other count together.
    parts = gzip.compress(bytes(6 * MIB), 9, mtime=0) * 2
    found = problem(server, server.name(server.shelf.image(SMALL, packed=[parts])), tmp_path)
    assert "unpack to more" in str(found)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}, "is of the kind"),
        ({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, "is of the kind"),
        ({"digest": "sha256:../../../etc/passwd"}, "no SHA-256"),
        ({"digest": "md5:0"}, "no SHA-256"),
        ({"size": -1}, "no SHA-256 and size"),
        ({"size": True}, "no SHA-256 and size"),
    ],
)
def test_a_manifest_that_lies(server: RegistryServer, tmp_path: Path, stated: dict[str, object], words: str) -> None:
    found = problem(server, server.name(server.shelf.image(SMALL, **stated)), tmp_path)
    assert (found.reason, words in str(found)) == (Reason.IMAGE_INVALID, True), str(found)


def test_a_pull_is_broken_off(server: RegistryServer, tmp_path: Path) -> None:
    cancel = threading.Event()
    registry = Registry([server.host], 10 * MIB)
    with pytest.raises(InterruptedError):
        registry.fetch(
            server.name(server.shelf.image(SMALL)), tmp_path / "x", lambda line: cancel.set(), cancel, Allowance(60)
        )


def test_a_registry_that_gives_an_image_byte_by_byte_does_not_hold_the_worker(
    server: RegistryServer, tmp_path: Path
) -> None:
    name = server.name(server.shelf.image(SMALL))
    registry = Registry([server.host], 10 * MIB)
    spent = Allowance(0)
    with pytest.raises(ImageProblem) as caught:
        registry.fetch(name, tmp_path / "x", lambda line: None, threading.Event(), spent)
    assert (caught.value.reason, "too slow" in str(caught.value)) == (Reason.IMAGE_INVALID, True)
    # Silence is nobody's fault at first, and the image's when it has used up the time.
    assert Allowance(60).unreachable("x").reason is Reason.IMAGE_UNREACHABLE
    late = Allowance(1e-9)
    assert not late.left
    assert late.unreachable("x").reason is Reason.IMAGE_INVALID


def test_an_image_is_fetched_once(bench: ContainerBench, busybox: bytes) -> None:
    image = bench.registry.name(bench.registry.shelf.image(busybox, settings={"Labels": {"a": "once"}}))
    first = bench.section({"image": image, "command": ["/bin/sh", "-c", "echo > out.txt"]})
    assert "unpacking the image" in log_of(first)
    before = len(bench.registry.asked)
    second = bench.section({"image": image, "command": ["/bin/sh", "-c", "echo > out.txt"]})
    assert (first.reason, second.reason) == ("ok", "ok")
    assert "the image is here already" in log_of(second)
    assert len(bench.registry.asked) == before


def test_what_cannot_be_unpacked_is_the_images_fault(bench: ContainerBench) -> None:
    broken = bench.registry.shelf.image(b"no archive" * 100)
    attempt = bench.section({"image": bench.registry.name(broken), "command": ["/bin/true"]})
    assert (attempt.reason, attempt.exit_code) == ("image_invalid", 111), log_of(attempt)
    assert bench.shell("echo > out.txt").reason == "ok"


@pytest.mark.parametrize(
    ("settings", "section"),
    [
        ({}, {"command": None}),
        ({}, {"workdir": "/nowhere/at/all"}),
        ({"Env": ["=", "A"]}, {}),
        ({"WorkingDir": "/bin/sh"}, {"workdir": "/bin/sh"}),
    ],
)
def test_an_image_of_which_no_container_can_be_made_is_not_the_machines_fault(
    bench: ContainerBench, busybox: bytes, settings: dict[str, object], section: dict[str, object]
) -> None:
    image = bench.registry.name(bench.registry.shelf.image(busybox, settings=settings))
    wanted = {"image": image, "command": ["/bin/true"], **section}
    attempt = bench.section({name: value for name, value in wanted.items() if value is not None})
    assert attempt.reason.fault == "workload", (attempt, log_of(attempt))


@pytest.mark.parametrize("odd", ["job", "dev", "proc", "tmp", "etc"])
def test_odd_places_in_an_image_are_its_own_fault(
    bench: ContainerBench, busybox: bytes, odd: str, tmp_path: Path
) -> None:
    entries = [(entry, content) for entry, content in members(busybox) if entry.name.strip("/") != odd]
    image = bench.registry.name(bench.registry.shelf.image(layer([*entries, link(odd, str(tmp_path))])))
    attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", f"echo > out.txt; echo > /{odd}/x; exit 0"]})
    assert attempt.reason.fault != "machine", (attempt, log_of(attempt))
    assert not (tmp_path / "x").exists()


def test_names_in_a_layer_that_lead_outside_stay_inside(bench: ContainerBench, busybox: bytes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    entries = [file("../" * 20 + str(outside).lstrip("/"), b"x"), file(f"/{outside}2", b"x")]
    image = bench.registry.name(bench.registry.shelf.image(busybox, layer(entries)))
    bench.section({"image": image, "command": ["/bin/sh", "-c", "echo > out.txt"]})
    assert not outside.exists()
    assert not Path(f"{outside}2").exists()


def test_the_longest_unused_image_goes_first_and_never_one_in_use(
    bench: ContainerBench, busybox: bytes, tmp_path: Path
) -> None:
    # Room for two and a half images of this size.
    bench = bench.apart(tmp_path / "apart", cache_bytes=len(busybox) * 5 // 2)
    images = [
        bench.registry.name(bench.registry.shelf.image(busybox, settings={"Labels": {"n": str(number)}}))
        for number in range(4)
    ]

    def digests() -> list[str]:
        held = bench.executor.images.held()
        return sorted(held, key=lambda digest: held[digest].used)

    def run(image: str, job: str = "a1") -> None:
        attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", "echo > out.txt"]}, job=job)
        assert attempt.reason == "ok", log_of(attempt)

    run(images[0])
    run(images[1])
    run(images[0])
    assert digests() == [image[-64:] for image in (images[1], images[0])]
    run(images[2])
    assert digests() == [image[-64:] for image in (images[0], images[2])]
    engine = bench.executor.engine()
    with bench.executor.images.use(engine, images[0], lambda line: None, threading.Event()):
        run(images[3])
        assert digests() == [image[-64:] for image in (images[0], images[3])]
    known = engine.ask("image", "ls", "--all", "--quiet", "--no-trunc").stdout
    assert all(image.id in known for image in bench.executor.images.held().values())


def test_a_lost_list_of_images_is_begun_anew(bench: ContainerBench, engine_store: Path) -> None:
    (engine_store / "images.json").write_text("{")
    assert bench.shell("echo > out.txt").reason == "ok"
    assert bench.image[-64:] in bench.executor.images.held()


def test_debians_own_registry(bench: ContainerBench, tmp_path: Path) -> None:
    program = shutil.which("docker-registry")
    engine = bench.executor.engine()
    if program is None or engine.kind != "podman":
        pytest.skip("docker-registry is not installed, or there is no podman to fill it")
    bench.shell("echo > out.txt")
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: '127.0.0.1:0'}}\nlog: {{level: info}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", str(tmp_path / "config.yml")], stdout=log, stderr=log)
    try:
        host = _address(server, tmp_path / "registry.log")
        known = bench.executor.images.held()[bench.image[-64:]]
        engine.ask("push", "--tls-verify=false", "--digestfile", str(tmp_path / "digest"), known.id, f"{host}/me/x:1")
        digest = (tmp_path / "digest").read_text().removeprefix("sha256:")
        bench = bench.apart(tmp_path / "apart", registries=[host])
        image = f"{host}/me/x@sha256:{digest}"
        attempt = bench.section({"image": image, "command": ["/bin/sh", "-c", "echo > out.txt"]})
        assert attempt.reason == "ok", log_of(attempt)
    finally:
        server.terminate()
        server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        for line in log.read_text().splitlines():
            if "listening on" in line:
                return line.partition("listening on ")[2].partition('"')[0].strip()
        time.sleep(0.05)
    raise AssertionError(log.read_text())

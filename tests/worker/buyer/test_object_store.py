# SPDX-License-Identifier: Apache-2.0
"""A buyer's store, S3 (moto's server) and a web server alike: what its addresses let others do, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from gpubond.buyer.object_store import Absent, ObjectStore, open_store
from gpubond.buyer.reach import Reach, lifetime
from gpubond.chain.market import Offer
from gpubond.devnet import free_port
from gpubond.errors import BadSettings, Refused, Unreachable
from gpubond.jobs.spec import JobSpec
from gpubond.settings import StoreSettings
from tests.integration.store_market import WebStore, s3_client, s3_server

NAME, OTHER = "in/" + "a" * 40, "out/" + "b" * 40
DATA = bytes(range(256)) * 9000
KEY = "age1vnty88f7t4dydqn9659ny7x2ywuacwvrl33znd8zl3ggavngtdjs6sxsr9"


@dataclass
class Opened:
    """A store, its settings, and what makes it refuse everything."""

    store: ObjectStore
    settings: StoreSettings
    lock_out: Callable[[], None]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of nobody but this test."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", str(tmp_path / "config")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials")),
        ("NETRC", str(tmp_path / "netrc")),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["s3", "web"])
def opened(request: pytest.FixtureRequest, s3: str) -> Iterator[Opened]:
    if request.param == "s3":
        client = s3_client(s3)
        client.create_bucket(Bucket="jobs")
        settings = StoreSettings(url="s3://jobs/a/prefix", endpoint_url=s3)

        def remove() -> None:
            for item in client.list_objects_v2(Bucket="jobs").get("Contents", []):
                client.delete_object(Bucket="jobs", Key=item["Key"])
            client.delete_bucket(Bucket="jobs")

        yield Opened(open_store(settings), settings, remove)
        if "jobs" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            remove()
        return
    web = WebStore()
    settings = StoreSettings(url=web.url)

    def forbid() -> None:
        web.refuses = {(method, "/"): 403 for method in ("GET", "PUT", "HEAD", "DELETE")}

    yield Opened(open_store(settings), settings, forbid)
    web.close()


def test_what_is_written_is_read_from_any_byte_on(opened: Opened, tmp_path: Path) -> None:
    store = opened.store
    assert store.size(NAME) is None
    with pytest.raises(Absent):
        list(store.read(NAME))
    (tmp_path / "file").write_bytes(DATA)
    for content in (DATA, tmp_path / "file"):
        store.write(NAME, content)
        assert store.size(NAME) == len(DATA)
        assert b"".join(store.read(NAME)) == DATA
        assert b"".join(store.read(NAME, 1_234_567)) == DATA[1_234_567:]
        store.delete(NAME)
        assert store.size(NAME) is None
        store.delete(NAME)


def test_an_address_is_good_for_its_object_and_purpose(opened: Opened) -> None:
    store = opened.store
    store.write(NAME, DATA)
    assert httpx.get(store.get_url(NAME, 60), trust_env=False).content == DATA
    assert httpx.put(store.put_url(OTHER, 60), content=b"result", trust_env=False).is_success
    assert b"".join(store.read(OTHER)) == b"result"
    if opened.settings.url.startswith("s3"):
        for url in (store.get_url(NAME, 60), store.put_url(NAME, 60)):
            assert "X-Amz-Expires=60" in url and "X-Amz-SignedHeaders=host" in url
        assert "test" not in store.put_url(NAME, 60).split("X-Amz-Signature")[1]


def test_only_notes_have_public_addresses(s3: str) -> None:
    settings = StoreSettings(url="s3://jobs", endpoint_url=s3, public_notes=True)
    store = open_store(settings)
    assert store.get_url("note/x", 60) == f"{s3}/jobs/note/x"
    assert "X-Amz-Signature" in store.get_url(NAME, 60) and "X-Amz-Signature" in store.put_url("note/x", 60)


def test_a_store_is_tried_as_a_provider_would_use_it(opened: Opened, spec: JobSpec) -> None:
    reach = Reach(opened.settings)
    assert [note for note in reach.check(spec) if "5 GiB" not in note] == []
    opened.lock_out()
    with pytest.raises(Refused) as error:
        list(reach.check(spec))
    assert error.value.field == "store"


@pytest.fixture
def spec() -> JobSpec:
    return JobSpec.model_validate(
        {
            "version": 1,
            "name": "n",
            "runtime": "python",
            "inputs": [{"path": "run.py", "sha256": "ab" * 32, "size": 1}],
            "outputs": ["o"],
            "limits": {"disk_mib": 6 << 10},
            "python": {"script": "run.py"},
        }
    )


def test_notes_that_nobody_may_read_are_found_before_a_hire(s3: str, spec: JobSpec) -> None:
    s3_client(s3).create_bucket(Bucket="closed")
    settings = StoreSettings(url="s3://closed/p", endpoint_url=s3, public_notes=True)
    with pytest.raises(Refused, match="HTTP status 403"):
        list(Reach(settings).check(spec))


def test_what_a_buyer_should_know_of_its_s3(s3: str, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_client(s3).create_bucket(Bucket="notes")
    settings = StoreSettings(url="s3://notes", endpoint_url=s3)
    (large,) = Reach(settings).check(spec)
    assert "5 GiB" in large
    small = spec.model_copy(update={"limits": spec.limits.model_copy(update={"disk_mib": 5 << 10})})
    assert list(Reach(settings).check(small)) == []
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-an-hour")
    (temporary,) = Reach(settings).check(small)
    assert "temporary" in temporary


def test_a_store_that_is_silent_or_locked_says_so(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = StoreSettings(url="s3://jobs", endpoint_url=f"http://127.0.0.1:{free_port()}")
    if opened.settings.url.startswith("http"):
        silent = StoreSettings(url=f"http://127.0.0.1:{free_port()}")
    for act in (lambda store: store.write(NAME, b"x"), lambda store: list(store.read(NAME)), lambda s: s.size(NAME)):
        with pytest.raises(Unreachable) as silence:
            act(open_store(silent))
        assert silence.value.field == "store"
    opened.lock_out()
    with pytest.raises(Refused) as refusal:
        opened.store.write(NAME, b"x")
    assert refusal.value.field == "store" and refusal.value.remedy is not None


def test_s3_without_credentials_names_where_they_come_from(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadSettings, match="no credentials") as error:
        open_store(StoreSettings(url="s3://jobs", endpoint_url=s3))
    assert "AWS_ACCESS_KEY_ID" in str(error.value.remedy)


def test_the_password_of_a_web_server_comes_from_netrc(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login buyer password opensesame\n")
    seen: list[str | None] = []
    web = WebStore()
    try:
        web.on_request = lambda headers: seen.append(headers.get("Authorization"))
        store = open_store(StoreSettings(url=web.url))
        store.write(NAME, b"x")
        assert b"".join(store.read(NAME)) == b"x"
        httpx.get(store.get_url(NAME, 60), trust_env=False)
    finally:
        web.close()
    assert [value is not None and value.startswith("Basic ") for value in seen] == [True, True, False]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket",
        "s3://",
        "s3://B",
        "ftp://x/y",
        "http://store.example/x",
        "https://x/?a=b",
        "https://u:p@x/",
        "https://",
    ],
)
def test_addresses_that_are_no_store(url: str) -> None:
    with pytest.raises(ValidationError):
        StoreSettings(url=url)


@pytest.mark.parametrize("endpoint", ["http://minio.example:9000", "http://127.0.0.1.example/"])
def test_s3_without_tls_is_for_this_machine_only(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="https"):
        StoreSettings(url="s3://jobs", endpoint_url=endpoint)


def offer(challenge_window: int) -> Offer:
    provider = "0x" + "11" * 20
    return Offer(provider, b"c" * 32, 1, 1, 7, 60, 600, 900, 600, challenge_window, 1000, 500, 5, 2**40, provider)


def test_windows_beyond_what_addresses_of_s3_last_are_an_obstacle(s3: str) -> None:
    reach = Reach(StoreSettings(url="s3://jobs", endpoint_url=s3))
    week = 7 * 86_400
    longest = week - lifetime(offer(0), 60)
    assert reach.obstacle(KEY, offer(longest), 60) == ""
    assert "days" in reach.obstacle(KEY, offer(longest + 1), 60)
    assert "days" in reach.obstacle(KEY, offer(longest), 61)
    web = Reach(StoreSettings(url="https://store.example/x"))
    assert web.obstacle(KEY, offer(90 * 86_400), 60) == ""


def test_what_stands_against_a_provider() -> None:
    nothing = Reach(None)
    assert nothing.obstacle("https://gpu.example", offer(1), 60) == ""
    assert "[store]" in nothing.obstacle(KEY, offer(1), 60)
    assert "no gateway" in nothing.obstacle("", offer(1), 60)
    assert "no usable address" in nothing.obstacle("gopher://x", offer(1), 60)
    assert nothing.recipient("https://gpu.example") is None and nothing.recipient(KEY) == KEY
    with pytest.raises(BadSettings, match=r"no \[store\], and this job's data lies in s3://jobs"):
        nothing.store("s3://jobs")

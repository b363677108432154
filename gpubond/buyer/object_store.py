# SPDX-License-Identifier: Apache-2.0
"""A buyer's own store of objects: a bucket of S3, or a web server that takes PUT. Names are unguessable.

What a provider does there it does with addresses that the buyer hands it, each good for one object and one purpose;
the buyer's own reads and writes use the buyer's credentials, which never leave this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from gpubond.buyer.patience import bound_patience
from gpubond.errors import BadSettings, GpuBondError, MissingTool, Refused, Unreachable
from gpubond.settings import StoreSettings

# What S3 allows.
LONGEST_URL_SECONDS = 7 * 86_400
# S3 takes this much in one PUT, which is how a provider delivers.
MAX_PUT_BYTES = 5 << 30
_CHUNK = 1 << 20
_CONNECT_SECONDS, _READ_SECONDS = 10, 30


class Absent(GpuBondError):
    """There is no such object (yet)."""

    code = "not_there"


class ObjectStore(Protocol):
    """Objects below one prefix, by names like `in/4f…`.

    Every method may raise Unreachable if the store does not answer, Refused or BadSettings if it does not let us.
    """

    @property
    def longest(self) -> int | None:
        """Seconds that an address can be good for; None: for ever."""

    @property
    def largest(self) -> int | None:
        """Bytes of one object that a provider can put; None: any number."""

    @property
    def temporary(self) -> bool:
        """Whether the credentials, and addresses with them, may end before their time."""

    def write(self, name: str, content: bytes | Path) -> None:
        """Puts an object there, whole."""

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """An object's bytes from one on, as they come; the caller bounds them. Raises Absent."""

    def size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""

    def delete(self, name: str) -> None:
        """Removes an object, if there is one."""

    def get_url(self, name: str, seconds: int) -> str:
        """An address for whoever may read the object."""

    def put_url(self, name: str, seconds: int) -> str:
        """An address for whoever may write the object."""


def open_store(settings: StoreSettings) -> ObjectStore:
    """The store that the settings name.

    Raises:
        MissingTool: it is in S3, and boto3 is not installed.
    """
    return S3Store(settings) if settings.url.startswith("s3://") else HttpStore(settings.url)


class S3Store:
    """Objects in a bucket. Credentials and region come from where AWS' own tools take them. Thread-safe."""

    longest: int | None = LONGEST_URL_SECONDS
    largest: int | None = MAX_PUT_BYTES

    def __init__(self, settings: StoreSettings) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise MissingTool(
                "a store in S3 needs boto3, which is not installed",
                field="store.url",
                value=settings.url,
                remedy="pip install 'gpubond[store]'",
            ) from None
        parts = urlsplit(settings.url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._public_notes = settings.public_notes
        with _explained():
            session = boto3.session.Session()
            self._client = session.client(
                "s3",
                endpoint_url=settings.endpoint_url,
                region_name=session.region_name or "us-east-1",
                config=Config(
                    signature_version="s3v4",
                    # Others than Amazon have no names for buckets, and know no newer checksums.
                    s3={"addressing_style": "virtual" if settings.endpoint_url is None else "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    retries={"mode": "standard", "max_attempts": 3},
                ),
            )
            credentials = session.get_credentials()
        if credentials is None:
            raise BadSettings(
                "there are no credentials for the store in S3",
                field="store.url",
                value=settings.url,
                remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
            )
        self.temporary = credentials.token is not None

    def write(self, name: str, content: bytes | Path) -> None:
        """See `ObjectStore`."""
        with _explained():
            if isinstance(content, bytes):
                self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=content)
            else:
                self._client.upload_file(str(content), self._bucket, self._key(name))

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """See `ObjectStore`."""
        with _explained():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **_range(start))
            yield from answer["Body"].iter_chunks(_CHUNK)

    def size(self, name: str) -> int | None:
        """See `ObjectStore`."""
        try:
            with _explained():
                return int(self._client.head_object(Bucket=self._bucket, Key=self._key(name))["ContentLength"])
        except Absent:
            return None

    def delete(self, name: str) -> None:
        """See `ObjectStore`."""
        with _explained():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def get_url(self, name: str, seconds: int) -> str:
        """See `ObjectStore`."""
        url = self._signed("get_object", name, seconds)
        public = self._public_notes and name.startswith("note/")
        return url.partition("?")[0] if public else url

    def put_url(self, name: str, seconds: int) -> str:
        """See `ObjectStore`."""
        return self._signed("put_object", name, seconds)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _signed(self, action: str, name: str, seconds: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": self._key(name)}
        with _explained():
            return str(self._client.generate_presigned_url(action, Params=parameters, ExpiresIn=seconds))


class HttpStore:
    """Objects on a web server: whoever knows an object's name may read and write it there. Thread-safe.

    Where the server wants a password for what only the buyer writes, it comes from ~/.netrc, or the file in NETRC.
    """

    longest: int | None = None
    largest: int | None = None
    temporary = False

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            login: httpx.Auth | None = httpx.NetRCAuth(os.environ.get("NETRC"))
        except (OSError, SyntaxError):  # none there, or netrc.NetrcParseError
            login = None
        self._client = bound_patience(
            httpx.Client(
                timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
                follow_redirects=False,
                headers={"Accept-Encoding": "identity"},
                auth=login,
            )
        )

    def write(self, name: str, content: bytes | Path) -> None:
        """See `ObjectStore`."""
        if isinstance(content, bytes):
            with self._answer("PUT", name, content=content):
                return
        headers = {"Content-Length": str(content.stat().st_size)}
        with content.open("rb") as file, self._answer("PUT", name, content=_chunks(file), headers=headers):
            return

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """See `ObjectStore`."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._answer("GET", name, headers=headers) as response:
            # A server without ranges sends all of it.
            skip = start if response.status_code != httpx.codes.PARTIAL_CONTENT else 0
            for piece in response.iter_raw(_CHUNK):
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(0, skip - len(piece))

    def size(self, name: str) -> int | None:
        """See `ObjectStore`."""
        try:
            with self._answer("HEAD", name) as response:
                length = response.headers.get("content-length", "")
                return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
        except Absent:
            return None

    def delete(self, name: str) -> None:
        """See `ObjectStore`."""
        try:
            with self._answer("DELETE", name):
                return
        except Absent:
            return

    def get_url(self, name: str, seconds: int) -> str:
        """See `ObjectStore`."""
        return f"{self._url}/{name}"

    def put_url(self, name: str, seconds: int) -> str:
        """See `ObjectStore`."""
        return f"{self._url}/{name}"

    @contextmanager
    def _answer(self, method: str, name: str, **arguments: Any) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, f"{self._url}/{name}", **arguments) as response:
                if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
                    raise Absent("the store has no such object", field="store", value=name.partition("/")[0])
                if not response.is_success:
                    raise _refused(f"HTTP status {response.status_code}")
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _silent(type(error).__name__) from None


@contextmanager
def _explained() -> Iterator[None]:
    """The errors of AWS' library as the house's own."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(error.response.get("Error", {}).get("Code", ""))[:80]
        if code in ("NoSuchKey", "404") or (status == httpx.codes.NOT_FOUND and code != "NoSuchBucket"):
            raise Absent("the store has no such object", field="store") from None
        if isinstance(status, int) and status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _silent(code) from None
        raise _refused(code) from None
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise _silent(type(error).__name__) from None
    except (exceptions.BotoCoreError, Boto3Error) as error:
        if "EndpointConnectionError" in str(error) or isinstance(error.__cause__, exceptions.ConnectionError):
            raise _silent(type(error).__name__) from None
        raise BadSettings(
            f"the store in S3 cannot be used: {error}",
            field="store",
            remedy="check [store] in gpubond.toml, and the credentials and region that AWS' own tools use",
        ) from None


def _range(start: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-"} if start else {}


def _chunks(file: Any) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece


def _refused(why: str) -> Refused:
    return Refused(
        f"your store refuses: {why}",
        field="store",
        remedy="let these credentials read, write, list and delete below the prefix of [store]; docs/store.md has a "
        "policy for S3 and a configuration for nginx",
    )


def _silent(why: str) -> Unreachable:
    return Unreachable(
        f"your store does not answer ({why})",
        field="store",
        remedy="nothing is lost: try again; if it stays away, a result that is committed can be demanded on chain: "
        "`gpubond job demand`",
    )

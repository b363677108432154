# SPDX-License-Identifier: Apache-2.0
"""How this buyer comes to a provider: by its gateway, or by the buyer's own store; and what stands against it, before
any money moves."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from gpubond.buyer.gateway_client import gateway_answers, gateway_note_key, gateway_software
from gpubond.buyer.object_store import Absent, ObjectStore, open_store
from gpubond.buyer.patience import bound_patience
from gpubond.chain.market import Offer
from gpubond.errors import BadSettings, GpuBondError, Refused
from gpubond.jobs.note import is_recipient
from gpubond.jobs.packages import Software, in_words, unmet
from gpubond.jobs.spec import JobSpec
from gpubond.settings import StoreSettings

# Gateways that are asked at once.
PROBES = 16
# Seconds from the note to the hire, and for both sides to be late: the addresses in a note are good for so much longer.
SLACK_SECONDS = 6 * 3600


def lifetime(offer: Offer, seconds: int) -> int:
    """Seconds for which the addresses of a job's note must be good: until its result need not be fetched any more."""
    return offer.acknowledge_window + seconds + offer.delivery_margin + offer.challenge_window + SLACK_SECONDS


@dataclass
class Reach:
    """The ways that one buyer has.

    Args:
        settings: its store; None: it has none.
    """

    settings: StoreSettings | None

    def __post_init__(self) -> None:
        self._stores: dict[str, ObjectStore] = {}

    def store(self, root: str | None = None) -> ObjectStore:
        """The store of the settings, or the one in which an earlier order lies.

        Raises:
            BadSettings: the settings have none, or no credentials for it. MissingTool: boto3 is not installed.
        """
        if self.settings is None:
            raise BadSettings(
                "the settings have no [store]" + ("" if root is None else f", and this job's data lies in {root}"),
                field="store",
                remedy='add [store] with url = "s3://bucket/prefix" or "https://host/prefix" to gpubond.toml; '
                "docs/store.md says how",
            )
        url = root or self.settings.url
        if url not in self._stores:
            self._stores[url] = open_store(self.settings.model_copy(update={"url": url}))
        return self._stores[url]

    def obstacle(self, endpoint: str, offer: Offer, seconds: int) -> str:
        """Why this buyer cannot come to a provider, in words; empty if it can."""
        if endpoint.startswith(("http://", "https://")):
            return ""
        if not is_recipient(endpoint):
            return "its provider announced no gateway" if not endpoint else "its provider announced no usable address"
        if self.settings is None:
            return "it has no gateway and is reached through a store of yours: set [store] (docs/store.md)"
        try:
            longest = self.store().longest
        except GpuBondError as error:
            return error.message
        needed = lifetime(offer, seconds)
        if longest is not None and needed > longest:
            return (
                f"its windows and this run come to {needed / 86_400:.1f} days, and addresses of S3 are good for "
                f"{longest // 86_400} at most: pay for a shorter run, or use a store by https"
            )
        return ""

    def answers(self, endpoint: str) -> bool:
        """Whether a provider answers now; one without a gateway cannot be asked."""
        return is_recipient(endpoint) or gateway_answers(endpoint)

    def software(self, endpoints: Sequence[str]) -> dict[str, Software | None]:
        """Which Python and packages jobs find at providers, as their gateways say; None for one that does not say."""
        asked = [endpoint for endpoint in dict.fromkeys(endpoints) if endpoint.startswith(("http://", "https://"))]
        with ThreadPoolExecutor(PROBES) as pool:
            return dict(zip(asked, pool.map(gateway_software, asked), strict=True))

    def lacks(self, spec: JobSpec) -> Callable[[str], str]:
        """Tells of an endpoint what its provider lacks for the job, in words; empty if nothing, or if it cannot be
        asked for want of a gateway: then the worker gives the job back if it lacks something."""
        requires = None if spec.python is None else spec.python.requires

        def lacking(endpoint: str) -> str:
            if requires is None or is_recipient(endpoint):
                return ""
            found = gateway_software(endpoint)
            if found is None:
                return f"it does not say whether it has {in_words(requires)}"
            return "; ".join(unmet(requires, found))

        return lacking

    def said(self, spec: JobSpec, endpoint: str) -> Iterator[str]:
        """What the buyer should know of the packages of a provider that `lacks` let pass."""
        if spec.python is None or spec.python.requires is None:
            return
        needed = in_words(spec.python.requires)
        if is_recipient(endpoint):
            yield f"it has no gateway to be asked for {needed}: if it lacks that, it declines, and all comes back"
        else:
            yield f"its gateway says that it has {needed}"

    def recipient(self, endpoint: str) -> str | None:
        """The key to which a note for a provider is sealed; None: it is reached by its gateway."""
        if is_recipient(endpoint):
            return endpoint
        if self.settings is None or not self.settings.always:
            return None
        key = gateway_note_key(endpoint)
        return key if key is not None and is_recipient(key) else None

    def check(self, spec: JobSpec) -> Iterator[str]:
        """Tries the store as a provider would use it; yields what the buyer should know.

        Raises:
            Refused, BadSettings, Unreachable: it cannot be used.
        """
        store = self.store()
        token = secrets.token_hex(20)
        names = {kind: f"{kind}/{token}" for kind in ("note", "in", "out")}
        try:
            for kind in ("note", "in"):
                store.write(names[kind], token.encode())
                if _asked("GET", store.get_url(names[kind], 600)) != token.encode():
                    raise _unusable(f"what is written to {kind}/ cannot be read by its address")
            _asked("PUT", store.put_url(names["out"], 600), token.encode())
            if b"".join(store.read(names["out"])) != token.encode():
                raise _unusable("what a provider puts into out/ cannot be read")
        except Absent:
            raise _unusable("what was written is not there") from None
        finally:
            for name in names.values():
                store.delete(name)
        if store.temporary:
            yield "your store's credentials are temporary: a provider can deliver until they end, and no longer"
        if store.largest is not None and spec.limits.disk_mib << 20 > store.largest:
            yield f"an output of more than {store.largest >> 30} GiB cannot be put into your store"


def _asked(method: str, url: str, content: bytes | None = None) -> bytes:
    """What a provider would get, who has the address and nothing else."""
    try:
        with bound_patience(httpx.Client(timeout=10, trust_env=False)) as client:
            answer = client.request(method, url, content=content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unusable(f"its addresses do not answer ({type(error).__name__})") from None
    if not answer.is_success:
        raise _unusable(f"its addresses answer {method} with HTTP status {answer.status_code}")
    return answer.content


def _unusable(why: str) -> Refused:
    return Refused(
        f"your store cannot be used by a provider: {why}",
        field="store",
        remedy="nothing was spent. docs/store.md has a policy for S3 and a configuration for nginx",
    )

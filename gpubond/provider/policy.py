# SPDX-License-Identifier: Apache-2.0
"""Which jobs this machine takes: the reasons for which it gives one back."""

from __future__ import annotations

from gpubond.chain.market import JobTerms, Tier
from gpubond.jobs.spec import JobSpec
from gpubond.settings import GatewaySettings, ProviderSettings


def refusal_of_terms(terms: JobTerms) -> str | None:
    """Why the terms alone rule a job out, in words for its buyer; None if they do not."""
    if terms.tier != Tier.BASIC:
        return f"this worker serves the tier BASIC only, the job asks for {Tier(terms.tier).name}"
    return None


def refusal_of_spec(terms: JobTerms, spec: JobSpec, provider: ProviderSettings, gateway: GatewaySettings) -> str | None:
    """Why a specification rules a job out, in words for its buyer; None if it does not."""
    if spec.runtime not in provider.runtimes:
        return f"runtime {spec.runtime!r} is not served here; served: {', '.join(provider.runtimes)}"
    if not gateway.fetch_urls and any(item.url is not None for item in spec.inputs):
        return "this worker fetches no inputs by url: upload them"
    return _refusal_of_limits(terms, spec, provider, gateway)


def _refusal_of_limits(
    terms: JobTerms, spec: JobSpec, provider: ProviderSettings, gateway: GatewaySettings
) -> str | None:
    limits = spec.limits
    if limits.seconds > terms.longest_run:
        return f"limits.seconds = {limits.seconds} is beyond the {terms.longest_run} s that were hired"
    if limits.memory_mib > provider.max_memory_mib:
        return f"limits.memory_mib = {limits.memory_mib} is beyond this machine's {provider.max_memory_mib}"
    if limits.disk_mib > provider.max_disk_mib:
        return f"limits.disk_mib = {limits.disk_mib} is beyond this machine's {provider.max_disk_mib}"
    largest = max((item.size for item in spec.inputs), default=0)
    if largest > gateway.max_blob_mib << 20:
        return f"an input of {largest} bytes is beyond this gateway's {gateway.max_blob_mib} MiB"
    return None

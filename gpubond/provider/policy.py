# SPDX-License-Identifier: Apache-2.0
"""Which jobs this machine takes: the reasons for which it gives one back."""

from __future__ import annotations

from gpubond.chain.market import JobTerms, Tier
from gpubond.chain.money import Token
from gpubond.errors import BadSettings
from gpubond.jobs.packages import unmet
from gpubond.jobs.spec import JobSpec
from gpubond.provider.device_policy import refusal_here
from gpubond.provider.software import software
from gpubond.settings import ExactOfferSettings, GatewaySettings, OfferSettings, ProviderSettings


def refusal_of_terms(
    terms: JobTerms, *, offered_class: str | None, provider: ProviderSettings, token: Token
) -> str | None:
    """Why the terms alone rule a job out, in words for its buyer; None if they do not.

    Args:
        offered_class: the resource class of the offer that was hired; None if it is not known here.
    """
    tier = Tier(terms.tier).name
    if tier not in provider.tiers:
        return f"this worker serves the tier {', '.join(provider.tiers)} only, the job asks for {tier}"
    if provider.classes is not None and offered_class is not None and offered_class not in provider.classes:
        return f"class {offered_class!r} is not served here any more; served: {', '.join(provider.classes)}"
    if provider.longest_run is not None and terms.longest_run > provider.longest_run:
        return f"the job was hired for {terms.longest_run} s, this worker takes {provider.longest_run} s at most"
    if provider.min_price_per_hour is not None:
        # As `join` rounds the price of an offer, so that an offer at the floor is above it.
        floor = token.units_per_second(provider.min_price_per_hour, "provider.min_price_per_hour")
        if terms.escrowed < floor * terms.longest_run:
            least = f"{provider.min_price_per_hour} {token.symbol} an hour"
            return f"the job pays less than {least}, below which this worker takes none"
    return None


def refusal_of_spec(terms: JobTerms, spec: JobSpec, provider: ProviderSettings, gateway: GatewaySettings) -> str | None:
    """Why a specification rules a job out, in words for its buyer; None if it does not."""
    tier = Tier.BASIC if spec.tier is None else Tier.EXACT
    if terms.tier != tier:
        return f"the specification is for the tier {tier.name}, and {Tier(terms.tier).name} was hired"
    if spec.runtime not in provider.runtimes:
        return f"runtime {spec.runtime!r} is not served here; served: {', '.join(provider.runtimes)}"
    if not gateway.fetch_urls and any(item.url is not None for item in spec.inputs):
        return "this worker fetches no inputs by url: upload them"
    if spec.container is not None and provider.images is not None:
        # Whole parts of a name: ghcr.io/me allows ghcr.io/me/x and not ghcr.io/mean.
        name = spec.container.image.partition("@")[0] + "/"
        if not any(name.startswith(allowed.rstrip("/") + "/") for allowed in provider.images):
            return f"this worker runs images of {', '.join(provider.images)} only"
    if spec.python is not None and spec.python.requires is not None:
        lacking = unmet(spec.python.requires, software())
        if lacking:
            return f"this worker's Python lacks {', '.join(lacking)}"
    return _refusal_of_limits(terms, spec, provider, gateway) or refusal_here(spec, provider.max_memory_mib)


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


def refuse_contradiction(
    offer: OfferSettings, provider: ProviderSettings, exact: ExactOfferSettings | None = None
) -> None:
    """Compares what is offered with what is taken.

    Raises:
        BadSettings: the policy would decline jobs of the own offer, and every decline stays on the record.
    """
    clash: tuple[str, object, str] | None = None
    if provider.classes is not None and offer.resource_class not in provider.classes:
        clash = ("provider.classes", provider.classes, f"add {offer.resource_class!r} to it")
    elif provider.longest_run is not None and offer.longest_run > provider.longest_run:
        clash = ("provider.longest_run", provider.longest_run, f"raise it to offer.longest_run, {offer.longest_run}")
    elif provider.min_price_per_hour is not None and offer.price_per_hour < provider.min_price_per_hour:
        clash = (
            "provider.min_price_per_hour",
            str(provider.min_price_per_hour),
            f"lower it to offer.price_per_hour, {offer.price_per_hour}",
        )
    elif exact is not None and Tier.EXACT.name not in provider.tiers:
        clash = ("provider.tiers", provider.tiers, 'set it to ["BASIC", "EXACT"]')
    elif exact is not None and "exact" not in provider.runtimes:
        clash = ("provider.runtimes", provider.runtimes, 'add "exact" to it')
    if clash is not None:
        field, value, remedy = clash
        raise BadSettings(
            f"the worker would decline jobs of its own offer, because of {field}",
            field=field,
            value=value,
            remedy=f"{remedy}, or change the offer and run `gpubond provider join`",
        )

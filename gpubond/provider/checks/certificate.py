# SPDX-License-Identifier: Apache-2.0
"""Check of the gateway's own certificate: that it and its key belong together, hold now, and name the address."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from gpubond.chain.keys import others_can_read
from gpubond.provider.checks.check import Finding, Subject, failed, ok, warning

_RENEW = "renew it; the worker takes changed files up by itself"
# A certificate that is renewed by itself is so long before.
_SOON = timedelta(days=14)


def certificate(subject: Subject) -> Finding:
    """A gateway that speaks TLS itself shows a certificate that buyers can accept."""
    gateway = subject.gateway
    if gateway.tls_cert is None or gateway.tls_key is None:
        if urlsplit(gateway.url).scheme == "https":
            return ok("none of its own: what forwards gateway.url to it speaks TLS")
        return ok("none: requests are signed and contents checked, but not secret")
    chain, key = subject.home.resolve(gateway.tls_cert), subject.home.resolve(gateway.tls_key)
    problem = _unusable(chain, key)
    if problem is not None:
        return problem
    shown = x509.load_pem_x509_certificates(chain.read_bytes())[0]
    if others_can_read(key):
        return failed(f"other users can read the certificate's key {key}", f"chmod 600 {key}")
    if urlsplit(gateway.url).scheme != "https":
        return failed(
            f"the gateway speaks TLS, and buyers are told {gateway.url}",
            "let gateway.url begin with https:// and run `gpubond provider join`, or remove tls_cert and tls_key",
        )
    return _held_now(shown, datetime.now(UTC)) or _named(shown, subject) or _held_long(shown, datetime.now(UTC))


def server_context(chain: Path, key: Path) -> ssl.SSLContext:
    """For a listener that shows the certificate.

    Raises: OSError, ssl.SSLError, ValueError if the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key, password=lambda: "")
    return context


def _unusable(chain: Path, key: Path) -> Finding | None:
    for name, path in (("tls_cert", chain), ("tls_key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            return failed(f"{path} cannot be read: {error.strerror}", f"correct gateway.{name}")
    try:
        server_context(chain, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return failed(
                f"the key {key} is not that of the first certificate in {chain}",
                "name the files of one pair, the gateway's own certificate first in gateway.tls_cert",
            )
        return failed(
            f"{chain} and {key} cannot be used: {error.reason or error}",
            "name a PEM file with the chain in gateway.tls_cert and its key, without passphrase, in gateway.tls_key",
        )
    return None


def _held_now(shown: x509.Certificate, now: datetime) -> Finding | None:
    if now > shown.not_valid_after_utc:
        return failed(f"it has expired on {shown.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", _RENEW)
    if now < shown.not_valid_before_utc:
        return failed(
            f"it is valid from {shown.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on only",
            "wait until then, or set this machine's clock",
        )
    return None


def _named(shown: x509.Certificate, subject: Subject) -> Finding | None:
    host = urlsplit(subject.gateway.url or "").hostname or ""
    names = _names(shown)
    if any(_fits(host, name) for name in names):
        return None
    words = f"it is for {', '.join(names) or 'no name'}, and buyers are told {host}"
    remedy = f"get one for {host}, or set gateway.url to a name that it has and run `gpubond provider join`"
    # A proxy shows buyers a certificate of its own.
    return warning(words, remedy) if subject.gateway.trusted_proxies else failed(words, remedy)


def _held_long(shown: x509.Certificate, now: datetime) -> Finding:
    ends, left = shown.not_valid_after_utc, shown.not_valid_after_utc - now
    # Some hold for days only, and are renewed when a third is left.
    if left < min(_SOON, (ends - shown.not_valid_before_utc) / 3):
        return warning(f"it expires on {ends:%Y-%m-%d %H:%M} UTC, in {left.days} days", _RENEW)
    return ok(f"for {', '.join(_names(shown))}, valid until {ends:%Y-%m-%d}")


def _names(shown: x509.Certificate) -> list[str]:
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _fits(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        pass
    host, name = host.lower().rstrip("."), name.lower()
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return host == name

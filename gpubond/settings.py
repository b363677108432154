# SPDX-License-Identifier: Apache-2.0
"""Settings of a worker or a buyer: one TOML file, overridden by `GPUBOND_*`, read and validated once.

Each home folder has one `gpubond.toml`; `GPUBOND_CHAIN__RPC_URL` overrides `rpc_url` in `[chain]`.
Relative paths in the file are relative to the file. No setting holds a secret: the passphrase of a
keystore comes from `GPUBOND_PASSPHRASE`, `GPUBOND_PASSPHRASE_FILE` or a prompt.
"""

from __future__ import annotations

import difflib
import os
import re
import typing
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from web3 import Web3

from gpubond.errors import BadSettings

SETTINGS_FILE = "gpubond.toml"

# Chains on which the published development keys may sign.
DEVELOPMENT_CHAIN_IDS = (31337, 1337)


def _checksum(value: str) -> str:
    if not Web3.is_address(value):
        raise ValueError("is not an address: 0x and 40 hex digits are needed")
    return str(Web3.to_checksum_address(value))


Address = Annotated[str, AfterValidator(_checksum)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChainSettings(_Section):
    """The node and the contracts."""

    rpc_url: str
    deployment: Path = Field(description="deployments/<chain-id>.json as written by `ape run deploy`")
    confirmations: int = Field(default=0, ge=0, description="blocks to wait before an event counts")
    poll_seconds: float = Field(default=0.5, gt=0, le=60)
    ws_url: str | None = Field(
        default=None,
        pattern=r"^wss?://",
        description="where the node announces new blocks, which wake the worker; it is asked seldomer then",
    )
    coin_price: Decimal | None = Field(
        default=None, gt=0, description="whole tokens for one coin of the chain, to show gas in tokens as well"
    )


class KeySettings(_Section):
    """Who signs. Either a keystore file, or on a local chain a published development account."""

    keystore: Path | None = None
    dev_account: int | None = Field(default=None, ge=0, lt=10)

    @model_validator(mode="after")
    def _exactly_one(self) -> KeySettings:
        if (self.keystore is None) == (self.dev_account is None):
            raise ValueError("give exactly one of keystore and dev_account")
        return self


class OfferSettings(_Section):
    """What `gpubond provider join` offers. Durations in seconds, money in whole tokens."""

    resource_class: str = Field(alias="class", min_length=1, max_length=31, pattern=r"^[a-z0-9.-]+$")
    count: int = Field(default=1, ge=1, le=1024, description="jobs at once")
    price_per_hour: Decimal = Field(gt=0)
    collateral: Decimal = Field(gt=0, description="locked for each job, burnt if you vanish")
    backed_jobs: int | None = Field(
        default=None, ge=1, le=100_000, description="jobs that the stake covers: running, or not settled yet"
    )
    shortest_run: int = Field(default=60, ge=0, le=366 * 86_400, description="that each hire pays for at least")
    longest_run: int = Field(default=3600, ge=1, le=366 * 86_400)
    acknowledge_window: int = Field(default=900, ge=60, le=86_400)
    delivery_margin: int = Field(default=600, ge=1, le=90 * 86_400)
    challenge_window: int = Field(default=3600, ge=1, le=90 * 86_400)
    failure_cap_percent: Decimal = Field(default=Decimal(10), ge=0, le=100)
    max_fee_percent: Decimal = Field(default=Decimal(5), ge=0, le=100)
    valid_days: int = Field(default=365, ge=1, le=3650)
    answers_demands: bool | None = Field(
        default=None, description="show the result on chain if a buyer demands it; by default where the contract is"
    )

    @model_validator(mode="after")
    def _runs_in_order(self) -> OfferSettings:
        if self.shortest_run > self.longest_run:
            raise ValueError(f"shortest_run {self.shortest_run} is above longest_run {self.longest_run}")
        return self

    @property
    def stake_jobs(self) -> int:
        """Jobs that the stake covers at once; collateral stays locked until a job's challenge window ends."""
        return max(self.count, self.backed_jobs if self.backed_jobs is not None else 4 * self.count)


class ExactOfferSettings(_Section):
    """What is offered of tier EXACT beside [offer], from which all else is taken: results that anybody may dispute."""

    count: int = Field(default=1, ge=1, le=1024, description="jobs at once, beside those of [offer]")
    price_per_hour: Decimal | None = Field(default=None, gt=0, description="by default as [offer]")
    collateral: Decimal = Field(gt=0, description="locked for each job, and lost with a wrong result")
    challenge_window: int = Field(ge=1, le=90 * 86_400, description="in which a result may be challenged")
    backed_jobs: int | None = Field(default=None, ge=1, le=100_000, description="jobs that the stake covers")

    @property
    def stake_jobs(self) -> int:
        """Jobs that the stake covers at once; collateral stays locked until a job's last game is over."""
        return max(self.count, self.backed_jobs if self.backed_jobs is not None else 4 * self.count)


class ProviderSettings(_Section):
    """The policy of a worker."""

    address: Address = Field(description="the owner's address, which is the provider")
    runtimes: tuple[Literal["python", "cuda", "container", "exact"], ...] = Field(
        default=("python", "cuda", "exact"), min_length=1
    )
    container_engine: Literal["podman", "docker"] | None = Field(
        default=None, description="what runs containers; None: podman, or docker where that is what works"
    )
    images: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="what names of containers' images may begin with; None: any public one"
    )
    max_image_mib: int = Field(default=16_384, ge=1, description="of one container image, unpacked")
    image_cache_mib: int = Field(default=65_536, ge=1, description="of all images; the longest unused go first")
    private_registries: tuple[str, ...] = Field(
        default=(), description="host[:port] of registries of your own, reached on private addresses and by plain http"
    )
    tiers: tuple[Literal["BASIC", "EXACT"], ...] = Field(default=("BASIC",), min_length=1)
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="resource classes whose jobs are taken; None: every offered one"
    )
    min_price_per_hour: Decimal | None = Field(default=None, gt=0, description="in tokens; cheaper jobs are declined")
    longest_run: int | None = Field(default=None, ge=1, description="seconds; longer hires are declined")
    max_memory_mib: int = Field(default=4096, ge=64)
    max_disk_mib: int = Field(default=4096, ge=16)
    storage_mib: int = Field(default=20_480, ge=64, description="blobs of one buyer")
    total_storage_mib: int = Field(default=204_800, ge=64, description="blobs of all buyers")
    min_free_mib: int = Field(default=1024, ge=0, description="free disk below which no uploads are taken")
    retention_hours: int = Field(default=168, ge=1, description="blobs and logs are kept so long after a job's end")
    reconcile_seconds: float = Field(default=120, gt=0)
    answer_gas_gwei: Decimal = Field(
        default=Decimal(50), gt=0, description="above this gas price an answer waits, half its time at most"
    )
    collect_fees_from: Decimal = Field(
        default=Decimal(1), ge=0, description="fees of answers, in whole tokens, that pay for collecting them"
    )
    settle_wait_seconds: int = Field(
        default=0, ge=0, le=86_400, description="that a due payment may wait for others, so that they share the gas"
    )
    grace_seconds: float = Field(default=30, ge=0, le=86_400, description="that runs may go on after SIGTERM")
    low_gas_jobs: int = Field(default=20, ge=0, description="warn when gas money is left for fewer jobs")


class GatewaySettings(_Section):
    """Where buyers deliver inputs and fetch outputs; or without a listening port, how buyers' stores are reached."""

    listen: bool = Field(default=True, description="false: no port; jobs come and go through their buyers' stores")
    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=1, le=65_535)
    url: str | None = Field(
        default=None, pattern=r"^https?://", max_length=128, description="how buyers reach it; needed if it listens"
    )
    max_blob_mib: int = Field(default=1024, ge=1)
    max_connections: int = Field(default=256, ge=8, le=8192, description="at once, from all addresses")
    max_connections_per_address: int = Field(default=32, ge=1, description="at once, from one IPv4 or IPv6/64")
    trusted_proxies: tuple[str, ...] = Field(default=(), description="addresses whose X-Forwarded-For counts")
    tls_cert: Path | None = Field(default=None, description="certificate chain, PEM; read again when it changes")
    tls_key: Path | None = Field(default=None, description="its key, PEM, without passphrase")
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=1, le=65_535, description="Prometheus metrics; none if unset")
    fetch_urls: bool = Field(default=True, description="fetch inputs that a job names by url")
    fetch_from_private_addresses: bool = Field(default=False, description="for tests on one machine only")
    s3_endpoint: str = Field(
        default="https://{bucket}.s3.amazonaws.com", pattern=r"^https?://.*\{bucket\}", description="of s3:// urls"
    )

    @model_validator(mode="after")
    def _certificate_and_key(self) -> GatewaySettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("give both tls_cert and tls_key, or neither")
        return self

    @model_validator(mode="after")
    def _listens_somewhere(self) -> GatewaySettings:
        if self.listen and self.url is None:
            raise ValueError("give url, how buyers reach it; or listen = false, for a provider without a gateway")
        return self


class WatchtowerSettings(_Section):
    """What a watchtower computes again, with what, and what it may stake."""

    share: Decimal = Field(default=Decimal(1), ge=0, le=1, description="of the committed EXACT jobs, drawn by lot")
    max_bond: Decimal | None = Field(default=None, gt=0, description="whole tokens a game; None: it never challenges")
    sources: tuple[str, ...] = Field(
        default=(), description="folders and https addresses where specifications and inputs lie by their SHA-256"
    )
    max_blob_mib: int = Field(default=1024, ge=1, description="of one input")
    max_memory_mib: int = Field(default=4096, ge=256, description="of a run")
    max_disk_mib: int = Field(default=16_384, ge=16, description="of inputs and states of all jobs that are watched")
    fetch_from_private_addresses: bool = Field(default=False, description="for tests on one machine only")


class StoreSettings(_Section):
    """A buyer's own store: how jobs reach providers without a gateway. Credentials of S3 come from where AWS' own tools
    take them, those of a web server from ~/.netrc."""

    url: str = Field(
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?|https?://[^\s?#@]+)$",
        description="s3://bucket/prefix, or the address of a web server that takes PUT",
    )
    endpoint_url: str | None = Field(default=None, pattern=r"^https?://", description="of another S3 than Amazon's")
    public_notes: bool = Field(
        default=False, description="S3: anybody may read <prefix>/note/, so that a hire names a shorter address"
    )
    always: bool = Field(default=False, description="use the store also with providers that have a gateway")

    @model_validator(mode="after")
    def _https(self) -> StoreSettings:
        for name in ("url", "endpoint_url"):
            value = f"{getattr(self, name) or ''}/"
            if value.startswith("http://") and not re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])[:/]", value):
                raise ValueError(f"{name} must be https: what is read and written is a job's data")
        return self


class Settings(BaseSettings):
    """All settings of one home folder."""

    model_config = SettingsConfigDict(env_prefix="GPUBOND_", env_nested_delimiter="__", extra="ignore", frozen=True)

    chain: ChainSettings
    key: KeySettings
    owner_key: KeySettings | None = None
    provider: ProviderSettings | None = None
    gateway: GatewaySettings | None = None
    offer: OfferSettings | None = None
    exact_offer: ExactOfferSettings | None = None
    store: StoreSettings | None = None
    watchtower: WatchtowerSettings = WatchtowerSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file."""
        path = _current_file.get("path")
        return (env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path))


# pydantic-settings asks for its sources on the class, so the file is handed over here.
_current_file: dict[str, Path] = {}


class Home:
    """A folder with settings, store, blobs and work of one worker or buyer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.expanduser().absolute()

    @property
    def settings_file(self) -> Path:
        """The TOML file."""
        return self.directory / SETTINGS_FILE

    @property
    def store_file(self) -> Path:
        """The SQLite store."""
        return self.directory / "store.sqlite"

    @property
    def blobs(self) -> Path:
        """Content-addressed inputs and outputs."""
        return self.directory / "blobs"

    @property
    def work(self) -> Path:
        """Work folders of running jobs."""
        return self.directory / "work"

    def resolve(self, path: Path) -> Path:
        """A path from the settings file."""
        path = path.expanduser()
        return path if path.is_absolute() else self.directory / path

    def load(self) -> Settings:
        """Reads and validates the settings.

        Raises:
            BadSettings: no file, no TOML, unknown or wrong fields; each is named.
        """
        if not self.settings_file.is_file():
            raise BadSettings(
                "there are no settings yet",
                field="--home",
                value=str(self.directory),
                remedy="run `gpubond provider init` (a GPU owner) or `gpubond account init` (a buyer), "
                "or name another folder with --home",
            )
        _check_names(self.settings_file)
        _current_file["path"] = self.settings_file
        try:
            return Settings()  # type: ignore[call-arg]  # the sources supply the fields
        except ValidationError as error:
            raise _wrong(error, self.settings_file) from None


# What pydantic says, as a person would.
_FORMS = {"^https?://": "must begin with http:// or https://", "^wss?://": "must begin with ws:// or wss://"}


def _wrong(error: ValidationError, path: Path) -> BadSettings:
    """The first thing that is wrong, where it stands, and what it was meant to be."""
    # A misspelt name first: what it was meant to be is then missing as well.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    names = [str(part) for part in first["loc"]]
    where, value, words = ".".join(names), first.get("input"), first["msg"].removeprefix("Value error, ")
    words = words.replace("Input should be", "must be")
    variable = "GPUBOND_" + "__".join(names).upper()
    place = f"the environment's {variable}" if variable in os.environ else str(path)
    remedy = f"correct it in {place}"
    if first["type"] == "missing":
        words = "is missing" if len(names) > 1 else "the section is missing"
        remedy = f"add it to {path}; `init` writes a whole file into a new folder, to copy from"
    elif first["type"] == "extra_forbidden":
        words, value = "there is no such setting", None
        near = difflib.get_close_matches(names[-1], _setting_names(names[0]), 1)
        remedy += f": perhaps {names[0]}.{near[0]} is meant" if near else ", or remove it"
    elif first["type"] == "string_pattern_mismatch":
        pattern = str(first.get("ctx", {}).get("pattern"))
        words = _FORMS.get(pattern, f"is not of the form {pattern}")
    scalar = value if isinstance(value, str | int | float | bool) else None
    return BadSettings(f"{where}: {words}", field=where, value=scalar, remedy=remedy)


def _setting_names(section: str) -> list[str]:
    kinds = typing.get_args(Settings.model_fields[section].annotation) or (Settings.model_fields[section].annotation,)
    return [
        field.alias or name
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, field in kind.model_fields.items()
    ]


def _check_names(path: Path) -> None:
    # The environment may hold GPUBOND_* of other programs, so unknown names are refused in the file only.
    import tomllib

    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(
            f"the settings are not TOML: {error}",
            field="settings file",
            value=str(path),
            remedy="correct that line; text stands in quotes, a section's name in brackets",
        ) from None
    unknown = sorted(set(document) - set(Settings.model_fields))
    if unknown:
        near = difflib.get_close_matches(unknown[0], Settings.model_fields, 1)
        raise BadSettings(
            "there is no such section" if isinstance(document[unknown[0]], dict) else "it stands outside any section",
            field=unknown[0],
            remedy=f"correct it in {path}{f': perhaps [{near[0]}] is meant' if near else ''}; sections are: "
            + ", ".join(Settings.model_fields),
        )


def default_home(role: str) -> Path:
    """The home folder when none is named: `GPUBOND_HOME`, else `~/.gpubond/<role>`."""
    named = os.environ.get("GPUBOND_HOME")
    return Path(named) if named else Path.home() / ".gpubond" / role

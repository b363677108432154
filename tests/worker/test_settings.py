# SPDX-License-Identifier: Apache-2.0
"""Settings: one file, overridden by the environment, every wrong field named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubond.errors import BadSettings
from gpubond.settings import Home

GOOD = """
[chain]
rpc_url = "http://127.0.0.1:8545"
deployment = "31337.json"

[key]
dev_account = 3
"""


def offer_with(line: str) -> tuple[str, str]:
    """The change that adds an offer with this line to the settings."""
    return ("[key]", f'[offer]\nclass = "cpu-sim"\nprice_per_hour = 1\ncollateral = 1\n{line}\n[key]')


def home_with(tmp_path: Path, text: str) -> Home:
    home = Home(tmp_path / "home")
    home.directory.mkdir()
    home.settings_file.write_text(text)
    return home


def test_the_file_is_read_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    home = home_with(tmp_path, GOOD)
    settings = home.load()
    assert settings.key.dev_account == 3
    assert home.resolve(settings.chain.deployment) == home.directory / "31337.json"


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUBOND_CHAIN__RPC_URL", "http://127.0.0.1:9999")
    assert home_with(tmp_path, GOOD).load().chain.rpc_url == "http://127.0.0.1:9999"


@pytest.mark.parametrize(
    ("line", "shortest", "window"),
    [
        ("", 60, 900),
        ("shortest_run = 60\nlongest_run = 60\nacknowledge_window = 60", 60, 60),
        ("shortest_run = 0\nacknowledge_window = 86400", 0, 86_400),
    ],
)
def test_an_offer_within_the_contracts_bounds_is_read(tmp_path: Path, line: str, shortest: int, window: int) -> None:
    offer = home_with(tmp_path, GOOD.replace(*offer_with(line))).load().offer
    assert offer is not None
    assert (offer.shortest_run, offer.acknowledge_window) == (shortest, window)


def test_two_homes_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = home_with(tmp_path / "a", GOOD)
    second = home_with(tmp_path / "b", GOOD.replace("= 3", "= 4"))
    assert (first.load().key.dev_account, second.load().key.dev_account) == (3, 4)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as caught:
        Home(tmp_path / "nowhere").load()
    assert "init" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("dev_account = 3", ""), "key"),
        (("dev_account = 3", 'dev_account = 3\nkeystore = "k.json"'), "key"),
        (("dev_account = 3", "dev_account = 30"), "key.dev_account"),
        (("[key]", "colour = 1\n[key]"), "chain.colour"),
        (("[key]", "confirmations = -1\n[key]"), "chain.confirmations"),
        (("[chain]", "[nonsense]\nx = 1\n[chain]"), "nonsense"),
        (("[chain]", "[chain"), "settings file"),
        (("[key]", '[provider]\naddress = "0x12"\n[key]'), "provider.address"),
        (("[key]", '[gateway]\nurl = "ftp://x"\n[key]'), "gateway.url"),
        (
            ("[key]", '[offer]\nclass = "cpu-sim"\nprice_per_hour = 0\ncollateral = 1\n[key]'),
            "offer.price_per_hour",
        ),
        (offer_with("acknowledge_window = 59"), "offer.acknowledge_window"),
        (offer_with("acknowledge_window = 86401"), "offer.acknowledge_window"),
        (offer_with("shortest_run = -1"), "offer.shortest_run"),
        (offer_with("shortest_run = 61\nlongest_run = 60"), "offer"),
    ],
)
def test_a_wrong_setting_is_named_with_a_remedy(tmp_path: Path, change: tuple[str, str], field: str) -> None:
    with pytest.raises(BadSettings) as caught:
        home_with(tmp_path, GOOD.replace(*change)).load()
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("min_price = 1", "provider.min_price"),
        ("min_price_per_hour = 0", "provider.min_price_per_hour"),
        ('tiers = ["REPLICATED"]', "provider.tiers.0"),
        ("runtimes = []", "provider.runtimes"),
        ("longest_run = 0", "provider.longest_run"),
        ("grace_seconds = -1", "provider.grace_seconds"),
    ],
)
def test_a_policy_that_is_misspelt_or_impossible_is_refused_by_name(tmp_path: Path, line: str, field: str) -> None:
    address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    text = f'{GOOD}\n[provider]\naddress = "{address}"\n{line}\n'
    with pytest.raises(BadSettings) as refused:
        home_with(tmp_path, text).load()
    assert refused.value.field == field
    assert "gpubond.toml" in (refused.value.remedy or "")


def test_the_policy_of_the_file_is_read(tmp_path: Path) -> None:
    policy = (
        'classes = ["cpu-sim"]\nmin_price_per_hour = 1.5\nlongest_run = 60\nruntimes = ["python"]\nlow_gas_jobs = 5'
    )
    text = f'{GOOD}\n[provider]\naddress = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"\n{policy}\n'
    provider = home_with(tmp_path, text).load().provider
    assert provider is not None
    assert (provider.classes, str(provider.min_price_per_hour), provider.longest_run) == (("cpu-sim",), "1.5", 60)
    assert (provider.runtimes, provider.tiers, provider.low_gas_jobs) == (("python",), ("BASIC",), 5)

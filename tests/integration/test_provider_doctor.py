# SPDX-License-Identifier: Apache-2.0
"""`gpubond provider doctor` on machines with things wrong: it sees these, only these, and says how to mend them."""

from __future__ import annotations

import json
import signal
import socket
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from web3.types import RPCEndpoint

from gpubond.chain.development import dev_account
from gpubond.chain.session import Session
from gpubond.cli.provider_money import _owner_session
from gpubond.devnet import Devnet, free_port
from gpubond.provider.checks import CHECKS

from .marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
OWNER, OPERATOR = 1, 2
SICK_OWNER, SICK_OPERATOR = 3, 4


@pytest.fixture(scope="module")
def healthy(market: Marketplace) -> Path:
    return market.provider("healthy", OWNER, OPERATOR)


def findings(document: Any, outcome: str) -> dict[str, Any]:
    return {item["check"]: item for item in document["checks"] if item["outcome"] == outcome}


def doctor(market: Marketplace, home: Path, environment: dict[str, str] | None = None) -> tuple[int, Any]:
    ran = market.run("provider", "doctor", "--home", str(home), environment=environment)
    assert [item["check"] for item in ran.document["checks"]] == [check.name for check in CHECKS]
    for item in ran.document["checks"]:
        assert item["found"], item
        # A failure always says how to mend it, and what is well needs no mending.
        assert bool(item["remedy"]) == (item["outcome"] in ("failed", "warning")), item
    assert ran.document["ok"] == (ran.code == 0)
    return ran.code, ran.document


def test_every_check_comes_after_those_that_it_needs() -> None:
    seen: set[str] = set()
    for check in CHECKS:
        assert set(check.needs) <= seen, check.name
        assert check.name not in seen
        seen.add(check.name)


def test_a_machine_that_is_well(market: Marketplace, healthy: Path) -> None:
    nonces = [market.node.eth.get_transaction_count(dev_account(n).address) for n in (OWNER, OPERATOR)]
    code, document = doctor(market, healthy)
    assert (code, findings(document, "failed"), findings(document, "skipped")) == (0, {}, {}), document
    # No GPU is no failure where cpu-sim is offered, and is said.
    gpu = findings(document, "ok")["gpu"]["found"]
    assert "none" in gpu and "cpu-sim" in gpu
    assert [market.node.eth.get_transaction_count(dev_account(n).address) for n in (OWNER, OPERATOR)] == nonces


def test_the_port_of_a_running_worker_is_its_own(market: Marketplace, healthy: Path) -> None:
    worker = market.start_worker(healthy)
    try:
        code, document = doctor(market, healthy)
        assert code == 0, document
        assert "this provider's worker" in findings(document, "ok")["port"]["found"]
    finally:
        assert market.stop_worker(worker, signal.SIGTERM) == 0


def test_four_things_wrong_are_seen_and_no_others(market: Marketplace) -> None:
    home = market.provider("sick", SICK_OWNER, SICK_OPERATOR)
    settings = (home / "gpubond.toml").read_text()
    port = int(next(line for line in settings.splitlines() if line.startswith("port")).split("=")[1])

    # 1. The operator has no gas money. 2. The stake is gone. 3. A folder that cannot be written. 4. A foreign program.
    operator = str(dev_account(SICK_OPERATOR).address)
    rpc(market, "anvil_setBalance", operator, "0x0")
    with _owner_session(home) as session:
        take_the_stake_out(session)
    (home / "blobs").write_text("in the way")
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind(("127.0.0.1", port))
        foreign.listen()
        code, document = doctor(market, home)
        text = market.run("provider", "doctor", "--home", str(home))
    assert text.code == code == 1
    failed = findings(document, "failed")
    assert set(failed) == {"gas-operator", "stake", "store", "port"}, document
    assert operator in failed["gas-operator"]["remedy"] and "send" in failed["gas-operator"]["remedy"]
    assert "provider join" in failed["stake"]["remedy"]
    assert str(home / "blobs") in failed["store"]["remedy"]
    assert str(port) in failed["port"]["remedy"] and "gateway.port" in failed["port"]["remedy"]
    # What could not be made for that reason says so; all else was looked at and is well.
    skipped = findings(document, "skipped")
    assert {name: item["found"] for name, item in skipped.items()} == {
        "sandbox": "not checked: it needs store",
        "containers": "not checked: it needs store",
        "allowance": "not checked: it needs stake",
        "offer": "not checked: it needs store",
        "exact-offer": "not checked: it needs store",
        "endpoint": "not checked: it needs store",
        "gateway": "not checked: it needs port",
    }
    assert findings(document, "warning").keys() <= {"disk", "memory"}


def take_the_stake_out(session: Session) -> None:
    state = session.contracts.provider(session.address)
    session.send(session.contracts.allow(0, 0), "test:allow")
    session.send(session.contracts.withdraw_stake(state.stake, session.address), "test:withdraw")


def test_other_things_wrong(market: Marketplace, tmp_path: Path, anvil_binary: Path) -> None:
    """A node of another chain, a key file that all can read, a policy that clashes; then a lost passphrase file."""
    home = tmp_path / "keys"
    passphrase = {"GPUBOND_PASSPHRASE": "not much of a secret"}
    init = market.run(
        *("provider", "init", "--home", str(home), *market.chain_options, "--port", str(free_port())),
        *("--price-per-hour", "36", "--collateral", "5"),
        environment=passphrase,
    )
    assert init.code == 0, init
    (home / "operator.keystore.json").chmod(0o644)
    settings = home / "gpubond.toml"
    settings.write_text(settings.read_text().replace("[provider]\n", "[provider]\nlongest_run = 60\n"))
    other = Devnet(tmp_path / "other", free_port(), 1337, anvil=anvil_binary)
    other.up()
    try:
        environment = {"GPUBOND_CHAIN__RPC_URL": other.url}
        code, document = doctor(market, home, environment)
        assert code == 1
        failed = findings(document, "failed")
        assert set(failed) == {"key", "chain-id", "policy"}, document
        assert failed["key"]["remedy"] == f"chmod 600 {home / 'operator.keystore.json'}"
        assert "31337" in failed["chain-id"]["remedy"] and "1337" in failed["chain-id"]["found"]
        assert "provider.longest_run" in failed["policy"]["found"]
        assert {"contracts", "gas-operator", "registered", "stake", "offer"} <= set(findings(document, "skipped"))

        (home / "operator.keystore.json").chmod(0o600)
        environment["GPUBOND_PASSPHRASE_FILE"] = str(tmp_path / "nowhere")
        failed = findings(doctor(market, home, environment)[1], "failed")
        assert "GPUBOND_PASSPHRASE_FILE" in failed["key"]["remedy"]
    finally:
        other.down()


def test_a_deployment_whose_code_is_another(market: Marketplace, healthy: Path, tmp_path: Path) -> None:
    document = json.loads(market.deployment.read_text())
    document["contracts"]["JobEscrow"]["code_hash"] = "0x" + "ab" * 32
    wrong = tmp_path / "31337.json"
    wrong.write_text(json.dumps(document))
    code, found = doctor(market, healthy, {"GPUBOND_CHAIN__DEPLOYMENT": str(wrong)})
    failed = findings(found, "failed")
    assert (code, set(failed)) == (1, {"contracts"}), found
    assert "do not use it" in failed["contracts"]["remedy"]


def test_a_node_that_does_not_answer_leaves_the_other_checks(market: Marketplace, healthy: Path) -> None:
    environment = {"GPUBOND_CHAIN__RPC_URL": f"http://127.0.0.1:{free_port()}"}
    code, document = doctor(market, healthy, environment)
    assert (code, set(findings(document, "failed"))) == (1, {"node"}), document
    assert {"settings", "key", "store", "deployment", "port", "gateway"} <= set(findings(document, "ok"))
    # A warning where this user can make no control groups.
    assert "sandbox" in {**findings(document, "ok"), **findings(document, "warning")}


def test_an_address_that_leads_elsewhere(market: Marketplace, healthy: Path) -> None:
    code, document = doctor(market, healthy, {"GPUBOND_GATEWAY__URL": market.devnet.url})
    assert (code, set(findings(document, "failed"))) == (1, {"gateway"}), document
    code, document = doctor(market, healthy, {"GPUBOND_GATEWAY__URL": f"http://127.0.0.1:{free_port()}"})
    assert (code, set(findings(document, "failed"))) == (1, {"gateway"}), document


@dataclass(frozen=True)
class Tls:
    """Certificates of an authority of this test's own, for a provider's gateway."""

    folder: Path
    home: Path
    ca: trustme.CA

    def variables(self, *names: str, trusted: bool = True, **given: Any) -> dict[str, str]:
        """The environment in which the gateway shows a new certificate for these names."""
        made = self.ca.issue_cert(*(names or ("127.0.0.1",)), **given)
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        key.chmod(0o600)
        self.ca.cert_pem.write_to_path(self.folder / "ca.pem")
        settings = tomllib.loads((self.home / "gpubond.toml").read_text())
        found = {
            "GPUBOND_GATEWAY__TLS_CERT": str(chain),
            "GPUBOND_GATEWAY__TLS_KEY": str(key),
            "GPUBOND_GATEWAY__URL": settings["gateway"]["url"].replace("http://", "https://"),
        }
        return found | ({"SSL_CERT_FILE": str(self.folder / "ca.pem")} if trusted else {})


@pytest.fixture
def tls(healthy: Path, tmp_path: Path) -> Tls:
    return Tls(tmp_path, healthy, trustme.CA())


def test_a_gateway_with_tls_is_reached_with_and_without_its_worker(
    market: Marketplace, healthy: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = tls.variables("127.0.0.1", "gpu.example.org")
    code, document = doctor(market, healthy, variables)
    assert code == 0, document
    assert "gpu.example.org" in findings(document, "ok")["certificate"]["found"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    worker = market.start_worker(healthy)
    try:
        code, document = doctor(market, healthy)
        assert code == 0, document
        assert "this provider's worker" in findings(document, "ok")["port"]["found"]
    finally:
        assert market.stop_worker(worker, signal.SIGTERM) == 0


def test_a_certificate_that_buyers_would_not_accept(market: Marketplace, healthy: Path, tls: Tls) -> None:
    now = datetime.now(UTC)

    def wrong(variables: dict[str, str], check: str = "certificate", outcome: str = "failed") -> Any:
        code, document = doctor(market, healthy, variables)
        assert (code, set(findings(document, "failed"))) == ((1, {check}) if outcome == "failed" else (0, set()))
        return findings(document, outcome)[check]

    expired = wrong(tls.variables(not_before=now - timedelta(days=90), not_after=now - timedelta(hours=1)))
    assert "has expired" in expired["found"] and "renew" in expired["remedy"]
    early = wrong(tls.variables(not_before=now + timedelta(hours=1)))
    assert "valid from" in early["found"] and "clock" in early["remedy"]
    soon = wrong(
        tls.variables(not_before=now - timedelta(days=80), not_after=now + timedelta(days=10, hours=1)),
        outcome="warning",
    )
    assert "in 10 days" in soon["found"] and "renew" in soon["remedy"]

    named = wrong(tls.variables("gpu.example.org", "*.example.net"))
    assert "127.0.0.1" in named["found"] and "gpu.example.org" in named["found"] and "gateway.url" in named["remedy"]
    # What buyers see is the proxy's; the check of the address itself tells whether they accept it.
    behind = tls.variables("gpu.example.org") | {"GPUBOND_GATEWAY__TRUSTED_PROXIES": '["127.0.0.1"]'}
    code, document = doctor(market, healthy, behind)
    assert (code, set(findings(document, "failed")), set(findings(document, "skipped"))) == (1, {"gateway"}, set())
    assert "certificate" in findings(document, "warning")

    untrusted = wrong(tls.variables(trusted=False), "gateway")
    assert "do not accept the certificate" in untrusted["found"] and "chain" in untrusted["remedy"]

    variables = tls.variables()
    key = Path(variables["GPUBOND_GATEWAY__TLS_KEY"])
    own = key.read_bytes()
    key.write_bytes(tls.ca.issue_cert("127.0.0.1").private_key_pem.bytes())
    foreign = wrong(variables)
    assert "not that of the first certificate" in foreign["found"] and "one pair" in foreign["remedy"]
    key.write_bytes(b"no key")
    assert "without passphrase" in wrong(variables)["remedy"]
    key.write_bytes(own)
    key.chmod(0o644)
    assert wrong(variables)["remedy"] == f"chmod 600 {key}"
    key.unlink()
    assert "gateway.tls_key" in wrong(variables)["remedy"]
    plain = wrong(tls.variables() | {"GPUBOND_GATEWAY__URL": "http://127.0.0.1:8700"})
    assert "https://" in plain["remedy"]


def test_a_class_that_the_machine_is_not(market: Marketplace, healthy: Path) -> None:
    code, document = doctor(market, healthy, {"GPUBOND_OFFER__CLASS": "nvidia-b200-999gb"})
    failed = findings(document, "failed")
    assert code == 1 and set(failed) == {"gpu"}, document
    assert "driver" in failed["gpu"]["remedy"] or "class" in failed["gpu"]["remedy"]


def test_a_clock_behind_the_chain_and_an_offer_about_to_expire(market: Marketplace, anvil_binary: Path) -> None:
    """Last, since it moves the chain's time: on a local chain that is a warning."""
    home = market.directory / "healthy"
    rpc(market, "evm_increaseTime", 360 * 86_400)
    rpc(market, "evm_mine")
    code, document = doctor(market, home)
    warnings = findings(document, "warning")
    assert code == 0 and {"clock", "offer"} <= set(warnings), document
    assert "expires" in warnings["offer"]["found"]
    rpc(market, "evm_increaseTime", 10 * 86_400)
    rpc(market, "evm_mine")
    code, document = doctor(market, home)
    assert (code, set(findings(document, "failed"))) == (1, {"offer"}), document
    assert "provider join" in findings(document, "failed")["offer"]["remedy"]


def test_no_settings_at_all(market: Marketplace, tmp_path: Path) -> None:
    code, document = doctor(market, tmp_path / "none")
    assert (code, set(findings(document, "failed"))) == (1, {"settings"})
    assert "provider init" in findings(document, "failed")["settings"]["remedy"]
    assert set(findings(document, "skipped")) == {check.name for check in CHECKS} - {"settings"}


def rpc(market: Marketplace, method: str, *parameters: Any) -> None:
    answer = market.node.provider.make_request(RPCEndpoint(method), list(parameters))
    assert "error" not in answer, answer

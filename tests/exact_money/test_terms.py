# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of terms, compiled, against exact rational numbers: small domains wholly, the edges at random.

The sweep runs in anvil, since it makes some 400,000 calls of the compiled contract; the edges run on titanoboa.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubond.devnet import find_anvil, free_port
from tests.mutation.chain import ROOT, Chain, Deployed, Program, compile_contract, compile_file
from tests.unit.reference import BASIC, EXACT, TERMS_FIELDS

Struct = dict[str, Any]

BPS = 10_000
CAPS = (0, 1, 3_333, 5_000, 9_999, 10_000)
ZERO = "0x" + "00" * 20
SWEEP, HARNESS = "0x" + "51" * 20, "0x" + "52" * 20
ANVIL_CACHE = ROOT / ".cache" / "anvil"


def terms(**changes: Any) -> Struct:
    """Terms with nothing in them but what changes."""
    empty = {"address": ZERO, "bytes32": bytes(32), "uint256": 0}
    return {name: empty[kind] for name, kind in TERMS_FIELDS.items()} | {"tier": BASIC, "tasks": 1} | changes


def exact_pay(job: Struct, exit_status: int, elapsed: int, seconds_used: int, done: int) -> Fraction:
    """What the specification says that a commitment earns, before rounding."""
    escrowed = Fraction(job["price"] + job["price_per_second"] * job["longest_run"])
    if job["tier"] == EXACT:
        return escrowed
    by_tasks = escrowed * Fraction(done, job["tasks"])
    bounds = [by_tasks]
    if job["price_per_second"]:
        by_time = Fraction(min(seconds_used, elapsed, job["longest_run"]) * job["price_per_second"])
        bounds = [by_time] if exit_status else [by_tasks, by_time]
    if exit_status:
        bounds.append(escrowed * Fraction(job["failure_cap_bps"], BPS))
    return min(bounds)


@pytest.fixture(scope="module")
def harness_program() -> Program:
    return compile_contract("mocks/TermsHarness")


def deployed_code(program: Program) -> bytes:
    """What a contract is once it has been deployed."""
    chain = Chain()
    return chain.code(chain.deploy("any", program, program.abi, ZERO))


Sweep = Callable[..., list[int]]


@pytest.fixture(scope="module")
def sweep(harness_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """Calls a function of Sweep.vy, which calls the compiled TermsHarness, in an EVM that is fast enough."""
    program = compile_file(Path(__file__).with_name("Sweep.vy"))
    contract = Deployed("sweep", SWEEP, program.abi)
    codes = {SWEEP: deployed_code(program), HARNESS: deployed_code(harness_program)}
    port = free_port()
    log = tmp_path_factory.mktemp("anvil") / "log"
    command = [str(find_anvil(ANVIL_CACHE)), "--port", str(port), "--hardfork", "cancun", "--disable-block-gas-limit"]
    command += ["--memory-limit", str(2**30)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:

        def rpc(method: str, *params: Any) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            assert "error" not in answer, answer["error"]
            return answer["result"]

        def call(function: str, *args: Any) -> list[int]:
            data = contract.functions[function, len(args) + 1].call_data([HARNESS, *args])
            output = rpc("eth_call", {"to": SWEEP, "data": "0x" + data.hex(), "gas": hex(2**50)}, "latest")
            (values,) = decode(["uint256[]"], bytes.fromhex(output[2:]))
            return list(values)

        try:
            for attempt in range(200):
                try:
                    rpc("eth_chainId")
                    break
                except OSError:
                    assert attempt < 199, log.read_text()
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
            rpc("evm_mine")  # the first block has no time worth the name
            for address, code in codes.items():
                rpc("anvil_setCode", address, "0x" + code.hex())
            yield call
        finally:
            process.terminate()


def check_pays(sweep: Sweep, job: Struct, most_time: int) -> int:
    """Every commitment to a job; returns how many there were."""
    escrowed = job["price"] + job["price_per_second"] * job["longest_run"]
    times = range(most_time + 1)
    pays = sweep("pays", job, list(CAPS), most_time)
    cases = list(product(CAPS, (0, 1), times, times, range(job["tasks"] + 1)))
    earned: dict[tuple[int, ...], int] = {}
    for case, pay in zip(cases, pays, strict=True):
        cap, exit_status, elapsed, seconds, done = case
        exact = exact_pay(job | {"failure_cap_bps": cap}, exit_status, elapsed, seconds, done)
        # Rounded down, by less than one: never for the provider, who calls.
        assert pay == exact.numerator // exact.denominator, (job, case, pay)
        assert 0 <= pay <= exact <= escrowed, (job, case, pay)
        assert exact - pay < 1
        earned[case] = pay
        # More seconds claimed or more tasks done never earn less.
        if seconds:
            assert pay >= earned[cap, exit_status, elapsed, seconds - 1, done], (job, case)
        if done:
            assert pay >= earned[cap, exit_status, elapsed, seconds, done - 1], (job, case)
        # Nor does more time passed, nor a higher cap.
        if elapsed:
            assert pay >= earned[cap, exit_status, elapsed - 1, seconds, done], (job, case)
        if cap:
            lower = CAPS[CAPS.index(cap) - 1]
            assert pay >= earned[lower, exit_status, elapsed, seconds, done], (job, case)
    return len(pays)


def test_every_pay_by_the_second(sweep: Sweep) -> None:
    combinations = 0
    for price, run, tasks in product(range(1, 6), range(1, 6), range(1, 5)):
        combinations += check_pays(sweep, terms(price_per_second=price, longest_run=run, tasks=tasks), run + 1)
    assert combinations >= 100_000


def test_every_pay_of_a_bag_at_a_fixed_price(sweep: Sweep) -> None:
    combinations = 0
    for price, tasks in product(range(1, 24), range(1, 8)):
        combinations += check_pays(sweep, terms(price=price, longest_run=3, tasks=tasks), 1)
    assert combinations >= 30_000


def test_every_exact_job_earns_all(sweep: Sweep) -> None:
    for price, run, tasks in product(range(1, 4), range(1, 4), range(1, 3)):
        for named in ({"price": price}, {"price_per_second": price}):
            check_pays(sweep, terms(tier=EXACT, longest_run=run, tasks=tasks, **named), 2)


def test_every_fee(sweep: Sweep) -> None:
    most = 250
    for fee_bps in range(501):
        fees = sweep("fees", fee_bps, most)
        for pay, fee in enumerate(fees):
            # Rounded down, so what is left for the provider is never less than its share.
            assert fee == Fraction(pay * fee_bps, BPS).__floor__()
            assert 0 <= Fraction(pay * fee_bps, BPS) - fee < 1
            provider = pay - fee
            assert provider + fee == pay
            assert provider * BPS >= pay * (BPS - 500)
        assert len(fees) == most + 1


def test_every_share_of_a_collateral(sweep: Sweep) -> None:
    highest = 400
    for escrowed in (*range(1, 151), 399, 400, 401, 2**127):
        found = iter(sweep("shares", escrowed, 1, highest))
        for collateral in range(1, highest + 1):
            compensation, to_buyer, cap = next(found), next(found), next(found)
            assert compensation == Fraction(min(collateral, escrowed), 5).__floor__()
            assert to_buyer == min(escrowed, Fraction(collateral * 35, 100).__floor__())
            assert cap == Fraction(collateral * 15, 100).__floor__()
            # What burns is the rest: nothing is made, and a conviction burns half at least.
            assert 0 <= compensation <= collateral
            assert compensation <= escrowed
            burned = collateral - to_buyer - cap
            assert burned >= 0
            assert 2 * burned >= collateral
            assert to_buyer + cap + burned == collateral
        assert next(found, None) is None


# Full width. A proof for all numbers needs a solver, which is not among the tools; these are the edges.

EDGES = (0, 1, 2, 3, 2**85 - 1, 2**85, 2**85 + 1, 2**127, 2**128 - 2, 2**128 - 1)
MAX_UINT128 = 2**128 - 1
MAX_RUN = 366 * 86_400


@pytest.fixture(scope="module")
def boa(harness_program: Program) -> tuple[Chain, Deployed]:
    chain = Chain()
    return chain, chain.deploy("harness", harness_program, harness_program.abi, "0x" + "aa" * 20)


def edges(least: int, most: int) -> st.SearchStrategy[int]:
    return st.sampled_from([edge for edge in (*EDGES, least, most) if least <= edge <= most]) | st.integers(least, most)


@st.composite
def wide(draw: st.DrawFn) -> tuple[Struct, int, int, int, int]:
    """Terms of any width, and a commitment to them."""
    run = draw(edges(1, MAX_RUN))
    tasks = draw(edges(1, 2**32 - 1))
    by_second = draw(st.booleans())
    job = terms(
        tier=draw(st.sampled_from([BASIC, BASIC, BASIC, EXACT])),
        tasks=tasks,
        price=0 if by_second else draw(edges(1, MAX_UINT128)),
        price_per_second=draw(edges(1, MAX_UINT128 // run)) if by_second else 0,
        longest_run=run,
        failure_cap_bps=draw(st.sampled_from(CAPS) | st.integers(0, BPS)),
    )
    elapsed = draw(st.sampled_from([0, 1, run - 1, run, run + 1]) | st.integers(0, 2 * MAX_RUN))
    seconds = draw(st.sampled_from([0, run - 1, run, 2**256 - 1]) | st.integers(0, 2**256 - 1))
    return job, draw(st.sampled_from([0, 1, 2**256 - 1])), elapsed, seconds, draw(edges(0, tasks))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(wide())
def test_pay_at_full_width(boa: tuple[Chain, Deployed], drawn: tuple[Struct, int, int, int, int]) -> None:
    chain, harness = boa
    job, exit_status, elapsed, seconds, done = drawn
    job |= {"matched_at": chain.now - elapsed}
    pay = chain.read(harness, "pay", job, exit_status, seconds, done)
    exact = exact_pay(job, exit_status, elapsed, seconds, done)
    assert pay == exact.__floor__() <= chain.read(harness, "escrowed", job)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(edges(0, MAX_UINT128), edges(0, MAX_UINT128), st.integers(0, 500))
def test_splits_at_full_width(boa: tuple[Chain, Deployed], amount: int, collateral: int, fee_bps: int) -> None:
    chain, harness = boa
    assert chain.read(harness, "fee", fee_bps, amount) == Fraction(amount * fee_bps, BPS).__floor__()
    compensation = chain.read(harness, "compensation", amount, collateral)
    assert compensation == Fraction(min(amount, collateral), 5).__floor__()
    to_buyer = chain.read(harness, "conviction_share", amount, collateral)
    cap = chain.read(harness, "arbiter_cap", collateral)
    assert to_buyer == min(amount, Fraction(collateral * 35, 100).__floor__())
    assert cap == Fraction(collateral * 15, 100).__floor__()
    assert 2 * (to_buyer + cap) <= collateral

# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the main job, end to end, on a local chain with real processes.

A buyer hires two providers for three jobs: a CUDA kernel on real data, a NumPy training, and one whose provider
is killed for good. Then two for the same training of tier EXACT, one of which computes one bit wrongly and is convicted
for it. Everything lies in `.demo/`; nothing is left running.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo import dispute  # noqa: E402
from demo.ledger import Ledger, Party  # noqa: E402
from demo.processes import StepFailed, Worker, command, finish, start  # noqa: E402
from gpubond.buyer.client import Buyer  # noqa: E402
from gpubond.chain.development import advance_time, dev_account  # noqa: E402
from gpubond.chain.index import JobRecord  # noqa: E402
from gpubond.cli.output import table  # noqa: E402
from gpubond.devnet import Devnet, free_port  # noqa: E402
from gpubond.errors import GpuBondError  # noqa: E402

HERE = ROOT / ".demo"
PRICE_PER_HOUR = "36"
# What gas costs in the table: a layer-2 chain on an ordinary day. The demo's own chain charges play money.
GAS_PRICE_GWEI = 0.01
ETH_PRICE = 3_000

_started = time.monotonic()


def main() -> int:
    """Runs the demo; 0 if all of it went as it should."""
    chain = Devnet(HERE / "chain")
    chain.down()
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    try:
        with contextlib.ExitStack() as stack:
            _play(stack)
    except (StepFailed, GpuBondError, AssertionError) as error:
        print(
            f"\nThe demo failed: {error}\nWhat the workers said lies in {HERE}/provider-*/worker.log", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started has ended.", file=sys.stderr)
        return 130
    return 0


def _play(stack: contextlib.ExitStack) -> None:
    with _step(1, "A local chain, and the contracts deployed on it by `ape run deploy`"):
        chain = _start_chain(stack)

    with _step(2, "Two providers stake 420 tUSD each, post their offers and start their workers"):
        workers = _start_providers(stack, chain)

    with _step(3, "A buyer gets worthless test tokens and asks for quotes"):
        buyer_home = str(HERE / "buyer")
        command("account", "init", "--home", buyer_home, "--dev-account", "5", *chain, echo=False)
        command("account", "faucet", "--amount", "100", "--home", buyer_home, echo=False)
        for quote in command("job", "quote", "--seconds", "120", "--home", buyer_home, echo=False):
            most = quote["most_that_can_be_spent"] / 1e6
            print(f"      {quote['class']} of {quote['provider']}: {most:.2f} tUSD at most")

    buyer = stack.enter_context(Buyer.open(HERE / "buyer"))
    ledger = Ledger(buyer.session.contracts, _parties())
    jobs: list[tuple[str, str, str]] = []

    with _step(4, "Job 1 on A: a CUDA kernel classifies 540 handwritten digits by k nearest neighbours"):
        folder = _example("digits-knn")
        knn = _submit(folder, _address(1), "--release")
        jobs.append(("k-NN in CUDA", knn["job"], _accuracy("digits-knn", folder)))

    with _step(5, "Job 2 on A: a NumPy training; the buyer says nothing, so A is paid when the window ends"):
        folder = _example("digits-training")
        training = _submit(folder, _address(1))
        jobs.append(("NumPy training", training["job"], _accuracy("digits-training", folder)))
        _wait_until_settled(buyer, training["job"])

    with _step(6, "Job 3 on B: its worker is killed for good in the middle of the run"):
        lost = _lose_a_provider(buyer, workers["B"], folder)
        jobs.append(("lost provider", lost, "refunded"))

    _report(buyer, ledger, jobs)
    _dispute(stack, buyer, chain)
    print(f"Nothing is left running. {time.monotonic() - _started:.0f} s.")


def _dispute(stack: contextlib.ExitStack, buyer: Buyer, chain: list[str]) -> None:
    """The chapter on disputes."""
    tower, folder = HERE / "watchtower", HERE / "exact-digits"
    parties = [*_parties(), Party("watchtower", _address(6), (_address(6),))]
    with _step(7, "Job 4 on A: a training whose bits are the same on every machine, so that anybody can check them"):
        job_file = dispute.made_ready(folder)
        dispute.watching(stack, tower, chain, 6)
        right = _submit(folder, _address(1), job_file=job_file)
        dispute.found_right(tower, right["job"])
        command("job", "release", right["job"], "--home", str(HERE / "buyer"), echo=False)
        _wait_until_settled(buyer, right["job"])
        paid = buyer.session.contracts.token_info.text((buyer.record(right["job"]).outcome or {})["to_provider"])
        print(f"      A is paid {paid}; accuracy {_evaluated(folder, 'outputs'):.1%}", flush=True)

    ledger = Ledger(buyer.session.contracts, parties)
    with _step(
        8, "Job 5: the same on B, which is back with a machine that flips one bit of one sum in one step of 1,200"
    ):
        dispute.faulty_worker(stack, HERE / "provider-b", HERE / "faulty")
        wrong = _submit(folder, _address(3), job_file=job_file, outputs="outputs-of-b")
        print(f"      accuracy {_evaluated(folder, 'outputs-of-b'):.1%}: nobody would notice", flush=True)

    with _step(
        9, "The watchtower notices, and leads the contract to the wrong bit; B's machine stands by it to the end"
    ):
        dispute.convicted(buyer, wrong["job"])

    print()
    drawn, gas = dispute.bill(buyer, ledger, wrong["job"], folder, HERE / "dispute.html")
    print(f"The whole dispute took {gas:,} gas. How it went, in pictures, for your browser: {_shown(drawn)}")


def _start_chain(stack: contextlib.ExitStack) -> list[str]:
    port = free_port()
    stack.callback(Devnet(HERE / "chain", port).down)
    up = command(
        *("devnet", "up", "--directory", str(HERE / "chain"), "--port", str(port)),
        *("--output", str(HERE / "deployments")),
    )
    return ["--rpc-url", up["url"], "--deployment", up["deployment"]]


def _start_providers(stack: contextlib.ExitStack, chain: list[str]) -> dict[str, Worker]:
    joining = []
    for number, name in enumerate("AB"):
        home = str(HERE / f"provider-{name.lower()}")
        command(
            *("provider", "init", "--home", home, *chain, "--port", str(free_port())),
            *("--price-per-hour", PRICE_PER_HOUR, "--collateral", "5", "--backed-jobs", "4"),
            *("--dev-owner", str(1 + 2 * number), "--dev-operator", str(2 + 2 * number)),
            *("--acknowledge-window", "60", "--delivery-margin", "30", "--challenge-window", "5"),
            *dispute.EXACT_OFFER,
            echo=False,
        )
        joining.append(start("provider", "join", "--home", home, "--faucet", "--yes"))
    for number, process in enumerate(joining):
        finish(process, echo=number == 0)
    workers = {name: Worker(HERE / f"provider-{name.lower()}") for name in "AB"}
    for worker in workers.values():
        stack.callback(worker.stop)
    for worker in workers.values():
        worker.wait_for("is up")
    return workers


def _parties() -> list[Party]:
    return [
        Party("buyer", _address(5), (_address(5),)),
        Party("provider A", _address(1), (_address(1), _address(2))),
        Party("provider B", _address(3), (_address(3), _address(4))),
    ]


def _submit(folder: Path, provider: str, *options: str, job_file: Path | None = None, outputs: str = "outputs") -> Any:
    return command(
        *("job", "submit", str(job_file or folder / "job.json"), "--home", str(HERE / "buyer"), "--provider", provider),
        *("--yes", "--max-price", "5", "--fetch-to", str(folder / outputs), *options),
    )


def _lose_a_provider(buyer: Buyer, worker: Worker, folder: Path) -> str:
    job_file = json.loads((folder / "job.json").read_text())
    job_file["name"] = "long training"
    job_file["python"]["args"] = ["10000000"]
    (folder / "long.json").write_text(json.dumps(job_file))
    submission = start(
        *("job", "submit", str(folder / "long.json"), "--home", str(HERE / "buyer"), "--yes"),
        *("--provider", _address(3)),
    )
    worker.wait_for(": running")
    time.sleep(1)
    worker.kill()
    print("      kill -9: provider B is gone, with the job half done", flush=True)
    record = next(record for record, _ in reversed(buyer.jobs()) if record.terms.provider == _address(3))
    wait = record.terms.deliver_by - buyer.session.contracts.now() + 1
    print(f"      the deadline is in {wait} s: the local chain's clock is moved forward by that much", flush=True)
    advance_time(buyer.session.node, wait)
    # The buyer's own command notices and claims; it ends with an error since there is no result.
    finish(submission, expected=(7,))
    return record.job


def _wait_until_settled(buyer: Buyer, job: str) -> None:
    deadline = time.monotonic() + 60
    while not buyer.record(job).status.final:
        if time.monotonic() > deadline:
            raise StepFailed(f"job {job} was not settled by its provider")
        time.sleep(0.3)


def _example(name: str) -> Path:
    folder = HERE / name
    source = ROOT / "examples" / name
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.npy", "__pycache__"))
    subprocess.run([sys.executable, str(folder / "make_data.py"), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def _evaluated(folder: Path, outputs: str) -> float:
    evaluated = subprocess.run(
        [sys.executable, str(folder / "evaluate.py"), str(folder / outputs), str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(json.loads(evaluated.stdout)["accuracy"])


def _accuracy(name: str, folder: Path) -> str:
    accuracy = _evaluated(folder, "outputs")
    print(f"      accuracy on digits that the provider had no labels of: {accuracy:.1%}", flush=True)
    if accuracy < 0.9:
        raise StepFailed(f"{name} reached an accuracy of {accuracy:.1%} only")
    return f"{accuracy:.1%}"


def _report(buyer: Buyer, ledger: Ledger, jobs: list[tuple[str, str, str]]) -> None:
    contracts = buyer.session.contracts
    token = contracts.token_info

    def number(units: int) -> str:
        return token.text(units).removesuffix(f" {token.symbol}")

    records = {job: buyer.record(job) for _, job, _ in jobs}
    print()
    table(
        ("job", "ended", "run", "escrowed", "to provider", "fee", "back to buyer", "accuracy", "ran on"),
        [
            (
                name,
                record.status.name.lower(),
                _seconds(record),
                number(record.terms.escrowed),
                *_amounts(record, number),
                accuracy,
                _device(job),
            )
            for (name, job, accuracy), record in zip(jobs, records.values(), strict=True)
        ],
        title=f"Jobs (amounts in {token.symbol})",
    )
    changes, gas = ledger.changes(), ledger.gas()
    table(
        ("who", token.symbol, "gas paid for"),
        [(name, _signed(change, number), f"{gas[name]:,}" if name in gas else "") for name, change in changes.items()],
        title="Who gained and lost what (the sum is zero)",
    )
    _print_overhead(buyer, ledger, records[jobs[0][1]])
    print(f"Outputs, verified against the roots on chain: {_shown(HERE / 'digits-knn' / 'outputs')}")
    print(f"                                              {_shown(HERE / 'digits-training' / 'outputs')}")


def _print_overhead(buyer: Buyer, ledger: Ledger, record: JobRecord) -> None:
    committed = next(
        event
        for event in buyer.session.contracts.escrow.events.JobCommitted().get_logs(from_block=record.created_block)
        if event["args"]["job"] == record.job_id
    )
    used = ledger.gas_of(record.created_tx, committed["transactionHash"].to_0x_hex(), record.final_tx or "")
    cost = used * GAS_PRICE_GWEI * 1e-9 * ETH_PRICE
    price = record.terms.escrowed / 10**buyer.session.contracts.token_info.decimals
    fee = record.terms.fee_bps / 100
    print(
        f"Protocol overhead of job 1: fee {fee:.2f} %, gas {used:,} for hire, commit and settle: {cost:.4f} $ at "
        f"{GAS_PRICE_GWEI} gwei\nand {ETH_PRICE:,} $ an ether, which is {100 * cost / price:.2f} % of its "
        f"{price:.2f} tUSD. The gas is the same for a job of an hour or a month."
    )


def _amounts(record: JobRecord, text: Any) -> tuple[str, str, str]:
    outcome = record.outcome or {}
    back = outcome.get("refund", 0)
    if "compensation" in outcome:
        return "0", "0", f"{text(back)} + {text(outcome['compensation'])}"
    return text(outcome.get("to_provider", 0)), text(outcome.get("fee", 0)), text(back)


def _seconds(record: JobRecord) -> str:
    return "never ended" if record.report is None else f"{record.report['seconds_used']} s"


def _device(job: str) -> str:
    for manifest in HERE.glob("*/outputs/manifest.json"):
        document = json.loads(manifest.read_text())
        if document["job"] == job:
            return str(document["device"])
    return ""


def _signed(units: int, text: Any) -> str:
    return f"+{text(units)}" if units > 0 else text(units)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _address(number: int) -> str:
    return str(dev_account(number).address)


@contextlib.contextmanager
def _step(number: int, words: str) -> Iterator[None]:
    print(f"[{number}/9] {words}", flush=True)
    began = time.monotonic()
    yield
    print(f"      done in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())

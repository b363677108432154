# SPDX-License-Identifier: Apache-2.0
"""`gpubond job demand`: make a provider show its result on chain, or claim what it owes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gpubond.buyer.client import Buyer
from gpubond.buyer.demand_plan import DemandPlan, DemandView
from gpubond.chain.demand_index import DemandState
from gpubond.chain.market import Status
from gpubond.cli.command import home_option, reporting, require_yes
from gpubond.cli.output import facts, moment, print_json, progress
from gpubond.errors import BadInput, JobFailed


@click.command("demand")
@click.argument("job")
@click.option(
    "--chunk", "chunks", type=int, metavar="NUMBER", multiple=True, help="Demand this 4 KiB chunk; may be repeated."
)
@click.option("--missing", is_flag=True, help="Demand every chunk that was not shown yet.")
@click.option("--claim", is_flag=True, help="End the job if a demand is overdue, and take refund and fees.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write what was shown here: the outputs if it is all of them, else single chunks.",
)
@click.option("--dry-run", is_flag=True, help="Show chunks, fees and deadlines, send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before demanding.")
@click.option("--detach", is_flag=True, help="Return once the demand is made.")
@home_option("buyer")
@reporting
def command(
    job: str,
    chunks: tuple[int, ...],
    missing: bool,
    claim: bool,
    directory: Path | None,
    dry_run: bool,
    yes: bool,
    detach: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Demand a committed result on chain, when its provider does not serve it.

    Each chunk costs a fee, which the provider earns by showing it within a day. If it does not, the job ends:
    refund, compensation out of the collateral, and the fees come back. Without options it shows what was demanded.

    Example: gpubond job demand 0x3f… --missing --to outputs
    """
    if sum((bool(chunks), missing, claim)) > 1:
        raise BadInput(
            "--chunk, --missing and --claim exclude each other", field="options", remedy="give one of the three"
        )
    with Buyer.open(home, progress) as buyer:
        if claim:
            _claim(buyer, job, as_json)
            return
        if not chunks and not missing:
            _show_possible(buyer, job, directory, as_json)
            return
        wanted = None if missing else chunks
        plan = buyer.plan_demand(job, wanted)
        if not as_json:
            _show_plan(buyer, plan)
        if dry_run:
            if as_json:
                print_json({"dry_run": True, **plan.as_dict()})
            return
        if plan.chunks:
            require_yes("Demand?", yes)
        view = buyer.demand(job, wanted, wait=not detach)
        if not detach:
            _write(buyer, view, directory)
        if as_json:
            print_json(view.as_dict())
        else:
            _show_view(buyer, view)
        _require_shown(view)


def _show_possible(buyer: Buyer, job: str, directory: Path | None, as_json: bool) -> None:
    view = buyer.demands(job)
    # Raises, with words, where nothing can be demanded; what was demanded before is shown all the same.
    plan = None if view.demands else buyer.plan_demand(job, ())
    _write(buyer, view, directory)
    if as_json:
        print_json(view.as_dict() if plan is None else plan.as_dict())
        return
    _show_view(buyer, view)
    if plan is not None:
        token = buyer.session.contracts.token_info
        click.echo(
            f"Until {moment(plan.demand_until)}: --missing or --chunk demands, for {token.text(plan.fee)} a chunk."
        )
        click.echo(f"The gateway: {plan.gateway}")


def _claim(buyer: Buyer, job: str, as_json: bool) -> None:
    done = buyer.claim_withheld(job)
    view = buyer.demands(job)
    if as_json:
        print_json({**view.as_dict(), "done": done})
        return
    for words in done:
        click.echo(f"done: {words}")
    _show_view(buyer, view)


def _write(buyer: Buyer, view: DemandView, directory: Path | None) -> None:
    if directory is None or not view.shown:
        return
    manifest = buyer.fetch_from_chain(view.record.job, directory)
    if manifest is not None:
        for item in manifest.files:
            progress(f"{directory / item.path}  {item.size:,} bytes  sha256 {item.sha256}")


def _show_plan(buyer: Buyer, plan: DemandPlan) -> None:
    token, terms = buyer.session.contracts.token_info, plan.view.record.terms
    if not plan.chunks:
        click.echo("Everything that you ask for was demanded already.")
        return
    facts(
        [
            ("job", plan.view.record.job),
            ("demanded", f"chunk {ranges(plan.chunks)}; shown so far: {ranges(plan.view.shown) or 'none'}"),
            ("gateway", plan.gateway),
            ("fees", f"{token.text(plan.fees)} out of your wallet, {token.text(plan.fee)} a chunk: "
             "the provider's for what it shows, back to you for what it does not"),
            ("gas", f"about {plan.gas_wei / 10**18:.6f} ETH in {plan.rounds} transaction"
             + ("s" if plan.rounds > 1 else "")),
            ("until", f"{moment(plan.demand_until)}: then nothing more can be demanded"),
            ("due", f"{moment(plan.answer_by)} at latest for the first; until then the payment is held"),
            ("if shown", "each chunk becomes public on the chain, and the provider is paid in the end"),
            ("if withheld", f"{token.text(terms.escrowed)} comes back, with {token.text(terms.compensation)} from the "
             "collateral, of which the rest burns"),
        ]
    )  # fmt: skip


def _show_view(buyer: Buyer, view: DemandView) -> None:
    record, token = view.record, buyer.session.contracts.token_info
    lines: list[tuple[str, Any]] = [("job", record.job), ("status", record.status.name.lower())]
    if record.commitment is not None:
        lines.append(("shown", f"chunk {ranges(view.shown) or '-'} of {record.commitment.chunks}"))
    for demand in view.open:
        late = "not shown in time: --claim" if view.now > demand.answer_by else f"due {moment(demand.answer_by)}"
        lines.append((f"chunk {demand.chunk}", late))
    lines += [(name.replace("_", " "), token.text(value)) for name, value in (record.outcome or {}).items()]
    facts(lines)


def ranges(chunks: tuple[int, ...] | list[int]) -> str:
    """Numbers in order, runs of them shortened: 0-3, 7."""
    parts: list[str] = []
    start: int | None = None
    numbers = set(chunks)
    for number in chunks:
        start = number if start is None else start
        if number + 1 not in numbers:
            parts.append(str(number) if start == number else f"{start}-{number}")
            start = None
    return ", ".join(parts)


def _require_shown(view: DemandView) -> None:
    if view.record.status == Status.EXPIRED:
        raise JobFailed(
            "the provider did not show its result; the job has ended",
            field="job",
            value=view.record.job,
            remedy="refund, compensation and fees are in your balance: submit the job to another provider",
        )
    if view.record.status.final and any(demand.state is DemandState.OPEN for demand in view.demands):
        raise JobFailed(
            f"the job is {view.record.status.name.lower()}, and what was demanded was not shown",
            field="job",
            value=view.record.job,
            remedy="`gpubond job demand --claim` takes the fees back; claim sooner next time",
        )

# SPDX-License-Identifier: Apache-2.0
"""What `gpubond job` prints of a job and of a quote, and when it says that a job failed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from gpubond.buyer.client import Buyer
from gpubond.buyer.codes import JobCode
from gpubond.buyer.job_view import JobView
from gpubond.buyer.quotes import ARBITERS, Prepared, Quote
from gpubond.chain.money import Token
from gpubond.cli.output import facts, moment, print_json, shortened, table
from gpubond.errors import JobFailed
from gpubond.jobs.packages import Software
from gpubond.jobs.reasons import Reason


def show(buyer: Buyer, view: JobView, as_json: bool, **more: object) -> None:
    """A job as text or as one JSON document with `more` in it; the command goes on."""
    if as_json:
        print_json(view.as_dict() | more)
    else:
        _show_view(buyer.session.contracts.token_info, view, view.record.terms.buyer == buyer.session.address)


def show_and_judge(buyer: Buyer, view: JobView, as_json: bool, **more: object) -> None:
    """As `show`; a job that failed ends the program with the exit code of `JobFailed`."""
    failure = failure_of(view)
    show(buyer, view, as_json, **more, **({} if failure is None else {"error": failure.as_dict()}))
    if failure is not None:
        if not as_json:
            raise failure
        sys.exit(failure.exit_code)


def failure_of(view: JobView) -> JobFailed | None:
    """The error that a failed job is, or None."""
    if not view.failed:
        return None
    report, reason = view.record.report, view.reason
    if report is not None and view.code in (JobCode.RUN_FAILED, JobCode.PAID_AFTER_FAILURE):
        why = "" if reason is None else f" ({reason.value}): {reason.meaning}"
        message = f"the run failed with exit status {report['exit_status']}{why}"
    else:
        message = f"the job ended without a result: {view.explanation}"
    return JobFailed(message, field="job", value=view.record.job, remedy=view.remedy)


def _show_view(token: Token, view: JobView, mine: bool) -> None:
    record = view.record
    lines: list[tuple[str, Any]] = [
        ("job", record.job),
        *([] if mine else [("buyer", f"{record.terms.buyer}, not you: only it can fetch, cancel and release")]),
        ("status", f"{record.status.name.lower()} ({view.code.value})"),
        ("", view.explanation),
    ]
    provider = view.provider_status or {}
    if provider.get("state"):
        lines.append(("at the provider", provider["state"]))
    if view.reason is not None and view.reason != Reason.OK:
        lines.append(("reason", f"{view.reason.value}: {view.reason.meaning}"))
    if provider.get("detail"):
        lines.append(("detail", provider["detail"]))
    if view.provider_error:
        lines.append(("provider", view.provider_error))
    if view.cancelled:
        lines.append(("cancelled", "you asked for its end"))
    if view.waits_for:
        until = "" if view.until is None else f", until {moment(view.until)}"
        lines.append(("waits for", view.waits_for + until))
    if record.report is not None:
        good = "succeeded" if record.report["exit_status"] == 0 else f"failed with {record.report['exit_status']}"
        lines.append(("run", f"{good}, {record.report['seconds_used']} s"))
    if record.commitment is not None:
        lines.append(("result root", "0x" + record.commitment.result_root.hex()))
    lines += [(name.replace("_", " "), token.text(value)) for name, value in (record.outcome or {}).items()]
    if mine and not view.failed and view.code.kind != "good end" and view.code != JobCode.ACTIVE:
        lines.append(("next", view.remedy))
    facts(lines)


def gas_text(token: Token, quote: Quote) -> str:
    """Gas in the chain's coin and, where the settings give its price, in tokens."""
    coin = f"{quote.gas_wei / 10**18:.6f}"
    return coin if quote.gas_tokens is None else f"{coin} = {token.text(quote.gas_tokens)}"


def show_quotes(buyer: Buyer, quotes: list[Quote]) -> None:
    """The table of offers."""
    token = buyer.session.contracts.token_info
    measured = any(item.power is not None for item in quotes)
    rows = [
        (
            item.record.offer.class_name,
            token.per_hour_text(item.record.offer.price_per_second),
            token.text(item.most),
            gas_text(token, item),
            token.text(item.fee),
            f"{item.overhead_percent:.2f} %",
            token.text(item.worst_refund),
            f"{max(1, item.record.offer.shortest_run)} to {item.record.offer.longest_run} s",
            f"{item.due_after} s",
            item.reached_by,
            f"{item.jobs_settled}/{item.jobs_declined}/{item.jobs_expired}",
            {"none": "no", "demands": "yes", "game": "disputable", "unknown": "unknown arbiter"}[item.arbiter_kind],
            _free(item),
            shortened(item.record.offer_id),
            *([_power(item)] if measured else []),
        )
        for item in quotes
    ]
    seconds = quotes[0].seconds
    click.echo(f"Offers for a run of at most {seconds} s, the cheapest that is free first.")
    gas = "and gas" if quotes[0].gas_tokens is not None else "without gas, as the settings name no chain.coin_price"
    words = (
        "'at most' is all that can be spent, beside gas (in the chain's coin); unused seconds come back. 'fee' is the "
        f"protocol's share of it, paid by the provider. 'overhead' is fee {gas}, in percent of the price. 'worst case' "
        "comes back if the provider vanishes: all, and a share of its collateral. A hire pays for a run within 'runs'; "
        "its result is due within 'due' of it. One that is 'reached by' store has no gateway: your own store ([store] "
        "in gpubond.toml, docs/store.md) takes its place. The record counts its jobs: paid/declined/expired. "
        "'demands' says whether a result that is withheld can be demanded on chain; an unknown arbiter, which the "
        "provider chose, can hold your refund up until the dispute times out."
    )
    if measured:
        words += (
            " 'power' is about what a GPU of the class draws, by the provider's own measurement over so many jobs, "
            "which nobody can check; '-' is unmeasured."
        )
    click.echo(click.wrap_text(words, 100))
    columns = ("class", "price", "at most", "gas", "fee", "overhead", "worst case", "runs", "due", "reached by")
    table((*columns, "record", "demands", "free", "offer", *(["power"] if measured else [])), rows)


def _power(item: Quote) -> str:
    return "-" if item.power is None else f"{item.power.average_watts:,} W ({item.power.jobs_text})"


def show_software(quotes: list[Quote], found: Mapping[str, Software | None]) -> None:
    """What jobs find at the providers of quotes, as they say themselves."""
    click.echo("What `python` jobs find there, as the gateways say (--json has all packages):")
    lines: list[tuple[str, object]] = []
    for item in quotes:
        said = found.get(item.endpoint)
        lines.append((shortened(item.record.offer_id), "it does not say" if said is None else said.words))
    facts(lines or [("none", "no offer that is free has a gateway")])


def _free(item: Quote) -> str:
    if not item.available:
        return item.refusal
    if item.obstacle:
        return "no: it needs [store]" if item.reached_by == "store" else "no"
    return "yes, low collateral" if item.collateral_is_low else "yes"


def show_prepared(buyer: Buyer, prepared: Prepared, retry: int) -> None:
    """A quote in full, before the question."""
    token = buyer.session.contracts.token_info
    quote = prepared.quote
    offer = quote.record.offer
    click.echo(f"{prepared.spec.name}: {prepared.spec.runtime}, {len(prepared.spec.inputs)} inputs")
    what = "fee and gas" if quote.gas_tokens is not None else "fee; set chain.coin_price to have gas in it"
    rows: list[tuple[str, object]] = [
        ("provider", offer.provider),
        ("its record", f"{quote.jobs_settled} paid, {quote.jobs_declined} declined, {quote.jobs_expired} expired"),
        ("reached by", _reached(prepared)),
        ("class", offer.class_name),
        ("price", f"{token.per_hour_text(offer.price_per_second)}, unused seconds come back"),
        ("at most", f"{token.text(quote.most)} for {prepared.seconds} s"),
        (
            "protocol fee",
            f"{token.text(quote.fee)} of it at most ({quote.fee_percent:.2f} %), paid by the provider",
        ),
        ("gas", f"about {gas_text(token, quote)}, in the chain's coin"),
        ("overhead", f"{quote.overhead_percent:.2f} % of the price ({what})"),
        ("due", f"{quote.due_after} s after the hire at latest"),
        ("if it vanishes", f"all comes back, with {token.text(quote.compensation)} from its collateral"),
        ("arbiter", ARBITERS[quote.arbiter_kind]),
        ("trust tier", "BASIC: non-delivery costs the provider its collateral; the content is your risk"),
    ]
    if quote.power is not None:
        words = f"about {quote.power.average_watts:,} W by the provider's own measurement over {quote.power.jobs_text}"
        rows.append(("power", words))
    if retry and prepared.max_price is not None:
        rows.append(
            (
                "if it gives up",
                f"the next best is hired, {retry} times at most, never with more than "
                f"{token.text(prepared.max_price)} at stake",
            )
        )
    facts(rows)
    if quote.collateral_is_low:
        click.echo(f"note: its collateral, {token.text(offer.collateral)}, is less than a fifth of the price")
    for note in prepared.notes:
        click.echo(f"note: {note}")


def _reached(prepared: Prepared) -> str:
    if prepared.recipient is None:
        return f"its gateway, {prepared.quote.endpoint}"
    return "your own store: inputs and a sealed note are put there before the hire"


def write_log(piece: bytes, err: bool = True) -> None:
    """A piece of a job's log, on standard error unless the log is all that is asked for."""
    # A stranger's program wrote this: no escape sequence of it reaches the terminal.
    text = piece.decode(errors="replace")
    shown = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    click.echo(shown, nl=False, err=err)

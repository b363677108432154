# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Escrow of GPU jobs
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice Both sides of one exchange: an offer is hired, or a request accepted, the
        provider commits to a result, the job is settled. Who vanishes pays from
        its collateral.

        OPEN (request) --accept--> ACTIVE, or --cancel_request--> CANCELLED
        ACTIVE --commit--> COMMITTED --settle--> SETTLED
          |--decline--> DECLINED  |--hold--> DISPUTED --release--> COMMITTED
          |--expire---> EXPIRED                |--convict--> CONVICTED
                                               |             (EXPIRED on BASIC)

        Every state that is not final has a deadline, and a way out that anyone
        may take: `cancel_request` after its expiry, `expire` after `deliver_by`,
        `settle` after the challenge window, and, should an arbiter vanish,
        `settle` after the dispute's time-out.
@dev The admin may pause new matches and set the fee within its cap, nothing
     else. Invariant: token balance + what staking owes >= sum of balances and
     fees + escrowed sums of open requests and of jobs that are not final.
     How it is stopped: the admin pauses new matches, and the running jobs end
     by their own deadlines. There is no proxy; a new version is a new contract.
"""
from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.auth import ownable_2step

from .interfaces import IJobEscrow
from .interfaces import IProviderStaking
from .modules import balances
from .modules import blocks
from .modules import bounds
from .modules import errors
from .modules import ids
from .modules import offers
from .modules import requests
from .modules import terms as job_terms

implements: IJobEscrow

initializes: ownable
initializes: ownable_2step[ownable := ownable]
initializes: balances
initializes: blocks
initializes: ids
initializes: offers[ids := ids]
initializes: requests[ids := ids]

exports: (
    ownable_2step.owner,
    ownable_2step.pending_owner,
    ownable_2step.transfer_ownership,
    ownable_2step.accept_ownership,
    balances.TOKEN,
    balances.deposit,
    balances.deposit_with_permit,
    balances.balance_of,
    balances.fees_of,
    ids.CHAIN_ID,
    offers.STAKING,
    offers.approve_arbiter,
    offers.revoke_offers,
    offers.is_arbiter_approved,
    offers.offer_epoch,
    offers.post_offer,
    offers.close_offer,
    offers.offer_slot,
    requests.request_slot,
)


# @dev The admin's cap on the fee, in basis points of what a provider earns.
MAX_FEE_BPS: public(constant(uint256)) = 500

# @dev Seconds after the challenge window from which anyone may settle a job
#      whose arbiter has not decided: a game about an EXACT run takes weeks, and
#      default on another tier shows within days.
EXACT_DISPUTE_TIMEOUT: public(constant(uint256)) = 90 * 86_400
DISPUTE_TIMEOUT: public(constant(uint256)) = 7 * 86_400

# @dev Jobs that `hire_many`, `decline_many`, `commit_many` and `settle_many` take
#      at once.
_MAX_BATCH: constant(uint256) = 32

# @dev Providers whose fees are collected at once.
_MAX_PROVIDERS: constant(uint256) = 100

# @dev Chunks of a result: 16 TiB.
_MAX_CHUNKS: constant(uint256) = 2**32

# @dev Layout of a job's slot: status (16 bits) | creation block (40) | digest
#      of the commitment (200).
_STATUS_MASK: constant(uint256) = 2**16 - 1
_BLOCK_SHIFT: constant(uint256) = 16
_DIGEST_SHIFT: constant(uint256) = 56

# @dev Why a job cannot be settled now.
_WRONG_STATE: constant(uint256) = 1
_DISPUTED: constant(uint256) = 2
_WINDOW_OPEN: constant(uint256) = 3
_OTHER_COMMITMENT: constant(uint256) = 4


# @dev Jobs that each provider declined.
declines: public(HashMap[address, uint256])

# @dev Fee in basis points (low 16 bits) | paused (bit 16): one read a hire.
_config: uint256

_jobs: HashMap[bytes32, uint256]


@deploy
def __init__(token: IERC20, staking: IProviderStaking, fee_bps: uint256):
    """
    @dev The deployer becomes the admin.
    @param token The ERC-20 for payment, the same as that of the stake.
    @param staking The ProviderStaking contract.
    @param fee_bps Fee in basis points, at most `MAX_FEE_BPS`.
    """
    ownable.__init__()
    ownable_2step.__init__()
    balances.__init__(token)
    blocks.__init__()
    ids.__init__()
    offers.__init__(staking)
    # Else shares of a slash would arrive here as tokens that nobody is owed.
    if staticcall staking.TOKEN() != token.address:
        errors._fail("escrow: stake is another token")
    if fee_bps > MAX_FEE_BPS:
        errors._fail("escrow: fee above cap")
    self._config = fee_bps
    log IJobEscrow.FeeSet(fee_bps=fee_bps)


@external
def hire(offer: IJobEscrow.Offer, order: IJobEscrow.Order) -> bytes32:
    """
    @notice Makes a job of an open offer, paid from the caller's balance. The
            highest price is escrowed now; what is not earned comes back.
    @dev The buyer is the caller and the offer is shown in full, so nobody can
         hire on another's account or at another price.
    @param offer The offer, as it was posted.
    @param order What the buyer adds.
    @return The job's id.
    """
    fee_bps: uint256 = 0
    epoch: uint256 = 0
    fee_bps, epoch = self._admit(offer)
    return self._hire(offer, offers._offer_id(offer), epoch, fee_bps, order)


@external
def hire_many(
    offer: IJobEscrow.Offer, orders: DynArray[IJobEscrow.Order, _MAX_BATCH]
) -> DynArray[bytes32, _MAX_BATCH]:
    """
    @notice Makes up to 32 jobs of one offer, each as `hire` would: all or none.
    @param offer The offer, as it was posted.
    @param orders What the buyer adds for each job; no two alike.
    @return The jobs' ids, in the order of the orders.
    """
    fee_bps: uint256 = 0
    epoch: uint256 = 0
    fee_bps, epoch = self._admit(offer)
    offer_id: bytes32 = offers._offer_id(offer)
    jobs: DynArray[bytes32, _MAX_BATCH] = []
    for order: IJobEscrow.Order in orders:
        jobs.append(self._hire(offer, offer_id, epoch, fee_bps, order))
    return jobs


@external
def post_request(request: IJobEscrow.Request) -> bytes32:
    """
    @notice Opens a request. Its highest price is taken from the caller's balance
            now, so that no acceptance fails for lack of money.
    @param request All of its fields; the caller is its buyer.
    @return The request's id.
    """
    if request.buyer != msg.sender:
        errors._fail("escrow: not the buyer")
    requests._check(request)
    request_id: bytes32 = requests._request_id(request)
    requests._open(request_id, blocks._number())
    highest: uint256 = job_terms._escrowed(
        request.price, request.price_per_second, request.longest_run
    )
    balances._debit(msg.sender, highest)
    log IJobEscrow.RequestPosted(
        request_id=request_id,
        buyer=msg.sender,
        resource_class=request.resource_class,
        request=request,
    )
    return request_id


@external
def cancel_request(request: IJobEscrow.Request):
    """
    @notice Ends an open request; its money goes back to the buyer's balance. By
            the buyer at any time, by anyone once it has expired.
    @param request All of its fields.
    """
    request_id: bytes32 = requests._request_id(request)
    requests._end(request_id, IJobEscrow.Status.CANCELLED)
    if msg.sender != request.buyer and block.timestamp < request.expiry:
        errors._fail("escrow: not the buyer")
    highest: uint256 = job_terms._escrowed(
        request.price, request.price_per_second, request.longest_run
    )
    balances._credit(request.buyer, highest)
    log IJobEscrow.RequestCancelled(request_id=request_id, buyer=request.buyer)


@external
def accept(request: IJobEscrow.Request, bid: IJobEscrow.Bid) -> bytes32:
    """
    @notice Makes a job of an open request, at the bid's price; the rest of the
            highest price goes back to the buyer. By the provider's owner or
            operator.
    @param request All of its fields.
    @param bid Provider and price.
    @return The job's id.
    """
    config: uint256 = self._config
    fee_bps: uint256 = config & _STATUS_MASK
    if config >> 16 != 0:
        errors._fail("escrow: new jobs are paused")
    offers._require_provider(bid.provider)
    if request.provider != empty(address) and request.provider != bid.provider:
        errors._fail("escrow: not for this provider")
    if block.timestamp >= request.expiry:
        errors._fail("escrow: request has expired")
    if fee_bps > bid.max_fee_bps:
        errors._fail("escrow: fee above bid's limit")
    if bid.price == 0:
        errors._fail("escrow: price is zero")
    if request.arbiter != empty(address):
        # For its approval; a request belongs to no epoch.
        offers._epoch(bid.provider, request.arbiter)

    price: uint256 = 0
    price_per_second: uint256 = 0
    if request.price != 0:
        price = bid.price
    else:
        price_per_second = bid.price
    if price > request.price or price_per_second > request.price_per_second:
        errors._fail("escrow: price above request")

    request_id: bytes32 = requests._request_id(request)
    requests._end(request_id, IJobEscrow.Status.ACTIVE)
    acknowledge_by: uint256 = block.timestamp + request.acknowledge_window
    terms: IJobEscrow.JobTerms = IJobEscrow.JobTerms(
        buyer=request.buyer,
        provider=bid.provider,
        offer=empty(bytes32),
        spec_hash=request.spec_hash,
        tier=request.tier,
        tasks=request.tasks,
        price=price,
        price_per_second=price_per_second,
        longest_run=request.longest_run,
        collateral=request.collateral,
        fee_bps=fee_bps,
        failure_cap_bps=request.failure_cap_bps,
        matched_at=block.timestamp,
        acknowledge_by=acknowledge_by,
        deliver_by=acknowledge_by + request.longest_run + request.delivery_margin,
        challenge_window=request.challenge_window,
        arbiter=request.arbiter,
        exact_terms=request.exact_terms,
        audit_fee=request.audit_fee,
        audit_seal=request.audit_seal,
        group=request.group,
        salt=request.salt,
    )
    highest: uint256 = job_terms._escrowed(
        request.price, request.price_per_second, request.longest_run
    )
    escrowed: uint256 = job_terms._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    balances._credit(request.buyer, highest - escrowed)
    job: bytes32 = self._match(terms)
    log IJobEscrow.RequestAccepted(request_id=request_id, job=job)
    return job


@external
def decline(terms: IJobEscrow.JobTerms, close_offer: bool):
    """
    @notice Gives a job back within the acknowledgement window: full refund, no
            penalty, and it is counted. By the provider's owner or operator.
    @dev Without it a buyer could withhold the inputs and collect. The offer stays
         open unless the provider says so: else anyone could close it for the gas
         of a hire.
    @param terms The job's terms.
    @param close_offer Whether the offer closes until it is posted anew.
    """
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.ACTIVE)
    self._require_worker(terms.provider)
    if block.timestamp > terms.acknowledge_by:
        errors._fail("escrow: too late to decline")
    self._decline(job, state, terms, close_offer)


@external
def decline_many(
    jobs: DynArray[IJobEscrow.JobTerms, _MAX_BATCH], close_offer: bool
) -> uint256:
    """
    @notice Gives up to 32 jobs back, each as `decline` would, and passes over those
            that are over, committed, or too late: hires come in batches, so giving
            them back must not cost more.
    @param jobs The terms of each.
    @param close_offer Whether their offers close until they are posted anew.
    @return How many were given back.
    """
    declined: uint256 = 0
    for terms: IJobEscrow.JobTerms in jobs:
        job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
        state: uint256 = self._jobs[job]
        if (
            state & _STATUS_MASK == self._code(IJobEscrow.Status.ACTIVE)
            and block.timestamp <= terms.acknowledge_by
        ):
            self._require_worker(terms.provider)
            self._decline(job, state, terms, close_offer)
            declined += 1
    return declined


@external
def commit(
    terms: IJobEscrow.JobTerms,
    result_root: bytes32,
    chunks: uint256,
    exit_status: uint256,
    seconds_used: uint256,
    tasks_done: uint256,
):
    """
    @notice Commits to the result of a job. By the provider's owner or operator.
    @dev On BASIC the claim is bounded and not verified. On EXACT there is no
         failing: exit status 0 and all tasks.
    @param terms The job's terms.
    @param result_root Root of the result's bundle, or of the run.
    @param chunks Chunks of 4,096 bytes of the bundle; zero on EXACT.
    @param exit_status 0 for success; anything else pays the failure cap at most.
    @param seconds_used Seconds that the run took.
    @param tasks_done Units done, at most the tasks of the job.
    """
    self._commit(terms, result_root, chunks, exit_status, seconds_used, tasks_done)


@external
def commit_many(results: DynArray[IJobEscrow.Result, _MAX_BATCH]):
    """
    @notice Commits to the results of up to 32 jobs, each as `commit` would: all
            or none, so a job that is nearly due should go alone.
    @param results Terms and claim of each.
    """
    for result: IJobEscrow.Result in results:
        self._commit(
            result.terms,
            result.result_root,
            result.chunks,
            result.exit_status,
            result.seconds_used,
            result.tasks_done,
        )


@external
def settle(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Pays the provider and refunds the rest. By the buyer at any time
            after the commitment (a release), by anyone once the challenge window
            is over.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._jobs[job]
    obstacle: uint256 = self._obstacle(state, terms, commitment)
    if obstacle == _WRONG_STATE:
        errors._fail("escrow: wrong state")
    if obstacle == _DISPUTED:
        errors._fail("escrow: job is disputed")
    if obstacle == _WINDOW_OPEN:
        errors._fail("escrow: challenge window is open")
    if obstacle != 0:
        errors._fail("escrow: not what was committed")
    self._settle(job, state, terms, commitment)


@external
def settle_many(
    settlements: DynArray[IJobEscrow.Settlement, _MAX_BATCH],
) -> uint256:
    """
    @notice Settles those of up to 32 jobs that can be, and passes over the others:
            whoever settles one of them first stops nobody.
    @param settlements Terms and commitment of each.
    @return How many were settled.
    """
    settled: uint256 = 0
    for item: IJobEscrow.Settlement in settlements:
        job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, item.terms)
        state: uint256 = self._jobs[job]
        if self._obstacle(state, item.terms, item.commitment) == 0:
            self._settle(job, state, item.terms, item.commitment)
            settled += 1
    return settled


@external
def expire(terms: IJobEscrow.JobTerms):
    """
    @notice Ends a job that was not committed in time: the buyer gets its money
            back and a bounded compensation, the rest of the collateral burns.
            By anyone; nobody earns by reporting.
    @dev The job keeps its place in the offer's count, so the offer of a machine
         that vanished fills up and is hired no more; its provider posts another.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.ACTIVE)
    if block.timestamp <= terms.deliver_by:
        errors._fail("escrow: not due yet")

    self._expire(job, state, terms)


@external
def hold(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Opens a dispute: the job cannot settle until the arbiter decides.
            By the arbiter in the terms, before the challenge window ends.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.COMMITTED)
    if msg.sender != terms.arbiter:
        errors._fail("escrow: not the arbiter")
    self._require_commitment(state, commitment)
    if block.timestamp >= self._window_end(terms.challenge_window, commitment.committed_at):
        errors._fail("escrow: challenge window is over")
    self._set_status(job, state, IJobEscrow.Status.DISPUTED)
    log IJobEscrow.JobDisputed(job=job, arbiter=msg.sender)


@external
def release(terms: IJobEscrow.JobTerms):
    """
    @notice Ends a dispute in the provider's favour. By the arbiter in the terms.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.DISPUTED)
    if msg.sender != terms.arbiter:
        errors._fail("escrow: not the arbiter")
    self._set_status(job, state, IJobEscrow.Status.COMMITTED)
    log IJobEscrow.JobReleased(job=job, arbiter=msg.sender)


@external
def convict(
    terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment, to_arbiter: uint256
):
    """
    @notice Ends a dispute against the provider: the buyer is refunded and gets
            a share of the collateral, the arbiter its share for challengers,
            and at least half burns. On BASIC no lie can be shown, only default:
            the job ends as one that expired. By the arbiter in the terms, before
            the dispute's time-out.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    @param to_arbiter Base units of the collateral for the arbiter's balance.
    """
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.DISPUTED)
    if msg.sender != terms.arbiter:
        errors._fail("escrow: not the arbiter")
    self._require_commitment(state, commitment)
    if block.timestamp >= self._dispute_end(terms, commitment):
        errors._fail("escrow: dispute has timed out")
    if terms.tier != IJobEscrow.Tier.EXACT:
        if to_arbiter != 0:
            errors._fail("escrow: share above cap")
        self._expire(job, state, terms)
        return

    if to_arbiter > job_terms._arbiter_cap(terms.collateral):
        errors._fail("escrow: share above cap")
    self._set_status(job, state, IJobEscrow.Status.CONVICTED)
    refund: uint256 = job_terms._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    to_buyer: uint256 = job_terms._conviction_share(refund, terms.collateral)
    self._slash(terms.provider, job, terms.collateral, to_buyer, to_arbiter)
    balances._credit(terms.buyer, refund + to_buyer)
    balances._credit(msg.sender, to_arbiter)
    log IJobEscrow.JobConvicted(
        job=job, refund=refund, to_buyer=to_buyer, to_arbiter=to_arbiter
    )


@external
def withdraw(amount: uint256, receiver: address = msg.sender):
    """
    @notice Takes tokens out of the caller's balance. Nothing can pause it.
    @param amount Base units.
    @param receiver Who gets the tokens.
    """
    if amount == 0:
        errors._fail("escrow: amount is zero")
    self._require_receiver(receiver)
    balances._debit(msg.sender, amount)
    self._send(receiver, amount)
    log IJobEscrow.Withdrawn(account=msg.sender, receiver=receiver, amount=amount)


@external
def collect_slashes() -> uint256:
    """
    @notice Fetches the shares of slashes from the staking contract; they are in
            balances here already. By anyone; `withdraw` does it when it must.
    @return Base units.
    """
    return self._collect_slashes()


@external
def set_paused(paused: bool):
    """
    @notice Stops or allows new matches. Running jobs, payouts and withdrawals
            are not touched. By the admin.
    @param paused True to stop.
    """
    ownable._check_owner()
    self._config = (self._config & _STATUS_MASK) | (convert(paused, uint256) << 16)
    log IJobEscrow.Paused(paused=paused)


@external
def set_fee(fee_bps: uint256):
    """
    @notice Sets the fee of future jobs. By the admin.
    @param fee_bps Basis points of what a provider earns, at most `MAX_FEE_BPS`.
    """
    ownable._check_owner()
    if fee_bps > MAX_FEE_BPS:
        errors._fail("escrow: fee above cap")
    self._config = (self._config & ~_STATUS_MASK) | fee_bps
    log IJobEscrow.FeeSet(fee_bps=fee_bps)


@external
def collect_fees(providers: DynArray[address, _MAX_PROVIDERS], receiver: address) -> uint256:
    """
    @notice Sends the fees on what some providers earned so far. By the admin.
    @param providers Whose fees, see `fees_of`.
    @param receiver Who gets the tokens.
    @return Base units.
    """
    ownable._check_owner()
    self._require_receiver(receiver)
    amount: uint256 = 0
    for provider: address in providers:
        amount += balances._take_fees(provider)
    if amount == 0:
        errors._fail("escrow: no fees")
    self._send(receiver, amount)
    log IJobEscrow.FeesCollected(receiver=receiver, amount=amount)
    return amount


@external
@view
def fee_bps() -> uint256:
    """
    @notice The fee of new jobs.
    @return Basis points of what a provider earns.
    """
    return self._config & _STATUS_MASK


@external
@view
def is_paused() -> bool:
    """
    @notice Whether new matches are stopped.
    @return True while they are.
    """
    return self._config >> 16 != 0


@external
@view
def job_slot(job: bytes32) -> uint256:
    """
    @notice The packed state of a job; JobEscrowViews unpacks it.
    @param job The job's id.
    @return Status (16 bits) | creation block (40) | digest of the commitment (200);
            zero for an unknown job.
    """
    return self._jobs[job]


@internal
@view
def _admit(offer: IJobEscrow.Offer) -> (uint256, uint256):
    # What an offer must fulfil, whatever the order; returns fee and epoch of this moment.
    config: uint256 = self._config
    fee_bps: uint256 = config & _STATUS_MASK
    if config >> 16 != 0:
        errors._fail("escrow: new jobs are paused")
    if block.timestamp >= offer.expiry:
        errors._fail("escrow: offer has expired")
    if fee_bps > offer.max_fee_bps:
        errors._fail("escrow: fee above offer's limit")
    # Again, so that a revocation holds for offers that are open already.
    return fee_bps, offers._epoch(offer.provider, offer.arbiter)


@internal
def _hire(
    offer: IJobEscrow.Offer,
    offer_id: bytes32,
    epoch: uint256,
    fee_bps: uint256,
    order: IJobEscrow.Order,
) -> bytes32:
    if order.spec_hash == empty(bytes32):
        errors._fail("escrow: spec hash is empty")
    if order.longest_run == 0:
        errors._fail("escrow: longest run is zero")
    if order.longest_run < offer.shortest_run:
        errors._fail("escrow: run below offer")
    if order.longest_run > offer.longest_run:
        errors._fail("escrow: longest run beyond offer")
    if order.tasks == 0:
        errors._fail("escrow: no tasks")
    if order.tasks > bounds.MAX_TASKS:
        errors._fail("escrow: too many tasks")
    if order.audit_fee != 0 or order.audit_seal != empty(bytes32):
        errors._fail("escrow: audits not open yet")
    # An offer holds open tiers only, so membership refuses the others.
    if not (
        (order.tier == IJobEscrow.Tier.BASIC or order.tier == IJobEscrow.Tier.EXACT)
        and order.tier in offer.tiers
    ):
        errors._fail("escrow: tier not offered")
    if (order.tier == IJobEscrow.Tier.EXACT) != (order.exact_terms != empty(bytes32)):
        errors._fail("escrow: exact terms and tier")
    if order.tier == IJobEscrow.Tier.EXACT and order.tasks != 1:
        errors._fail("escrow: EXACT is one run")
    offers._take(offer_id, epoch, offer.count)

    acknowledge_by: uint256 = block.timestamp + offer.acknowledge_window
    terms: IJobEscrow.JobTerms = IJobEscrow.JobTerms(
        buyer=msg.sender,
        provider=offer.provider,
        offer=offer_id,
        spec_hash=order.spec_hash,
        tier=order.tier,
        tasks=order.tasks,
        price=0,
        price_per_second=offer.price_per_second,
        longest_run=order.longest_run,
        collateral=offer.collateral,
        fee_bps=fee_bps,
        failure_cap_bps=offer.failure_cap_bps,
        matched_at=block.timestamp,
        acknowledge_by=acknowledge_by,
        deliver_by=acknowledge_by + order.longest_run + offer.delivery_margin,
        challenge_window=offer.challenge_window,
        arbiter=offer.arbiter,
        exact_terms=order.exact_terms,
        audit_fee=order.audit_fee,
        audit_seal=order.audit_seal,
        group=order.group,
        salt=order.salt,
    )
    escrowed: uint256 = job_terms._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    balances._debit(msg.sender, escrowed)
    return self._match(terms)


@internal
def _match(terms: IJobEscrow.JobTerms) -> bytes32:
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    if self._jobs[job] != 0:
        errors._fail("escrow: job exists")
    self._jobs[job] = (blocks._number() << _BLOCK_SHIFT) | self._code(
        IJobEscrow.Status.ACTIVE
    )
    extcall offers.STAKING.lock(
        terms.provider, terms.collateral, skip_contract_check=True
    )
    log IJobEscrow.JobMatched(
        job=job, buyer=terms.buyer, provider=terms.provider, terms=terms
    )
    return job


@internal
def _decline(
    job: bytes32, state: uint256, terms: IJobEscrow.JobTerms, close_offer: bool
):
    self._set_status(job, state, IJobEscrow.Status.DECLINED)
    self.declines[terms.provider] += 1
    if terms.offer != empty(bytes32):
        offers._give_back(terms.offer)
        if close_offer:
            offers._close(terms.offer, terms.provider)
    refund: uint256 = job_terms._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    balances._credit(terms.buyer, refund)
    self._unlock(terms.provider, terms.collateral)
    log IJobEscrow.JobDeclined(job=job, provider=terms.provider)


@internal
def _commit(
    terms: IJobEscrow.JobTerms,
    result_root: bytes32,
    chunks: uint256,
    exit_status: uint256,
    seconds_used: uint256,
    tasks_done: uint256,
):
    job: bytes32 = job_terms._job_id(ids.CHAIN_ID, self, terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.ACTIVE)
    self._require_worker(terms.provider)
    if block.timestamp > terms.deliver_by:
        errors._fail("escrow: too late to commit")
    if result_root == empty(bytes32):
        errors._fail("escrow: result root is empty")
    if tasks_done > terms.tasks:
        errors._fail("escrow: more done than hired")
    if terms.tier == IJobEscrow.Tier.EXACT:
        if exit_status != 0 or tasks_done != terms.tasks:
            errors._fail("escrow: an exact job cannot fail")
        if chunks != 0:
            errors._fail("escrow: chunks on EXACT")
    else:
        if chunks == 0:
            errors._fail("escrow: no chunks")
        if chunks > _MAX_CHUNKS:
            errors._fail("escrow: too many chunks")

    commitment: IJobEscrow.Commitment = IJobEscrow.Commitment(
        result_root=result_root,
        chunks=chunks,
        pay=job_terms._pay(terms, exit_status, seconds_used, tasks_done),
        committed_at=block.timestamp,
    )
    self._set_status(
        job,
        state | (job_terms._digest(commitment) << _DIGEST_SHIFT),
        IJobEscrow.Status.COMMITTED,
    )
    if terms.offer != empty(bytes32):
        offers._give_back(terms.offer)
    log IJobEscrow.JobCommitted(
        job=job,
        provider=terms.provider,
        commitment=commitment,
        exit_status=exit_status,
        seconds_used=seconds_used,
        tasks_done=tasks_done,
    )


@internal
@view
def _obstacle(
    state: uint256, terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment
) -> uint256:
    status: uint256 = state & _STATUS_MASK
    if state >> _DIGEST_SHIFT != job_terms._digest(commitment):
        # An unknown job has no commitment either.
        return (
            _OTHER_COMMITMENT
            if status
            & (
                self._code(IJobEscrow.Status.COMMITTED)
                | self._code(IJobEscrow.Status.DISPUTED)
            )
            != 0
            else _WRONG_STATE
        )
    # Genuine from here on, so that sums of them cannot overflow.
    if status == self._code(IJobEscrow.Status.DISPUTED):
        return 0 if block.timestamp >= self._dispute_end(terms, commitment) else _DISPUTED
    if status != self._code(IJobEscrow.Status.COMMITTED):
        return _WRONG_STATE
    if msg.sender == terms.buyer:
        return 0
    window_end: uint256 = self._window_end(terms.challenge_window, commitment.committed_at)
    return 0 if block.timestamp >= window_end else _WINDOW_OPEN


@internal
def _settle(
    job: bytes32,
    state: uint256,
    terms: IJobEscrow.JobTerms,
    commitment: IJobEscrow.Commitment,
):
    self._set_status(job, state, IJobEscrow.Status.SETTLED)
    pay: uint256 = commitment.pay
    fee: uint256 = job_terms._fee(terms.fee_bps, pay)
    escrowed: uint256 = job_terms._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    refund: uint256 = escrowed - pay
    balances._credit(terms.provider, pay - fee, fee)
    balances._credit(terms.buyer, refund)
    self._unlock(terms.provider, terms.collateral)
    log IJobEscrow.JobSettled(job=job, to_provider=pay - fee, fee=fee, refund=refund)


@internal
def _expire(job: bytes32, state: uint256, terms: IJobEscrow.JobTerms):
    self._set_status(job, state, IJobEscrow.Status.EXPIRED)
    refund: uint256 = job_terms._escrowed(
        terms.price, terms.price_per_second, terms.longest_run
    )
    compensation: uint256 = job_terms._compensation(refund, terms.collateral)
    self._slash(terms.provider, job, terms.collateral, compensation, 0)
    balances._credit(terms.buyer, refund + compensation)
    log IJobEscrow.JobExpired(job=job, refund=refund, compensation=compensation)


@internal
def _unlock(provider: address, collateral: uint256):
    extcall offers.STAKING.unlock(provider, collateral, skip_contract_check=True)


@internal
def _slash(
    provider: address,
    job: bytes32,
    collateral: uint256,
    to_buyer: uint256,
    to_challenger: uint256,
):
    extcall offers.STAKING.slash(
        provider, job, collateral, to_buyer, to_challenger, skip_contract_check=True
    )


@internal
def _collect_slashes() -> uint256:
    before: uint256 = staticcall balances.TOKEN.balanceOf(self)
    owed: uint256 = extcall offers.STAKING.collect()
    # Balances count on the whole of it.
    if staticcall balances.TOKEN.balanceOf(self) - before != owed:
        errors._fail("escrow: token takes a fee")
    log IJobEscrow.SlashesCollected(amount=owed)
    return owed


@internal
def _send(receiver: address, amount: uint256):
    if staticcall balances.TOKEN.balanceOf(self) < amount:
        self._collect_slashes()
    balances._send(receiver, amount)


@internal
@view
def _require_worker(provider: address):
    # Who is the provider of genuine terms has registered, and does not unregister.
    if msg.sender != provider:
        offers._require_provider(provider)


@internal
@view
def _require_receiver(receiver: address):
    if receiver == empty(address):
        errors._fail("escrow: receiver is zero")
    if receiver == self:
        errors._fail("escrow: receiver is the escrow")


@internal
@view
def _require_status(job: bytes32, status: IJobEscrow.Status) -> uint256:
    state: uint256 = self._jobs[job]
    if state & _STATUS_MASK != self._code(status):
        errors._fail("escrow: wrong state")
    return state


@internal
@pure
def _window_end(challenge_window: uint256, committed_at: uint256) -> uint256:
    return committed_at + challenge_window


@internal
@view
def _dispute_end(
    terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment
) -> uint256:
    timeout: uint256 = DISPUTE_TIMEOUT
    if terms.tier == IJobEscrow.Tier.EXACT:
        timeout = EXACT_DISPUTE_TIMEOUT
    return self._window_end(terms.challenge_window, commitment.committed_at) + timeout


@internal
@pure
def _require_commitment(state: uint256, commitment: IJobEscrow.Commitment):
    if state >> _DIGEST_SHIFT != job_terms._digest(commitment):
        errors._fail("escrow: not what was committed")


@internal
def _set_status(job: bytes32, state: uint256, status: IJobEscrow.Status):
    self._jobs[job] = (state & ~_STATUS_MASK) | self._code(status)


@internal
@pure
def _code(status: IJobEscrow.Status) -> uint256:
    return convert(status, uint256)

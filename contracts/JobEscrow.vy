# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Escrow of GPU jobs
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice Both sides of one exchange: an offer is hired, the provider commits to
        a result, the job is settled. Who vanishes pays from its collateral.

        ACTIVE --commit--> COMMITTED --settle--> SETTLED
          |--decline--> DECLINED  |--hold--> DISPUTED --release--> COMMITTED
          |--expire---> EXPIRED                |--convict--> CONVICTED

        Every state that is not final has a deadline, and a way out that anyone
        may take: `expire` after `deliver_by`, `settle` after the challenge
        window, and, should an arbiter vanish, `settle` after `DISPUTE_TIMEOUT`.
@dev The admin may pause new matches and set the fee within its cap, nothing
     else. Invariant: token balance >= sum of balances + escrowed sums of jobs
     that are not final + collected fees.
     How it is stopped: the admin pauses new matches, and the running jobs end
     by their own deadlines. There is no proxy; a new version is a new contract.
"""
from ethereum.ercs import IERC20
from snekmate.auth import ownable
from snekmate.auth import ownable_2step

from .interfaces import IJobEscrow
from .interfaces import IProviderStaking
from .modules import balances
from .modules import offers
from .modules import terms as job_terms

implements: IJobEscrow

initializes: ownable
initializes: ownable_2step[ownable := ownable]
initializes: balances
initializes: offers

exports: (
    ownable_2step.owner,
    ownable_2step.pending_owner,
    ownable_2step.transfer_ownership,
    ownable_2step.accept_ownership,
    ownable_2step.renounce_ownership,
    balances.TOKEN,
    balances.deposit,
    balances.deposit_with_permit,
    balances.withdraw,
    balances.balance_of,
    offers.STAKING,
    offers.post_offer,
    offers.close_offer,
    offers.offer_state,
    offers.offer_id,
)


# @dev The admin's cap on the fee, in basis points of what a provider earns.
MAX_FEE_BPS: public(constant(uint256)) = 500

# @dev Seconds after the challenge window from which anyone may settle a job
#      whose arbiter has not decided.
DISPUTE_TIMEOUT: public(constant(uint256)) = 90 * 86_400

# @dev Layout of a job's slot: status (16 bits) | creation block (40) | digest
#      of the commitment (200).
_STATUS_MASK: constant(uint256) = 2**16 - 1
_BLOCK_SHIFT: constant(uint256) = 16
_BLOCK_MASK: constant(uint256) = 2**40 - 1
_DIGEST_SHIFT: constant(uint256) = 56


# @dev Fees that the admin may collect, base units.
protocol_fees: public(uint256)

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
    offers.__init__(staking)
    # Else shares of a slash would arrive here as tokens that nobody is owed.
    assert staticcall staking.TOKEN() == token.address, "escrow: stake is another token"
    assert fee_bps <= MAX_FEE_BPS, "escrow: fee above cap"
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
    config: uint256 = self._config
    fee_bps: uint256 = config & _STATUS_MASK
    assert config >> 16 == 0, "escrow: new jobs are paused"
    assert block.timestamp < convert(offer.expiry, uint256), "escrow: offer has expired"
    assert fee_bps <= convert(offer.max_fee_bps, uint256), "escrow: fee above offer's limit"
    assert order.spec_hash != empty(bytes32), "escrow: spec hash is empty"
    assert order.longest_run != 0, "escrow: longest run is zero"
    assert order.longest_run <= offer.longest_run, "escrow: longest run beyond offer"
    assert order.tasks == 1, "escrow: bags not open yet"
    assert (
        order.audit_fee == 0 and order.audit_seal == empty(bytes32)
    ), "escrow: audits not open yet"
    # An offer holds open tiers only, so membership refuses the others.
    assert (
        order.tier == IJobEscrow.Tier.BASIC or order.tier == IJobEscrow.Tier.EXACT
    ) and order.tier in offer.tiers, "escrow: tier not offered"

    arbiter: address = empty(address)
    if order.tier == IJobEscrow.Tier.EXACT:
        assert order.exact_terms != empty(bytes32), "escrow: exact terms are empty"
        arbiter = offer.arbiter
    else:
        assert order.exact_terms == empty(bytes32), "escrow: exact terms on another tier"

    offer_id: bytes32 = offers._offer_id(offer)
    offers._take(offer_id, offer.count)

    acknowledge_by: uint256 = block.timestamp + convert(offer.acknowledge_window, uint256)
    deliver_by: uint256 = (
        acknowledge_by
        + convert(order.longest_run, uint256)
        + convert(offer.delivery_margin, uint256)
    )
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
        fee_bps=convert(fee_bps, uint16),
        failure_cap_bps=offer.failure_cap_bps,
        matched_at=convert(block.timestamp, uint64),
        acknowledge_by=convert(acknowledge_by, uint64),
        deliver_by=convert(deliver_by, uint64),
        challenge_window=offer.challenge_window,
        arbiter=arbiter,
        exact_terms=order.exact_terms,
        audit_fee=order.audit_fee,
        audit_seal=order.audit_seal,
        group=order.group,
        salt=order.salt,
    )
    return self._match(terms)


@external
def decline(terms: IJobEscrow.JobTerms):
    """
    @notice Gives a job back within the acknowledgement window: full refund, no
            penalty; the offer closes until it is posted anew. By the provider's
            owner or operator.
    @dev Without it a buyer could withhold the inputs and collect.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.ACTIVE)
    self._require_provider(terms.provider)
    assert block.timestamp <= convert(terms.acknowledge_by, uint256), "escrow: too late to decline"

    self._set_status(job, state, IJobEscrow.Status.DECLINED)
    self.declines[terms.provider] += 1
    offers._give_back(terms.offer)
    offers._close(terms.offer, terms.provider)
    balances._credit(terms.buyer, job_terms._escrowed(terms))
    extcall offers.STAKING.unlock(terms.provider, job)
    log IJobEscrow.JobDeclined(job=job, provider=terms.provider)


@external
def commit(
    terms: IJobEscrow.JobTerms,
    result_root: bytes32,
    exit_status: uint8,
    seconds_used: uint32,
    tasks_done: uint32,
):
    """
    @notice Commits to the result of a job. By the provider's owner or operator.
    @dev On BASIC the claim is bounded and not verified. On EXACT there is no
         failing: exit status 0 and all tasks.
    @param terms The job's terms.
    @param result_root Root of the output manifest, or of the run.
    @param exit_status 0 for success; anything else pays the failure cap at most.
    @param seconds_used Seconds that the run took.
    @param tasks_done Units done, at most the tasks of the job.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.ACTIVE)
    self._require_provider(terms.provider)
    assert block.timestamp <= convert(terms.deliver_by, uint256), "escrow: too late to commit"
    assert result_root != empty(bytes32), "escrow: result root is empty"
    assert tasks_done <= terms.tasks, "escrow: more tasks done than hired"
    if terms.tier == IJobEscrow.Tier.EXACT:
        assert (
            exit_status == 0 and tasks_done == terms.tasks
        ), "escrow: an exact job cannot fail"

    commitment: IJobEscrow.Commitment = IJobEscrow.Commitment(
        result_root=result_root,
        pay=convert(
            job_terms._pay(terms, exit_status, seconds_used, tasks_done), uint128
        ),
        committed_at=convert(block.timestamp, uint64),
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


@external
def settle(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Pays the provider and refunds the rest. By the buyer at any time
            after the commitment, by anyone once the challenge window is over.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._jobs[job]
    status: uint256 = state & _STATUS_MASK
    window_end: uint256 = convert(commitment.committed_at, uint256) + convert(
        terms.challenge_window, uint256
    )
    if status == self._code(IJobEscrow.Status.DISPUTED):
        assert (
            block.timestamp >= window_end + DISPUTE_TIMEOUT
        ), "escrow: job is disputed"
    else:
        assert status == self._code(IJobEscrow.Status.COMMITTED), "escrow: wrong state"
        assert (
            msg.sender == terms.buyer or block.timestamp >= window_end
        ), "escrow: challenge window is open"
    self._require_commitment(state, commitment)

    self._set_status(job, state, IJobEscrow.Status.SETTLED)
    pay: uint256 = convert(commitment.pay, uint256)
    fee: uint256 = job_terms._fee(terms, pay)
    refund: uint256 = job_terms._escrowed(terms) - pay
    if fee != 0:
        self.protocol_fees += fee
    balances._credit(terms.provider, pay - fee)
    balances._credit(terms.buyer, refund)
    extcall offers.STAKING.unlock(terms.provider, job)
    log IJobEscrow.JobSettled(job=job, to_provider=pay - fee, fee=fee, refund=refund)


@external
def expire(terms: IJobEscrow.JobTerms):
    """
    @notice Ends a job that was not committed in time: the buyer gets its money
            back and a bounded compensation, the rest of the collateral burns.
            By anyone; nobody earns by reporting.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.ACTIVE)
    assert block.timestamp > convert(terms.deliver_by, uint256), "escrow: not due yet"

    self._set_status(job, state, IJobEscrow.Status.EXPIRED)
    if terms.offer != empty(bytes32):
        offers._give_back(terms.offer)
    refund: uint256 = job_terms._escrowed(terms)
    compensation: uint256 = self._slash(terms, job, job_terms._compensation(terms), 0)
    balances._credit(terms.buyer, refund + compensation)
    log IJobEscrow.JobExpired(job=job, refund=refund, compensation=compensation)


@external
def hold(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Opens a dispute: the job cannot settle until the arbiter decides.
            By the arbiter in the terms, before the challenge window ends.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.COMMITTED)
    assert msg.sender == terms.arbiter, "escrow: not the arbiter"
    self._require_commitment(state, commitment)
    assert block.timestamp < convert(commitment.committed_at, uint256) + convert(
        terms.challenge_window, uint256
    ), "escrow: challenge window is over"
    self._set_status(job, state, IJobEscrow.Status.DISPUTED)
    log IJobEscrow.JobDisputed(job=job, arbiter=msg.sender)


@external
def release(terms: IJobEscrow.JobTerms):
    """
    @notice Ends a dispute in the provider's favour. By the arbiter in the terms.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.DISPUTED)
    assert msg.sender == terms.arbiter, "escrow: not the arbiter"
    self._set_status(job, state, IJobEscrow.Status.COMMITTED)
    log IJobEscrow.JobReleased(job=job, arbiter=msg.sender)


@external
def convict(terms: IJobEscrow.JobTerms, to_arbiter: uint256):
    """
    @notice Ends a dispute against the provider: the buyer is refunded and gets
            a share of the collateral, the arbiter its share for challengers,
            and at least half burns. By the arbiter in the terms.
    @param terms The job's terms.
    @param to_arbiter Base units of the collateral for the arbiter's balance.
    """
    job: bytes32 = job_terms._job_id(terms)
    state: uint256 = self._require_status(job, IJobEscrow.Status.DISPUTED)
    assert msg.sender == terms.arbiter, "escrow: not the arbiter"
    assert to_arbiter <= job_terms._arbiter_cap(terms), "escrow: share above cap"

    self._set_status(job, state, IJobEscrow.Status.CONVICTED)
    refund: uint256 = job_terms._escrowed(terms)
    to_buyer: uint256 = job_terms._conviction_share(terms)
    received: uint256 = self._slash(terms, job, to_buyer, to_arbiter)
    # A token that began to charge after the deposit must not make it insolvent.
    paid_arbiter: uint256 = min(received, to_arbiter)
    to_buyer = received - paid_arbiter
    balances._credit(terms.buyer, refund + to_buyer)
    balances._credit(msg.sender, paid_arbiter)
    log IJobEscrow.JobConvicted(
        job=job, refund=refund, to_buyer=to_buyer, to_arbiter=paid_arbiter
    )


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
    assert fee_bps <= MAX_FEE_BPS, "escrow: fee above cap"
    self._config = (self._config & ~_STATUS_MASK) | fee_bps
    log IJobEscrow.FeeSet(fee_bps=fee_bps)


@external
def collect_fees(receiver: address):
    """
    @notice Sends the fees so far. By the admin.
    @param receiver Who gets the tokens.
    """
    ownable._check_owner()
    assert receiver != empty(address), "escrow: receiver is zero"
    assert receiver != self, "escrow: receiver is the escrow"
    amount: uint256 = self.protocol_fees
    assert amount != 0, "escrow: no fees"
    self.protocol_fees = 0
    balances._send(receiver, amount)
    log IJobEscrow.FeesCollected(receiver=receiver, amount=amount)


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
def job_state(job: bytes32) -> IJobEscrow.JobState:
    """
    @notice The state of a job. `JobMatched` in its creation block has the terms.
    @param job The job's id.
    @return Status (empty for an unknown job), block, digest of the commitment.
    """
    state: uint256 = self._jobs[job]
    return IJobEscrow.JobState(
        status=convert(state & _STATUS_MASK, IJobEscrow.Status),
        created_block=(state >> _BLOCK_SHIFT) & _BLOCK_MASK,
        commitment_digest=state >> _DIGEST_SHIFT,
    )


@external
@view
def job_id(terms: IJobEscrow.JobTerms) -> bytes32:
    """
    @notice The id of a job on this chain and escrow.
    @param terms The job's terms.
    @return The hash of its terms.
    """
    return job_terms._job_id(terms)


@internal
def _match(terms: IJobEscrow.JobTerms) -> bytes32:
    job: bytes32 = job_terms._job_id(terms)
    assert self._jobs[job] == 0, "escrow: job exists"
    self._jobs[job] = (block.number << _BLOCK_SHIFT) | self._code(IJobEscrow.Status.ACTIVE)
    balances._debit(terms.buyer, job_terms._escrowed(terms))
    extcall offers.STAKING.lock(terms.provider, job, convert(terms.collateral, uint256))
    log IJobEscrow.JobMatched(
        job=job, buyer=terms.buyer, provider=terms.provider, terms=terms
    )
    return job


@internal
def _slash(
    terms: IJobEscrow.JobTerms, job: bytes32, to_buyer: uint256, to_challenger: uint256
) -> uint256:
    # What arrives is measured, so that no balance is owed more than is here.
    before: uint256 = staticcall balances.TOKEN.balanceOf(self)
    extcall offers.STAKING.slash(terms.provider, job, to_buyer, to_challenger)
    return staticcall balances.TOKEN.balanceOf(self) - before


@internal
@view
def _require_status(job: bytes32, status: IJobEscrow.Status) -> uint256:
    state: uint256 = self._jobs[job]
    assert state & _STATUS_MASK == self._code(status), "escrow: wrong state"
    return state


@internal
@view
def _require_provider(provider: address):
    assert staticcall offers.STAKING.is_operator(
        provider, msg.sender
    ), "escrow: not owner or operator"


@internal
@pure
def _require_commitment(state: uint256, commitment: IJobEscrow.Commitment):
    assert (
        state >> _DIGEST_SHIFT == job_terms._digest(commitment)
    ), "escrow: not what was committed"


@internal
def _set_status(job: bytes32, state: uint256, status: IJobEscrow.Status):
    self._jobs[job] = (state & ~_STATUS_MASK) | self._code(status)


@internal
@pure
def _code(status: IJobEscrow.Status) -> uint256:
    return convert(status, uint256)

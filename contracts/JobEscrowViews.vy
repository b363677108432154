# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title What people and dashboards read
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice Unpacked answers in one call, kept out of the core. Owns nothing and
        writes nothing; any number of such contracts may stand beside an escrow.
"""
from .interfaces import IJobEscrow
from .interfaces import IProviderStaking
from .modules import terms as job_terms


interface IEscrowReads:
    def CHAIN_ID() -> uint256: view
    def STAKING() -> address: view
    def balance_of(account: address) -> uint256: view
    def declines(provider: address) -> uint256: view
    def job_slot(job: bytes32) -> uint256: view
    def offer_slot(offer_id: bytes32) -> uint256: view
    def request_slot(request_id: bytes32) -> uint256: view
    def fees_of(provider: address) -> uint256: view
    def is_arbiter_approved(provider: address, arbiter: address) -> bool: view
    def offer_epoch(provider: address, arbiter: address) -> uint256: view
    def is_paused() -> bool: view
    def fee_bps() -> uint256: view


# @dev A provider as the escrow sees it. Amounts in base units.
struct Provider:
    operator: address  # zero: never registered
    stake: uint256  # free, or allocated to the escrow
    free_stake: uint256  # withdrawable at once
    allowed: uint256  # what the escrow may lock at once
    allowed_per_job: uint256
    locked: uint256
    balance: uint256  # earned, withdrawable from the escrow
    declines: uint256
    fees: uint256  # of what it earned, not collected yet by the admin


_STATUS_MASK: constant(uint256) = 2**16 - 1
_OPEN_BIT: constant(uint256) = 1 << 255
_EPOCH_SHIFT: constant(uint256) = 128
_TAKEN_MASK: constant(uint256) = 2**128 - 1


# @dev The escrow whose state is read.
ESCROW: public(immutable(IEscrowReads))

# @dev The staking contract of that escrow.
STAKING: public(immutable(IProviderStaking))

_CHAIN_ID: immutable(uint256)


@deploy
def __init__(escrow: address):
    """
    @param escrow The JobEscrow to read.
    """
    ESCROW = IEscrowReads(escrow)
    STAKING = IProviderStaking(staticcall ESCROW.STAKING())
    _CHAIN_ID = staticcall ESCROW.CHAIN_ID()


@external
@view
def provider_of(account: address) -> Provider:
    """
    @notice A provider's stake, allowance and record.
    @param account The owner's address.
    @return All amounts in base units.
    """
    allowance: IProviderStaking.Allowance = staticcall STAKING.allowance(account, ESCROW.address)
    free: uint256 = staticcall STAKING.free_stake_of(account)
    return Provider(
        operator=staticcall STAKING.operator_of(account),
        stake=free + max(allowance.total, allowance.locked),
        free_stake=free,
        allowed=allowance.total,
        allowed_per_job=allowance.per_job,
        locked=allowance.locked,
        balance=staticcall ESCROW.balance_of(account),
        declines=staticcall ESCROW.declines(account),
        fees=staticcall ESCROW.fees_of(account),
    )


@external
@view
def job_state(job: bytes32) -> IJobEscrow.JobState:
    """
    @notice The state of a job. `JobMatched` in its creation block has the terms.
    @param job The job's id.
    @return Status (empty for an unknown job), block, digest of the commitment.
    """
    return self._job_state(job)


@external
@view
def offer_state(offer_id: bytes32) -> IJobEscrow.OfferState:
    """
    @notice Whether an offer can be hired, and how many of its jobs run.
    @param offer_id The hash of its fields.
    @return Its state; closed and zero for an unknown offer.
    """
    return self._offer_state(offer_id)


@external
@view
def request_state(request_id: bytes32) -> IJobEscrow.RequestState:
    """
    @notice The state of a request. `RequestPosted` in its creation block has its
            fields.
    @param request_id The hash of its fields.
    @return Status (empty for an unknown request) and block.
    """
    slot: uint256 = staticcall ESCROW.request_slot(request_id)
    return IJobEscrow.RequestState(
        status=convert(slot & _STATUS_MASK, IJobEscrow.Status), created_block=slot >> 16
    )


@external
@view
def job_id(terms: IJobEscrow.JobTerms) -> bytes32:
    """
    @notice The id of a job on this chain and escrow.
    @param terms The job's terms.
    @return The hash of its terms.
    """
    return job_terms._job_id(_CHAIN_ID, ESCROW.address, terms)


@external
@view
def offer_id(offer: IJobEscrow.Offer) -> bytes32:
    """
    @notice The id of an offer on this chain and escrow.
    @param offer All of its fields.
    @return The hash of its fields.
    """
    return self._offer_id(offer)


@external
@view
def request_id(request: IJobEscrow.Request) -> bytes32:
    """
    @notice The id of a request on this chain and escrow.
    @param request All of its fields.
    @return The hash of its fields.
    """
    return keccak256(abi_encode(_CHAIN_ID, ESCROW.address, request))


@external
@view
def refusal(offer: IJobEscrow.Offer, buyer: address, longest_run: uint256) -> String[64]:
    """
    @notice Why a hire for so long would be refused now, in words.
    @param offer The offer, as it was posted.
    @param buyer Whose balance would pay.
    @param longest_run Seconds to hire for.
    @return Empty if nothing stands against it.
    """
    if staticcall ESCROW.is_paused():
        return "new jobs are paused"
    if block.timestamp >= offer.expiry:
        return "offer has expired"
    if staticcall ESCROW.fee_bps() > offer.max_fee_bps:
        return "fee above offer's limit"
    if offer.arbiter != empty(address) and not staticcall ESCROW.is_arbiter_approved(
        offer.provider, offer.arbiter
    ):
        return "arbiter not approved"
    if longest_run < offer.shortest_run:
        return "run below offer"
    if longest_run == 0 or longest_run > offer.longest_run:
        return "longest run is zero or beyond offer"
    state: IJobEscrow.OfferState = self._offer_state(self._offer_id(offer))
    epoch: uint256 = staticcall ESCROW.offer_epoch(offer.provider, offer.arbiter)
    if not state.is_open or state.epoch != epoch:
        return "offer not open"
    if state.active >= offer.count:
        return "offer fully used"
    allowance: IProviderStaking.Allowance = staticcall STAKING.allowance(
        offer.provider, ESCROW.address
    )
    collateral: uint256 = offer.collateral
    if collateral > allowance.per_job or allowance.locked + collateral > allowance.total:
        return "provider's allowance does not cover the collateral"
    price: uint256 = offer.price_per_second * longest_run
    if price > staticcall ESCROW.balance_of(buyer):
        return "not enough balance"
    return ""


@external
@view
def escrowed(terms: IJobEscrow.JobTerms) -> uint256:
    """
    @notice What the escrow holds for a job.
    @param terms The job's terms.
    @return Base units; zero once the job is final, or unknown.
    """
    state: IJobEscrow.JobState = self._job_state(
        job_terms._job_id(_CHAIN_ID, ESCROW.address, terms)
    )
    if state.status in (
        IJobEscrow.Status.ACTIVE
        | IJobEscrow.Status.COMMITTED
        | IJobEscrow.Status.DISPUTED
    ):
        return job_terms._escrowed(terms.price, terms.price_per_second, terms.longest_run)
    return 0


@internal
@view
def _job_state(job: bytes32) -> IJobEscrow.JobState:
    slot: uint256 = staticcall ESCROW.job_slot(job)
    return IJobEscrow.JobState(
        status=convert(slot & _STATUS_MASK, IJobEscrow.Status),
        created_block=(slot >> 16) & (2**40 - 1),
        commitment_digest=slot >> 56,
    )


@internal
@view
def _offer_state(offer_id: bytes32) -> IJobEscrow.OfferState:
    slot: uint256 = staticcall ESCROW.offer_slot(offer_id)
    return IJobEscrow.OfferState(
        is_open=slot & _OPEN_BIT != 0,
        epoch=(slot & ~_OPEN_BIT) >> _EPOCH_SHIFT,
        active=slot & _TAKEN_MASK,
    )


@internal
@view
def _offer_id(offer: IJobEscrow.Offer) -> bytes32:
    return keccak256(abi_encode(_CHAIN_ID, ESCROW.address, offer))

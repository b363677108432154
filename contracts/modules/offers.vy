# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Offers of providers
@license GNU Affero General Public License v3.0 only
@notice An offer's id is the hash of its fields; state keeps whether it is open
        and how many of its jobs run, so posting costs one slot.
"""
from ..interfaces import IJobEscrow
from ..interfaces import IProviderStaking
from . import bounds
from . import errors
from . import ids

uses: ids

# @dev Where the stake behind the offers lies.
STAKING: public(immutable(IProviderStaking))

# @dev Layout of an offer's slot: open (bit 255) | epoch in which it was posted
#      (127 bits) | places taken (128).
_OPEN_BIT: constant(uint256) = 1 << 255
_EPOCH_SHIFT: constant(uint256) = 128
_TAKEN_MASK: constant(uint256) = 2**128 - 1

# @dev Layout of an arbiter's slot: epoch of the offers with it | approved (bit 0).
_APPROVED: constant(uint256) = 1
_NEXT_EPOCH: constant(uint256) = 2

_states: HashMap[bytes32, uint256]

# @dev provider -> arbiter, or zero for offers without one -> packed. Approval and
#      epoch lie beside each other, since a hire reads both.
_arbiters: HashMap[address, HashMap[address, uint256]]


@deploy
def __init__(staking: IProviderStaking):
    """
    @param staking The ProviderStaking contract.
    """
    if not staking.address.is_contract:
        errors._fail("escrow: staking is no contract")
    STAKING = staking


@external
def approve_arbiter(arbiter: address, approved: bool):
    """
    @notice Lets a contract decide disputes about the caller's new jobs, or no
            longer. By the provider's owner: else a stolen operator key could name
            an arbiter of the thief's.
    @param arbiter The contract. Read its code: it can have collateral slashed. A
           wallet with delegated code (EIP-7702) counts as a contract as well.
    @param approved Whether it may.
    """
    if approved and not arbiter.is_contract:
        errors._fail("escrow: arbiter is no contract")
    slot: uint256 = self._arbiters[msg.sender][arbiter]
    self._arbiters[msg.sender][arbiter] = (slot & ~_APPROVED) | convert(approved, uint256)
    log IJobEscrow.ArbiterApproved(provider=msg.sender, arbiter=arbiter, approved=approved)


@external
def revoke_offers(arbiter: address):
    """
    @notice Ends all offers that the caller's operator posted so far with this
            arbiter, seen or not: what a thief posted with a stolen key would
            outlive the key. Running jobs go on. By the provider's owner, once for
            each arbiter it approved and once for zero.
    @param arbiter The arbiter of the offers; zero for those without one.
    """
    self._arbiters[msg.sender][arbiter] += _NEXT_EPOCH
    log IJobEscrow.OffersRevoked(provider=msg.sender, arbiter=arbiter)


@external
def post_offer(offer: IJobEscrow.Offer) -> bytes32:
    """
    @notice Opens an offer, or opens it again after it was closed.
            By the provider's owner or operator.
    @param offer All of its fields.
    @return The offer's id.
    """
    self._require_provider(offer.provider)
    if offer.resource_class == empty(bytes32):
        errors._fail("escrow: class is empty")
    if offer.count == 0:
        errors._fail("escrow: count is zero")
    if offer.price_per_second == 0:
        errors._fail("escrow: price is zero")
    if offer.shortest_run > offer.longest_run:
        errors._fail("escrow: shortest above longest")
    if offer.expiry <= block.timestamp:
        errors._fail("escrow: offer has expired")
    bounds._check(
        0,
        offer.price_per_second,
        offer.longest_run,
        offer.acknowledge_window,
        offer.delivery_margin,
        offer.challenge_window,
        offer.failure_cap_bps,
        offer.collateral,
    )
    if offer.tiers == empty(IJobEscrow.Tier):
        errors._fail("escrow: no tier")
    if (
        offer.tiers & (IJobEscrow.Tier.REPLICATED | IJobEscrow.Tier.ATTESTED)
        != empty(IJobEscrow.Tier)
    ):
        errors._fail("escrow: tier not open yet")
    epoch: uint256 = self._epoch(offer.provider, offer.arbiter)
    if offer.arbiter != empty(address):
        if offer.challenge_window == 0:
            errors._fail("escrow: no challenge window")
    elif IJobEscrow.Tier.EXACT in offer.tiers:
        errors._fail("escrow: EXACT without arbiter")

    offer_id: bytes32 = self._offer_id(offer)
    opened: uint256 = _OPEN_BIT | (epoch << _EPOCH_SHIFT)
    state: uint256 = self._states[offer_id]
    if state & ~_TAKEN_MASK == opened:
        errors._fail("escrow: offer already open")
    self._states[offer_id] = opened | (state & _TAKEN_MASK)
    log IJobEscrow.OfferPosted(
        offer_id=offer_id,
        provider=offer.provider,
        resource_class=offer.resource_class,
        offer=offer,
    )
    return offer_id


@external
def close_offer(offer: IJobEscrow.Offer):
    """
    @notice Closes an offer; its running jobs go on. By owner or operator.
    @param offer All of its fields.
    """
    self._require_provider(offer.provider)
    offer_id: bytes32 = self._offer_id(offer)
    if self._states[offer_id] & _OPEN_BIT == 0:
        errors._fail("escrow: offer not open")
    self._close(offer_id, offer.provider)


@external
@view
def offer_slot(offer_id: bytes32) -> uint256:
    """
    @notice The packed state of an offer; JobEscrowViews unpacks it.
    @param offer_id The hash of its fields.
    @return Open (bit 255) | epoch (127 bits) | places taken (128); zero for an
            unknown offer.
    """
    return self._states[offer_id]


@external
@view
def is_arbiter_approved(provider: address, arbiter: address) -> bool:
    """
    @notice Whether a contract may hold and convict a provider's new jobs.
    @param provider The owner's address.
    @param arbiter The contract.
    @return True from its approval on.
    """
    return self._arbiters[provider][arbiter] & _APPROVED != 0


@external
@view
def offer_epoch(provider: address, arbiter: address) -> uint256:
    """
    @notice How often the owner revoked its offers with an arbiter. An offer is
            open only in the epoch in which it was posted.
    @param provider The owner's address.
    @param arbiter The arbiter of the offers; zero for those without one.
    @return The present epoch, from 0.
    """
    return self._arbiters[provider][arbiter] >> 1


@internal
@view
def _require_provider(provider: address):
    if not staticcall STAKING.is_operator( provider, msg.sender, skip_contract_check=True ):
        errors._fail("escrow: not owner or operator")


@internal
@view
def _epoch(provider: address, arbiter: address) -> uint256:
    # The epoch of the offers with an arbiter, which must be approved unless it is zero.
    slot: uint256 = self._arbiters[provider][arbiter]
    if slot & _APPROVED == 0 and arbiter != empty(address):
        errors._fail("escrow: arbiter not approved")
    return slot >> 1


@internal
@view
def _offer_id(offer: IJobEscrow.Offer) -> bytes32:
    return keccak256(abi_encode(ids.CHAIN_ID, self, offer))


@internal
def _take(offer_id: bytes32, epoch: uint256, count: uint256):
    state: uint256 = self._states[offer_id]
    if state & ~_TAKEN_MASK != _OPEN_BIT | (epoch << _EPOCH_SHIFT):
        errors._fail("escrow: offer not open")
    if state & _TAKEN_MASK >= count:
        errors._fail("escrow: offer fully used")
    self._states[offer_id] = state + 1


@internal
def _give_back(offer_id: bytes32):
    # Each job took one and gives it back once, so the counter is not zero.
    self._states[offer_id] -= 1


@internal
def _close(offer_id: bytes32, provider: address):
    state: uint256 = self._states[offer_id]
    if state & _OPEN_BIT != 0:
        self._states[offer_id] = state & ~_OPEN_BIT
        log IJobEscrow.OfferClosed(offer_id=offer_id, provider=provider)

# pragma version ~=0.4.3
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Requests of buyers
@license GNU Affero General Public License v3.0 only
@notice A request's id is the hash of its fields; state keeps its status and the
        block in which it was posted.
"""
from ..interfaces import IJobEscrow
from . import bounds
from . import errors
from . import ids

uses: ids

# @dev Seconds that a request may stay open.
_MAX_EXPIRY: constant(uint256) = 90 * 86_400

_STATUS_MASK: constant(uint256) = 2**16 - 1

# @dev request id -> status (low 16 bits) | creation block.
_requests: HashMap[bytes32, uint256]


@external
@view
def request_slot(request_id: bytes32) -> uint256:
    """
    @notice The packed state of a request; JobEscrowViews unpacks it.
    @param request_id The hash of its fields.
    @return Status (16 bits) | creation block; zero for an unknown request.
    """
    return self._requests[request_id]


@internal
@view
def _request_id(request: IJobEscrow.Request) -> bytes32:
    return keccak256(abi_encode(ids.CHAIN_ID, self, request))


@internal
@view
def _check(request: IJobEscrow.Request):
    if request.resource_class == empty(bytes32):
        errors._fail("escrow: class is empty")
    if request.spec_hash == empty(bytes32):
        errors._fail("escrow: spec hash is empty")
    if request.tasks == 0:
        errors._fail("escrow: no tasks")
    if request.tasks > bounds.MAX_TASKS:
        errors._fail("escrow: too many tasks")
    if (request.price == 0) == (request.price_per_second == 0):
        errors._fail("escrow: not one price")
    if request.expiry <= block.timestamp:
        errors._fail("escrow: request has expired")
    if request.expiry > block.timestamp + _MAX_EXPIRY:
        errors._fail("escrow: expiry too late")
    if request.audit_fee != 0 or request.audit_seal != empty(bytes32):
        errors._fail("escrow: audits not open yet")
    if request.tier != IJobEscrow.Tier.BASIC and request.tier != IJobEscrow.Tier.EXACT:
        errors._fail("escrow: tier not open yet")
    if (request.tier == IJobEscrow.Tier.EXACT) != (request.exact_terms != empty(bytes32)):
        errors._fail("escrow: exact terms and tier")
    if request.tier == IJobEscrow.Tier.EXACT and request.tasks != 1:
        errors._fail("escrow: EXACT is one run")
    # The provider's approval of it is asked at the acceptance.
    if request.arbiter != empty(address):
        if request.challenge_window == 0:
            errors._fail("escrow: no challenge window")
    elif request.tier == IJobEscrow.Tier.EXACT:
        errors._fail("escrow: EXACT without arbiter")
    bounds._check(
        request.price,
        request.price_per_second,
        request.longest_run,
        request.acknowledge_window,
        request.delivery_margin,
        request.challenge_window,
        request.failure_cap_bps,
        request.collateral,
    )


@internal
def _open(request_id: bytes32, block_number: uint256):
    if self._requests[request_id] != 0:
        errors._fail("escrow: request exists")
    self._requests[request_id] = (block_number << 16) | convert(
        IJobEscrow.Status.OPEN, uint256
    )


@internal
def _end(request_id: bytes32, status: IJobEscrow.Status):
    state: uint256 = self._requests[request_id]
    if state & _STATUS_MASK != convert(IJobEscrow.Status.OPEN, uint256):
        errors._fail("escrow: request not open")
    self._requests[request_id] = (state & ~_STATUS_MASK) | convert(status, uint256)

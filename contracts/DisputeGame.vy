# pragma version ~=0.4.3
#pragma optimize codesize
# pragma nonreentrancy on
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The dispute game
@license GNU Affero General Public License v3.0 only
@author GpuBond
@notice The arbiter of EXACT jobs. Anyone who posts a bond can say that a committed run is
        wrong; asserter and challenger then move in turn, by docs/disputes.md, until one
        evaluation is left that a contract can make. Who does not move in time loses.
        A job of which one game is won is convicted, for good.
@dev It has no admin, and can do no more to a provider than the escrow lets an arbiter of
     an EXACT job do, and no provider has it that has not approved it. No function loops
     over games, and none but `open` and `withdraw` moves tokens, so that neither a token
     nor a crowd of games stops a move or a verdict.

     A verdict is recorded by the move that it follows from; `convict` brings it to the
     escrow. Between the two the job is held, and nothing can release it: `release` needs
     that no game is open, and a game that was won stays open until it is claimed after.

     How it is stopped: a provider withdraws its approval; running jobs end.
"""
from .interfaces import IDisputeGame
from .interfaces import IExaminer
from .interfaces import IJobEscrow
from .interfaces import IProviderStaking
from .modules import errors
from .modules import exact_merkle
from .modules import game_bonds
from .modules import game_clocks
from .modules import game_evidence
from .modules import game_places
from .modules import game_trees
from .modules import terms as job_terms

implements: IDisputeGame

initializes: game_bonds

exports: (
    game_bonds.ESCROW,
    game_bonds.TOKEN,
    game_bonds.GAME_GAS,
    game_bonds.MOVE_GAS,
    game_bonds.MIN_GAS_PRICE,
    game_bonds.RATE,
    game_bonds.MAX_COLLATERAL,
    game_bonds.withdraw,
    game_bonds.balance_of,
    game_bonds.burned,
    game_bonds.minimum_collateral,
    game_bonds.bond_of,
    game_bonds.games_of,
)


# @dev More than the moves of the longest game that a statement allows, both sides' together, which
#      are 46: RUN and INTERVAL have at most 65 levels, so 14 shows and 26 moves together, STEP 5,
#      OUTPUT 4, LEAF 2, TOTALS 8, and the last.
_MOST_MOVES: constant(uint256) = 60

# @dev Seconds between the longest game's end and the escrow's time-out, in which somebody
#      must call `time_out` and `convict`.
_MARGIN: constant(uint256) = 7 * 86_400

# @dev What examines what challengers show, and asks the judge.
EXAMINER: public(immutable(IExaminer))

# @dev Where providers name their operators.
STAKING: public(immutable(IProviderStaking))

# @dev Seconds that each side has at first.
CLOCK: public(immutable(uint256))

# @dev Seconds that each move adds, besides the answer seconds of the terms, which count
#      once for each game that is open on the job when a game opens, itself included.
INCREMENT: public(immutable(uint256))

# @dev Answer seconds of the terms, and of as many games as are counted, at most.
MAX_ANSWER: public(immutable(uint256))

_CHAIN_ID: immutable(uint256)

_STATUS_MASK: constant(uint256) = 2**16 - 1
_DIGEST_SHIFT: constant(uint256) = 56

# @dev Instead of the hash of a position: the game is over, and no other takes its id.
_OVER: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000000001

# @dev Bytes of one move in `move_many`, and moves. Memory is paid for all that could come, so
#      more of either would cost what a batch saves.
_MAX_MOVE: constant(uint256) = 5_120
_MAX_MOVES: constant(uint256) = 8

_MAX_EVIDENCE: constant(uint256) = 9_088

# @dev Bytes of values that are shown at once, and with the leaf that the element is of.
_MAX_VALUES: constant(uint256) = 524
_MAX_SHOWN: constant(uint256) = 780


# @dev game -> keccak256 of its Position.
_games: HashMap[bytes32, bytes32]


@deploy
def __init__(
    escrow: address,
    examiner: address,
    clock: uint256,
    increment: uint256,
    max_answer: uint256,
    min_gas_price: uint256,
    rate: uint256,
    max_collateral: uint256,
):
    """
    @dev Games open strictly before the window's end, so that all are over by the window's
         end + two clocks + what all moves add; a verdict needs the escrow to wait longer
         than that, or a liar would play for time and be paid.
    @param escrow The JobEscrow.
    @param examiner The Examiner, and with it the Judge.
    @param clock Seconds that each side has at first: more than it may take to get a
           transaction in against a sequencer's will.
    @param increment Seconds that each move adds.
    @param max_answer Answer seconds of terms, at most.
    @param min_gas_price Wei a unit of gas that bonds reckon with at least.
    @param rate Base units of the token that are reckoned for 10**18 wei.
    @param max_collateral Base units of collateral of a job, at most.
    """
    game_bonds.__init__(escrow, min_gas_price, rate, max_collateral)
    if not examiner.is_contract:
        errors._fail("game: examiner is no contract")
    if clock == 0 or increment == 0:
        errors._fail("game: clock is zero")
    if max(clock, max(increment, max_answer)) >= 2**32:
        errors._fail("game: clock too long")
    longest: uint256 = 2 * clock + _MOST_MOVES * (increment + max_answer)
    if (
        longest + _MARGIN
        > staticcall game_bonds.IEscrow(escrow).EXACT_DISPUTE_TIMEOUT()
    ):
        errors._fail("game: longest game too long")
    EXAMINER = IExaminer(examiner)
    STAKING = IProviderStaking(staticcall game_bonds.IEscrow(escrow).STAKING())
    CLOCK = clock
    INCREMENT = increment
    MAX_ANSWER = max_answer
    _CHAIN_ID = staticcall game_bonds.IEscrow(escrow).CHAIN_ID()


@external
def open(
    terms: IJobEscrow.JobTerms,
    commitment: IJobEscrow.Commitment,
    run: IDisputeGame.Run,
    answer: uint256,
    salt: bytes32,
    max_bond: uint256,
    nodes: Bytes[game_trees.NODES_BYTES],
) -> bytes32:
    """
    @notice Opens a game on a committed job, strictly before its challenge window ends. The
            bond comes from the caller's tokens. The first game holds the job.
    @param terms The job's terms; this contract is their arbiter.
    @param commitment What the provider committed to.
    @param run What the statement in the terms is the hash of.
    @param answer The answer seconds in the terms.
    @param salt Any value that makes the game's id unique.
    @param max_bond Base units that the bond may be at most.
    @param nodes The first of RUN in the caller's own run, which must be another than the
           committed one; none if there is one checkpoint.
    @return The game's id.
    """
    if terms.tier != IJobEscrow.Tier.EXACT:
        errors._fail("game: not on this tier")
    if terms.arbiter != self:
        errors._fail("game: not the arbiter")
    if terms.collateral < game_bonds._least(game_bonds.MIN_GAS_PRICE, game_bonds.RATE):
        errors._fail("game: collateral too low")
    if terms.collateral > game_bonds.MAX_COLLATERAL:
        errors._fail("game: collateral too high")
    if answer > MAX_ANSWER:
        errors._fail("game: answer takes too long")
    exact_terms: bytes32 = empty(bytes32)
    counts: uint256 = 0
    exact_terms, counts = staticcall EXAMINER.terms(run, answer)
    if exact_terms != terms.exact_terms:
        errors._fail("game: not the exact terms")

    job: bytes32 = job_terms._job_id(_CHAIN_ID, game_bonds.ESCROW.address, terms)
    packed: uint256 = game_bonds._require_undecided(job)
    slot: uint256 = staticcall game_bonds.ESCROW.job_slot(job)
    if slot & _STATUS_MASK == convert(IJobEscrow.Status.DISPUTED, uint256):
        if slot >> _DIGEST_SHIFT != job_terms._digest(commitment):
            errors._fail("game: not what was committed")
        if block.timestamp >= commitment.committed_at + terms.challenge_window:
            errors._fail("game: challenge window is over")
    else:
        # The escrow checks state, commitment and window.
        extcall game_bonds.ESCROW.hold(terms, commitment)
    game_bonds._enter(job, packed)

    price: uint256 = game_bonds._price()
    origin: IDisputeGame.Origin = IDisputeGame.Origin(
        job=job,
        program=run.program,
        initial=run.initial,
        data=run.data,
        bond=game_bonds._bond(
            terms.collateral
            + job_terms._escrowed(terms.price, terms.price_per_second, terms.longest_run),
            price,
            packed & (2**32 - 1),
        ),
        price=price,
        number=(packed >> 32) & (2**32 - 1),
    )
    if origin.bond > max_bond:
        errors._fail("game: bond above limit")
    way: IDisputeGame.Way = empty(IDisputeGame.Way)
    way.origin = keccak256(abi_encode(origin))
    way.end = commitment.result_root
    way.counts = counts
    place: uint256 = 0
    checkpoints: uint256 = game_evidence._checkpoints(counts)
    if checkpoints > 1:
        place = game_places._begun(game_places.RUN, checkpoints)
        way.run, place = self._below(place, 0, nodes)
        self._require_other(way.run, commitment.result_root)
    else:
        place = self._interval_begun(counts, 0)
        self._require_none(len(nodes))
    position: IDisputeGame.Position = IDisputeGame.Position(
        # Whoever answers in all open games of the job does one thing after the other.
        clock=game_clocks._started(
            CLOCK,
            INCREMENT + min(answer * ((packed & (2**32 - 1)) + 1), MAX_ANSWER),
        ),
        challenger=msg.sender,
        provider=terms.provider,
        way=keccak256(abi_encode(way)),
        node=way.run,
        other=empty(bytes32),
        place=place,
    )
    game: bytes32 = keccak256(abi_encode(_CHAIN_ID, self, job, msg.sender, salt))
    if self._games[game] != empty(bytes32):
        errors._fail("game: game exists")
    self._games[game] = keccak256(abi_encode(position))
    log IDisputeGame.GameOpened(
        game=game,
        job=job,
        provider=terms.provider,
        position=position,
        end=way.end,
        origin=origin,
        nodes=nodes,
    )
    game_bonds._take(origin.bond)
    return game


@external
def show_nodes(
    game: bytes32,
    position: IDisputeGame.Position,
    way: DynArray[IDisputeGame.Way, 1],
    path: DynArray[bytes32, game_trees.MAX_LEVELS],
    nodes: Bytes[game_trees.NODES_BYTES],
):
    """
    @notice Nodes of a level to STATE by who shows it, if they do not come with a pick. The
            asserter's, where hashes leave no choice, anyone may show.
    @param game The game's id.
    @param position The position that this answers.
    @param way If nothing was picked before that the level begins with; else it is not looked at.
    @param path Siblings from the picked node up to the one known, from below.
    @param nodes Those that hold leaves.
    """
    found: IDisputeGame.Position = self._moved(game, position)
    place: uint256 = found.place
    level: uint256 = game_places._level(place)
    shower: uint256 = game_places._shower(level)
    if level > game_places.STATE or game_places._side(place) != shower:
        game_places._fail()
    begins: bool = game_places._is_begun(place)
    if begins or shower == game_places.CHALLENGER:
        self._require_mover(found)
    number: uint256 = game_places._picked_number(place)
    node: bytes32 = empty(bytes32)
    node, found.place = self._below(place, number, nodes)
    if begins:
        self._require_none(len(path))
        below: IDisputeGame.Way = empty(IDisputeGame.Way)
        if len(way) != 0:
            below = way[0]
        self._require_way(found, below)
        # The root is bound to nothing.
        if level == game_places.INTERVAL:
            below.interval = node
        else:
            below.outputs = node
        found.way = keccak256(abi_encode(below))
    else:
        self._require_under(
            place, game_places._index(place), found.node, self._kind(level), node, path
        )
    found.node = node
    self._shown(game, found, game_places.NO_NODE, nodes)


@external
def pick_node(game: bytes32, position: IDisputeGame.Position, index: uint256):
    """
    @notice The first of the nodes shown last that one's own run has otherwise, above leaves.
    @param game The game's id.
    @param position The position that this answers.
    @param index Among those shown.
    """
    found: IDisputeGame.Position = self._answered(game, position, 0)
    found.place = game_places._picked(found.place, index)
    self._picked(game, found)


@external
def pick_checkpoint(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    index: uint256,
    theirs: bytes32,
    theirs_path: DynArray[bytes32, game_trees.MAX_LEVELS],
    leaf: bytes32,
    leaf_path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
    nodes: Bytes[game_trees.NODES_BYTES],
):
    """
    @notice The asserter picks the first checkpoint that its own run has otherwise, and shows
            INTERVAL, unless the interval has one step only.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param index Of the leaf among the nodes shown last.
    @param theirs The leaf's hash as the challenger showed it.
    @param theirs_path Its siblings up to the node known, from below.
    @param leaf The hash of the asserter's own leaf.
    @param leaf_path Its siblings up to the committed run root, from below.
    @param nodes The first of INTERVAL.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.RUN_ASSERTER
    )
    below: IDisputeGame.Way = way
    self._require_way(found, below)
    game_places._require_leaves(found.place)
    number: uint256 = self._require_under(
        found.place, index, found.node, exact_merkle.RUN, theirs, theirs_path
    )
    self._require_other(leaf, theirs)
    if not game_trees._holds_hash(
        exact_merkle.RUN,
        game_evidence._checkpoints(below.counts),
        number,
        leaf,
        leaf_path,
        below.end,
    ):
        errors._fail("game: not the checkpoint")
    below.end = leaf
    below.step = number * game_evidence._interval(below.counts)
    found.place = self._interval_begun(below.counts, below.step)
    if game_places._level(found.place) == game_places.INTERVAL:
        below.interval, found.place = self._below(found.place, 0, nodes)
    else:
        self._require_none(len(nodes))
    found.node = below.interval
    found.way = keccak256(abi_encode(below))
    self._advance(game, found)
    log IDisputeGame.CheckpointPicked(
        game=game,
        clock=found.clock,
        place=found.place,
        picked=index,
        leaf=leaf,
        nodes=nodes,
    )


@external
def pick_step(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    index: uint256,
    nodes: Bytes[game_trees.NODES_BYTES],
):
    """
    @notice The challenger picks the first state of the interval that its own run has
            otherwise, and shows the outputs of the step that leads to it.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param index Of the state's leaf among the nodes shown last; 64 if none of the interval is
           wrong, so that its end is.
    @param nodes The first of STEP.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.INTERVAL_CHALLENGER
    )
    below: IDisputeGame.Way = way
    self._require_way(found, below)
    if index == game_places.NO_NODE:
        game_places._require_first_show(found.place)
        below.step = game_evidence._end(below.counts, below.step) - 1
    else:
        game_places._require_leaves(found.place)
        game_places._require_shown(found.place, index)
        below.step += game_places._number(found.place, index)
    # The root is bound to nothing.
    found.place = game_places._begun(game_places.STEP, game_evidence._ops(below.counts))
    below.outputs, found.place = self._below(found.place, 0, nodes)
    found.node = below.outputs
    found.way = keccak256(abi_encode(below))
    self._shown(game, found, index, nodes)


@external
def pick_operation(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    index: uint256,
    theirs: bytes32,
    theirs_path: DynArray[bytes32, game_trees.MAX_LEVELS],
    record: Bytes[128],
    record_path: DynArray[bytes32, 18],
    nodes: Bytes[game_trees.NODES_BYTES],
):
    """
    @notice The asserter picks the first operation of the step whose output its own run has
            otherwise, and shows its own. If its record is not valid there is no run of the
            program, and if it has no elements there is one output only: both end the game.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param index Of the output among the nodes shown last.
    @param theirs The hash of the output's leaf as the challenger showed it.
    @param theirs_path Its siblings up to the node known, from below.
    @param record The operation's.
    @param record_path Its siblings in the program's tree, from below.
    @param nodes The first of OUTPUT; none if it has no elements.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.STEP_ASSERTER
    )
    below: IDisputeGame.Way = way
    self._require_origin(found, below, origin)
    game_places._require_leaves(found.place)
    below.operation = self._require_under(
        found.place, index, found.node, exact_merkle.STEP, theirs, theirs_path
    )
    picked: IExaminer.Picked = staticcall EXAMINER.operation(
        below.counts, origin.program, below.operation, record, record_path
    )
    found.node = empty(bytes32)
    if picked.is_valid:
        if picked.place == 0:
            self._require_none(len(nodes))
        else:
            found.node, found.place = self._below(picked.place, 0, nodes)
        self._require_other(
            exact_merkle._short_leaf(
                exact_merkle.STEP, game_trees._commitment(picked.shape, found.node)
            ),
            theirs,
        )
    if picked.place == 0:
        self._end(game, found.provider, origin, False)
        return

    below.record = keccak256(record)
    below.shape = picked.shape
    found.way = keccak256(abi_encode(below))
    self._shown(game, found, index, nodes)


@external
def pick_state(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
    nodes: Bytes[game_trees.NODES_BYTES],
):
    """
    @notice The asserter says that none of the step's outputs is wrong, and shows STATE, unless
            the state is one tensor only.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param path Siblings of the hash of the state after the step, up to the interval's root, from
           below; none at the interval's end.
    @param nodes The first of STATE.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.STEP_ASSERTER
    )
    self._require_way(found, way)
    game_places._require_first_show(found.place)
    states: uint256 = game_evidence._states(way.counts)
    if states == 1:
        self._require_none(len(path) | len(nodes))
        found.node = empty(bytes32)
        found.place = game_places._only_state()
    else:
        found.place = game_places._begun(game_places.STATE, states)
        found.node, found.place = self._below(found.place, 0, nodes)
        if not staticcall EXAMINER.is_next_state(way, found.node, path):
            errors._fail("game: not the state")
    self._shown(game, found, game_places.NO_NODE, nodes)


@external
def answer_nodes(
    game: bytes32,
    position: IDisputeGame.Position,
    index: uint256,
    theirs: bytes32,
    theirs_path: DynArray[bytes32, game_trees.MAX_LEVELS],
    path: DynArray[bytes32, game_trees.MAX_LEVELS],
    nodes: Bytes[game_trees.NODES_BYTES],
):
    """
    @notice In OUTPUT both sides pick the first node that their own tensor has otherwise, and
            show theirs below it.
    @param game The game's id.
    @param position The position that this answers.
    @param index Among the nodes shown last.
    @param theirs The node picked, as it was shown.
    @param theirs_path Its siblings up to the node that was shown, from below.
    @param path Siblings of the asserter's node, up to that of its last show, from below; none
           of the challenger's, which is bound to nothing.
    @param nodes Those that hold leaves, below the picked node.
    """
    found: IDisputeGame.Position = self._answered(game, position, 0)
    place: uint256 = found.place
    side: uint256 = game_places._side(place)
    if game_places._level(place) != game_places.OUTPUT:
        game_places._fail()
    # The challenger picks a leaf with its bytes.
    if side != 0 and game_places._height(place) == 0:
        game_places._fail()
    above: bytes32 = found.node if side != 0 else found.other
    number: uint256 = self._require_under(
        place, index, above, exact_merkle.ELEMENTS, theirs, theirs_path
    )
    node: bytes32 = empty(bytes32)
    node, found.place = self._below(place, number, nodes)
    self._require_other(node, theirs)
    if side != 0:
        self._require_none(len(path))
        found.node = theirs
        found.other = node
    else:
        self._require_under(place, index, found.node, exact_merkle.ELEMENTS, node, path)
        found.node = node
        found.other = empty(bytes32)
    self._shown(game, found, index, nodes)


@external
def pick_leaf(
    game: bytes32,
    position: IDisputeGame.Position,
    index: uint256,
    theirs: bytes32,
    theirs_path: DynArray[bytes32, game_trees.MAX_LEVELS],
    leaf: Bytes[exact_merkle.LEAF_BYTES],
):
    """
    @notice The challenger picks the first leaf of the output that its own run has otherwise,
            and shows its own.
    @param game The game's id.
    @param position The position that this answers.
    @param index Among the nodes shown last.
    @param theirs The leaf's hash as it was shown.
    @param theirs_path Its siblings up to the node known, from below.
    @param leaf The challenger's own 256 bytes.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.OUTPUT_CHALLENGER
    )
    game_places._require_leaves(found.place)
    number: uint256 = self._require_under(
        found.place, index, found.node, exact_merkle.ELEMENTS, theirs, theirs_path
    )
    found.place = game_places._leaf(found.place, number)
    self._require_padding(found.place, leaf)
    found.node = theirs
    found.other = exact_merkle._leaf(exact_merkle.ELEMENTS, leaf)
    self._require_other(found.other, theirs)
    self._bytes_shown(game, found, index, leaf)


@external
def pick_element(
    game: bytes32,
    position: IDisputeGame.Position,
    theirs: Bytes[exact_merkle.LEAF_BYTES],
    leaf: Bytes[exact_merkle.LEAF_BYTES],
    index: uint256,
    values: Bytes[_MAX_VALUES],
):
    """
    @notice The asserter picks an element that its own run has otherwise, and shows its own; of
            a reduction of more than 16 terms also totals, or what accumulators and totals
            there are of its blocks.
    @param game The game's id.
    @param position The position that this answers.
    @param theirs The leaf as the challenger showed it.
    @param leaf The asserter's own 256 bytes.
    @param index Of the element among the 64.
    @param values Of 4 bytes each; empty for an element that is evaluated at once.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.LEAF_ASSERTER
    )
    self._require_known(exact_merkle._leaf(exact_merkle.ELEMENTS, theirs), found.other)
    self._require_known(exact_merkle._leaf(exact_merkle.ELEMENTS, leaf), found.node)
    self._require_padding(found.place, leaf)
    bits: uint256 = exact_merkle._bits(leaf, index & 63)
    found.place = game_places._element_picked(found.place, index, bits)
    self._require_other(
        convert(bits, bytes32), convert(exact_merkle._bits(theirs, index), bytes32)
    )
    found.node = self._hash_of_values(found.place, values)
    found.other = empty(bytes32)
    self._bytes_shown(game, found, index, concat(leaf, values))


@external
def pick_segment(
    game: bytes32,
    position: IDisputeGame.Position,
    values: Bytes[_MAX_VALUES],
    segment: uint256,
):
    """
    @notice The challenger picks the segment of blocks in which the first wrong total is.
    @param game The game's id.
    @param position The position that this answers.
    @param values The totals as they were shown.
    @param segment From 0.
    """
    found: IDisputeGame.Position = self._answered(
        game, position, game_places.TOTALS_CHALLENGER
    )
    self._require_known(keccak256(values), found.node)
    found.place = staticcall EXAMINER.segment(found.place, values, segment)
    found.node = empty(bytes32)
    self._picked(game, found)


@external
def show_values(
    game: bytes32, position: IDisputeGame.Position, values: Bytes[_MAX_VALUES]
):
    """
    @notice The asserter shows totals, or of at most four blocks all accumulators and then the
            totals, after a segment was picked.
    @param game The game's id.
    @param position The position that this answers.
    @param values Of 4 bytes each.
    """
    found: IDisputeGame.Position = self._answered(game, position, 0)
    place: uint256 = found.place
    level: uint256 = game_places._level(place)
    if level < game_places.TOTALS or game_places._side(place) != game_places.ASSERTER:
        game_places._fail()
    found.node = self._hash_of_values(place, values)
    found.place = place | game_places.CHALLENGER
    self._bytes_shown(game, found, game_places.NO_NODE, values)


@external
def judge(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
    values: Bytes[_MAX_VALUES],
    index: uint256,
    evidence: Bytes[_MAX_EVIDENCE],
):
    """
    @notice The challenger has the picked element evaluated, or says which value of BLOCK or
            which tensor of STATE does not follow, and ends the game.
    @param game The game's id.
    @param position The position that this answers.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    @param values In BLOCK as they were shown, else empty.
    @param index In BLOCK of the value; the one behind the last is the total after all blocks. In
           STATE of the tensor among the nodes shown last. Else 0.
    @param evidence The operands, an abi-encoded Evidence, or Next in STATE; empty for a total.
    """
    found: IDisputeGame.Position = self._answered(game, position, 0)
    self._require_origin(found, way, origin)
    if game_places._level(found.place) == game_places.BLOCK:
        self._require_known(keccak256(values), found.node)
    else:
        self._require_none(len(values))
    # The examiner refuses a place of which nothing is judged.
    right: bool = staticcall EXAMINER.is_right(
        way, origin, found.node, found.place, values, index, evidence
    )
    self._end(game, found.provider, origin, not right)


@external
def time_out(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
):
    """
    @notice Ends a game against the side whose clock is over. By anyone.
    @param game The game's id.
    @param position Where it is.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    """
    found: IDisputeGame.Position = self._shown_position(game, position)
    self._require_origin(found, way, origin)
    side: uint256 = game_places._side(found.place)
    if block.timestamp < game_clocks._deadline(found.clock, side):
        errors._fail("game: clock is not over")
    self._end(game, found.provider, origin, side == game_places.ASSERTER)


@external
def release(terms: IJobEscrow.JobTerms):
    """
    @notice Lets a job go on of which every game was lost: it can settle from the window's
            end on. By anyone.
    @param terms The job's terms.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, game_bonds.ESCROW.address, terms)
    packed: uint256 = game_bonds._require_undecided(job)
    if packed & (2**32 - 1) != 0:
        errors._fail("game: a game is open")
    extcall game_bonds.ESCROW.release(terms)


@external
def convict(terms: IJobEscrow.JobTerms, commitment: IJobEscrow.Commitment):
    """
    @notice Brings a conviction to the escrow, which slashes and refunds. By anyone.
    @param terms The job's terms.
    @param commitment What the provider committed to.
    """
    job: bytes32 = job_terms._job_id(_CHAIN_ID, game_bonds.ESCROW.address, terms)
    share: uint256 = job_terms._arbiter_cap(terms.collateral)
    games: uint256 = game_bonds._tell(job, share)
    extcall game_bonds.ESCROW.convict(terms, commitment, share)
    log IDisputeGame.JobConvicted(job=job, share=share, games=games)


@external
def claim(
    game: bytes32,
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
):
    """
    @notice Gives the challenger of a game that was open at the conviction its bond and a
            refund of its gas; the last claim of a job gives what remains of the share to the
            earliest-opened of these games. By anyone, also for the others.
    @param game The game's id.
    @param position Where it is.
    @param way As it is hashed in the position.
    @param origin As it is hashed in the way.
    """
    found: IDisputeGame.Position = self._shown_position(game, position)
    self._require_origin(found, way, origin)
    self._games[game] = _OVER
    refund: uint256 = game_bonds._claim(
        origin, found.challenger, game_clocks._moves(found.clock)
    )
    log IDisputeGame.Claimed(
        game=game,
        job=origin.job,
        challenger=found.challenger,
        bond=origin.bond,
        refund=refund,
    )


@external
@reentrant
def move_many(moves: DynArray[Bytes[_MAX_MOVE], _MAX_MOVES]):
    """
    @notice Makes several calls of this contract as if each were the caller's own: all or none.
    @param moves Calldata of each.
    """
    for move: Bytes[_MAX_MOVE] in moves:
        raw_call(self, move, is_delegate_call=True)


@external
@view
def position(game: bytes32) -> bytes32:
    """
    @notice The hash of a game's position.
    @param game The game's id.
    @return Zero if there is no such game, one if it is over.
    """
    return self._games[game]


@internal
@view
def _shown_position(
    game: bytes32, position: IDisputeGame.Position
) -> IDisputeGame.Position:
    if keccak256(abi_encode(position)) != self._games[game]:
        errors._fail("game: not this position")
    return position


@internal
@view
def _moved(game: bytes32, position: IDisputeGame.Position) -> IDisputeGame.Position:
    # The position, with the clock as it is after a move of the side whose turn it is.
    found: IDisputeGame.Position = self._shown_position(game, position)
    found.clock = game_clocks._moved(found.clock, game_places._side(found.place))
    return found


@internal
@view
def _answered(
    game: bytes32, position: IDisputeGame.Position, head: uint256
) -> IDisputeGame.Position:
    # The same; the caller is that side, and the place has this level and turn, or any if it is 0.
    found: IDisputeGame.Position = self._moved(game, position)
    self._require_mover(found)
    if head != 0 and found.place & 31 != head:
        game_places._fail()
    return found


@internal
@view
def _require_mover(position: IDisputeGame.Position):
    if game_places._side(position.place) != game_places.ASSERTER:
        if msg.sender != position.challenger:
            errors._fail("game: not the challenger")
    elif msg.sender != position.provider:
        if not staticcall STAKING.is_operator(position.provider, msg.sender):
            errors._fail("game: not the provider")


@internal
@pure
def _require_way(position: IDisputeGame.Position, way: IDisputeGame.Way):
    if keccak256(abi_encode(way)) != position.way:
        errors._fail("game: not this way")


@internal
@pure
def _require_origin(
    position: IDisputeGame.Position,
    way: IDisputeGame.Way,
    origin: IDisputeGame.Origin,
):
    self._require_way(position, way)
    if keccak256(abi_encode(origin)) != way.origin:
        errors._fail("game: not this origin")


@internal
@pure
def _require_other(own: bytes32, theirs: bytes32):
    # Who answers with the same would leave the other side nothing to pick.
    if own == theirs:
        errors._fail("game: nothing differs")


@internal
@pure
def _require_none(count: uint256):
    if count != 0:
        errors._fail("game: nothing is to be shown")


@internal
@pure
def _require_under(
    place: uint256,
    index: uint256,
    known: bytes32,
    kind: uint256,
    node: bytes32,
    path: DynArray[bytes32, game_trees.MAX_LEVELS],
) -> uint256:
    # The node stands below the known one, at this place among those that were shown last.
    # Returns its number among all of its height.
    game_places._require_shown(place, index)
    game_trees._require_length(len(path), game_places._levels(place))
    if game_trees._above(kind, node, index, path) != known:
        errors._fail("game: not under the node")
    return game_places._number(place, index)


@internal
@view
def _require_padding(place: uint256, leaf: Bytes[exact_merkle.LEAF_BYTES]):
    # The leaf is whole, and zero beyond the output's elements.
    if len(leaf) != exact_merkle.LEAF_BYTES:
        errors._fail("game: leaf is not 256 bytes")
    held: uint256 = game_places._held(place)
    if held != exact_merkle.LEAF_ELEMENTS:
        if not staticcall EXAMINER.is_padded(leaf, held):
            errors._fail("game: bytes beyond the elements")


@internal
@pure
def _hash_of_values(place: uint256, values: Bytes[_MAX_VALUES]) -> bytes32:
    # Of as many as the place asks for; zero if that is none.
    size: uint256 = game_places._values_size(place)
    if len(values) != size:
        errors._fail("game: another number of values")
    if size == 0:
        return empty(bytes32)
    return keccak256(values)


@internal
@pure
def _require_known(hash: bytes32, known: bytes32):
    if hash != known:
        errors._fail("game: not what was shown")


@internal
@pure
def _kind(level: uint256) -> uint256:
    if level == game_places.OUTPUT:
        return exact_merkle.ELEMENTS
    if level == game_places.STATE:
        return exact_merkle.STATE
    # RUN, INTERVAL and STEP follow each other in both.
    return level + (exact_merkle.RUN - game_places.RUN)


@internal
@pure
def _interval_begun(counts: uint256, begin: uint256) -> uint256:
    # The place at the begin of an interval: its states, or its only step.
    between: uint256 = game_evidence._between(counts, begin)
    if between != 0:
        return game_places._begun(game_places.INTERVAL, between)
    return game_places._begun(game_places.STEP, game_evidence._ops(counts))


@internal
@pure
def _below(
    place: uint256, number: uint256, nodes: Bytes[game_trees.NODES_BYTES]
) -> (bytes32, uint256):
    """
    @dev What nodes imply that are shown below node `number`, which is as high as what is known
         at this place, and the place that follows.
    """
    level: uint256 = game_places._level(place)
    height: uint256 = game_places._height(place)
    leaves: uint256 = game_places._leaves(place)
    levels: uint256 = 0
    if level == game_places.OUTPUT:
        levels = game_trees._output_levels(height, game_places._side(place))
    else:
        levels = game_trees._levels(height)
    height = unsafe_sub(height, levels)
    kind: uint256 = self._kind(level)
    held: uint256 = game_trees._held(leaves, height, levels, number)
    # No calls among the arguments: memory would be paid for another copy of the nodes.
    node: bytes32 = game_trees._joined(kind, height, levels, held, nodes)
    return node, game_places._shown(place, height, levels, number)


@internal
def _advance(game: bytes32, position: IDisputeGame.Position):
    self._games[game] = keccak256(abi_encode(position))


@internal
def _picked(game: bytes32, position: IDisputeGame.Position):
    self._advance(game, position)
    log IDisputeGame.Picked(
        game=game,
        clock=position.clock,
        place=position.place,
    )


@internal
def _shown(
    game: bytes32,
    position: IDisputeGame.Position,
    index: uint256,
    nodes: Bytes[game_trees.NODES_BYTES],
):
    self._advance(game, position)
    log IDisputeGame.NodesShown(
        game=game,
        clock=position.clock,
        place=position.place,
        picked=index,
        nodes=nodes,
    )


@internal
def _bytes_shown(
    game: bytes32, position: IDisputeGame.Position, index: uint256, raw: Bytes[_MAX_SHOWN]
):
    self._advance(game, position)
    log IDisputeGame.BytesShown(
        game=game,
        clock=position.clock,
        place=position.place,
        picked=index,
        raw=raw,
    )


@internal
def _end(
    game: bytes32,
    provider: address,
    origin: IDisputeGame.Origin,
    convicted: bool,
):
    paid: uint256 = 0
    gone: uint256 = 0
    if convicted:
        # The game stays where it is, for its claim.
        game_bonds._won(origin.job)
    else:
        self._games[game] = _OVER
        paid, gone = game_bonds._lost(origin.job, provider, origin.bond, origin.price)
    log IDisputeGame.GameEnded(
        game=game,
        job=origin.job,
        convicted=convicted,
        to_provider=paid,
        burned=gone,
    )

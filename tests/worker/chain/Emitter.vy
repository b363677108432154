# pragma version ~=0.4.3
# SPDX-License-Identifier: Apache-2.0
# A contract for the worker's own tests: it emits, counts and refuses.

struct Terms:
    price: uint256
    hash: bytes32
    payee: address

event Bumped:
    who: indexed(address)
    count: uint256

event Everything:
    id: indexed(bytes32)
    note: indexed(String[64])
    big: uint256
    negative: int128
    flag: bool
    data: Bytes[64]
    text: String[64]
    terms: Terms
    many: DynArray[Terms, 4]
    pair: uint8[2]

count: public(uint256)
closed: public(bool)
decimals: public(constant(uint8)) = 6

@external
def bump():
    assert not self.closed, "the emitter is closed"
    self.count += 1
    log Bumped(who=msg.sender, count=self.count)

@external
def bump_many(times: uint256):
    for i: uint256 in range(times, bound=64):
        self.count += 1
        log Bumped(who=msg.sender, count=self.count)

@external
def close():
    self.closed = True

@external
@payable
def pay():
    pass

@external
def refuse_without_words():
    assert msg.sender == self

@external
def overflow():
    self.count = max_value(uint256) - self.count + self.count + 1

@external
def everything(text: String[64]):
    terms: Terms = Terms(price=max_value(uint256), hash=keccak256("terms"), payee=msg.sender)
    log Everything(
        id=keccak256("id"),
        note="indexed text",
        big=max_value(uint256),
        negative=min_value(int128),
        flag=True,
        data=b"\x00\xff",
        text=text,
        terms=terms,
        many=[terms, terms],
        pair=[1, 2],
    )

# Vyper checks no encoding: a caller may put any bytes into a string.
@external
def raw_text(text: Bytes[64]):
    raw_log([keccak256("Said(string)")], abi_encode(text))

event Said:
    text: String[64]

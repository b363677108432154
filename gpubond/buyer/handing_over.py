# SPDX-License-Identifier: Apache-2.0
"""Hands a job over through the buyer's store, before the hire: inputs first, then the sealed note that names them.

May be repeated: what lies there already is not sent again, and a note is written anew only if its addresses would not
last.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from gpubond.buyer.box import Box
from gpubond.buyer.desk import Desk
from gpubond.buyer.object_store import ObjectStore
from gpubond.buyer.orders import OrderRecord
from gpubond.buyer.reach import SLACK_SECONDS, lifetime
from gpubond.chain.trailer import Trailer
from gpubond.errors import BadInput, Refused
from gpubond.jobs.note import Cancellation, Note, Targets, seal
from gpubond.jobs.spec import JobSpec, parse_spec
from gpubond.store.boundaries import boundary

_CHUNK = 1 << 20


def hand_over(desk: Desk, order: OrderRecord, seconds: int) -> Trailer | None:
    """Writes inputs and note of an order; what its hire carries. None: its provider has a gateway.

    Raises:
        BadInput: an input has changed since it was submitted.
        Refused: the addresses of the store cannot last as long as the job.
        Unreachable, BadSettings: the store does not answer or let us; nothing was spent, resume.
    """
    box, offer = order.box, order.offer
    if box is None or offer is None:
        return None
    needed, now = lifetime(offer, seconds), time.time()
    if box.trailer is not None and box.good_until is not None and box.good_until - now >= needed - SLACK_SECONDS // 2:
        return box.trailer
    store = desk.reach.store(box.root)
    if store.longest is not None and needed > store.longest:
        raise Refused(
            f"the job may take {needed} s, and addresses of this store are good for {store.longest} s",
            field="store.url",
            value=box.root,
            remedy="pay for a shorter run, or use a store by https",
        )
    put_inputs(desk, order)
    spec = parse_spec(desk.blobs.path(order.spec_hash).read_bytes(), bytes.fromhex(order.spec_hash))
    sealed = seal(_note(desk, order, box, spec, store, needed), box.recipient)
    trailer = Trailer.of(store.get_url(box.note, needed), sealed)
    store.write(box.note, sealed)
    desk.orders.set_box(order.salt, box.with_note(trailer, now + needed))
    boundary("buy:note_stored")
    return trailer


def put_inputs(desk: Desk, order: OrderRecord) -> None:
    """Puts those inputs of an order into its box that are not there. Raises as `hand_over`."""
    box = order.box
    if box is None:
        return
    store = desk.reach.store(box.root)
    for sha256, path in order.files.items():
        if sha256 == order.spec_hash:
            continue
        size = _require_unchanged(path, sha256)
        if store.size(box.input(sha256)) == size:
            continue
        desk.say(f"putting {path.name} into your store ({size:,} bytes)")
        store.write(box.input(sha256), path)


def clean_box(desk: Desk, order: OrderRecord) -> int:
    """Removes what lies in an order's box; returns how many names were removed."""
    box = order.box
    if box is None:
        return 0
    store = desk.reach.store(box.root)
    spec = parse_spec(desk.blobs.path(order.spec_hash).read_bytes(), bytes.fromhex(order.spec_hash))
    names = [box.note, box.cancel, box.manifest, box.log, box.status]
    names += [box.input(sha256) for sha256 in order.files if sha256 != order.spec_hash]
    names += [box.output(path) for path in spec.outputs]
    for name in names:
        store.delete(name)
    return len(names)


def _note(desk: Desk, order: OrderRecord, box: Box, spec: JobSpec, store: ObjectStore, seconds: int) -> Note:
    return Note(
        version=1,
        buyer=desk.session.address,
        order=order.salt,
        spec=spec.canonical().decode(),
        inputs={
            sha256: store.get_url(box.input(sha256), seconds) for sha256 in order.files if sha256 != order.spec_hash
        },
        put=Targets(
            manifest=store.put_url(box.manifest, seconds),
            log=store.put_url(box.log, seconds),
            status=store.put_url(box.status, seconds),
            outputs={path: store.put_url(box.output(path), seconds) for path in spec.outputs},
        ),
        cancel=Cancellation(url=store.get_url(box.cancel, seconds), proof=hashlib.sha256(box.cancel_proof).hexdigest()),
    )


def _require_unchanged(path: Path, sha256: str) -> int:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            size = file.tell()
    except OSError as error:
        raise BadInput(
            f"an input of the job cannot be read any more: {error.strerror}",
            field="input",
            value=str(path),
            remedy="bring the file back as it was; then `gpubond job resume` goes on",
        ) from None
    if digest.hexdigest() != sha256:
        raise BadInput(
            "an input of the job has changed since it was submitted",
            field="input",
            value=str(path),
            remedy="bring the file back as it was and resume; or cancel the submission and submit again",
        )
    return size

# SPDX-License-Identifier: Apache-2.0
"""What a provider has on the market now, from the local index: its offers and their places."""

from __future__ import annotations

from dataclasses import dataclass

from gpubond.chain.market import Offer
from gpubond.chain.session import Session


@dataclass(frozen=True)
class StandingOffer:
    """An open offer of this provider. `running` places are taken by jobs, `lost_places` for ever by expired ones."""

    offer_id: str
    offer: Offer
    running: int
    lost_places: int
    expired: bool

    @property
    def free(self) -> int:
        """Places that can be hired."""
        return 0 if self.expired else max(0, self.offer.count - self.running - self.lost_places)


def my_offers(session: Session, provider: str) -> list[StandingOffer]:
    """The provider's offers that were not closed, as the index has them; some may have expired."""
    now = session.contracts.now()
    offers = []
    for record in session.index.open_offers():
        if record.offer.provider == provider:
            lost = session.index.lost_places(record.offer_id)
            offers.append(
                StandingOffer(
                    record.offer_id, record.offer, max(0, record.active - lost), lost, now >= record.offer.expiry
                )
            )
    return offers

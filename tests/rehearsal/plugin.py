"""A plugin of pytest (``-p tests.rehearsal.plugin``) that gives the process a card before anything is collected."""

from __future__ import annotations

from tests.rehearsal import card_kernels, card_python, host_card

host_card.insert()
LIBRARIES = card_kernels.register()
card_python.stand_in()

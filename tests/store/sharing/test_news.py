"""News: heard once, in order, forgotten when all have heard it; what is missed is noticed."""

from __future__ import annotations

import json
from typing import Any

from frostline.store.sharing.news import Claimed, Ended, Inbox, Made, Outbox, Recorded
from frostline.store.sharing.presence import Presence


def presence(outbox: Outbox, **heard: int) -> Presence:
    record: dict[str, Any] = {
        "host": "h", "boot": "", "pid": 1, "started": "1", "beat": 0.0, "deciding": None,
        "sent": outbox.num_sent, "news": outbox.pieces(), "heard": heard,
    }  # fmt: skip
    return Presence.parse("w", json.loads(json.dumps(record)))


def test_news_is_heard_once_and_in_order() -> None:
    outbox, inbox = Outbox(), Inbox()
    events = [Made(0, {"rate": 0.1}, {}), Claimed(0, 0), Recorded(0, 0, {"score": 1.0}), Ended(0)]
    for event in events[:2]:
        outbox.add(event)
    assert inbox.has_news({"a": presence(outbox)})
    assert inbox.take({"a": presence(outbox)}) == events[:2]
    assert not inbox.has_news({"a": presence(outbox)})
    for event in events[2:]:
        outbox.add(event)
    assert inbox.take({"a": presence(outbox)}) == events[2:]
    assert inbox.take({"a": presence(outbox)}) == []


def test_what_all_have_heard_is_forgotten() -> None:
    outbox = Outbox()
    for number in range(5):
        outbox.add(Ended(number))
    outbox.forget([3, 4])
    assert [piece[1] for piece in outbox.pieces()] == [3, 4]
    assert outbox.num_sent == 5
    outbox.forget([])
    assert outbox.pieces() == ()


def test_who_has_missed_something_knows() -> None:
    outbox, inbox = Outbox(), Inbox()
    for number in range(300):
        outbox.add(Ended(number))
    assert len(outbox.pieces()) == 256
    assert inbox.has_missed({"a": presence(outbox)})
    inbox.know_all({"a": presence(outbox)})
    assert not inbox.has_missed({"a": presence(outbox)})
    outbox.add(Recorded(0, 0, {"curve": "x" * 40_000}))
    assert outbox.pieces() == (), "too long for an attribute"
    assert inbox.has_missed({"a": presence(outbox)})


def test_a_worker_of_before_has_no_news() -> None:
    record = {"host": "h", "pid": 1, "started": "1", "beat": 5.0, "deciding": True}
    parsed = Presence.parse("w", record)
    assert (parsed.deciding, parsed.sent, parsed.news) == (5.0, 0, ())
    assert Presence.parse("w", {**record, "deciding": False}).deciding is None

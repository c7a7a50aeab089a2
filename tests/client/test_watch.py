import threading

import pytest

from avf.client import DeathReason, Event, PayloadReady, PayloadStarted, TimedOut, VmDied
from avf.client.watch import Watch

STORY: list[Event] = [PayloadStarted(), PayloadReady(), VmDied(DeathReason.SHUTDOWN)]


def test_late_listeners_and_iterators_see_the_whole_story() -> None:
    watch = Watch()
    heard: list[Event] = []
    watch.deliver(STORY[0])
    watch.add_listener(heard.append)
    for event in STORY[1:]:
        watch.deliver(event)
    assert heard == STORY == list(watch.events()) == list(watch.events())


def test_an_iterator_waits_for_what_comes() -> None:
    watch = Watch()
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(watch.events()))
    reader.start()
    for event in STORY:
        watch.deliver(event)
    reader.join(10)
    assert seen == STORY


def test_waiting_ends_at_the_deadline() -> None:
    watch = Watch()
    with pytest.raises(TimedOut):
        watch.wait_until_ready(0)
    assert watch.wait_for_death(0) is None


def test_a_failing_listener_is_reported_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    watch = Watch()
    mistake = ValueError("mine")
    heard: list[Event] = []

    def fail(_event: Event) -> None:
        raise mistake

    watch.add_listener(fail)
    watch.add_listener(heard.append)
    watch.deliver(STORY[0])
    assert heard == STORY[:1]
    assert reported == [mistake]


def test_a_listener_may_ask_for_more_listeners() -> None:
    watch = Watch()
    heard: list[Event] = []

    def first(event: Event) -> None:
        if event == STORY[0]:
            watch.add_listener(heard.append)

    watch.add_listener(first)
    for event in STORY:
        watch.deliver(event)
    assert heard == STORY

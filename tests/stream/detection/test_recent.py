"""What is remembered of many series."""

from stream.detection.recent import Recent


def test_what_is_asked_for_again_stays_and_the_rest_makes_room() -> None:
    recent: Recent[int, list[int]] = Recent(10, list)
    recent.of(0).append(7)
    for number in range(1, 1000):
        recent.of(number)
        assert recent.of(0) == [7], "asked for all along"
        assert len(recent) <= 10
    assert recent.of(500) == [], "was forgotten, and begins anew"
    assert recent.forgotten_total > 900


def test_what_is_known_is_the_same_object_in_either_generation() -> None:
    recent: Recent[str, list[int]] = Recent(4, list)
    first = recent.of("first")
    recent.of("second"), recent.of("third")
    assert "first" not in recent.young
    assert recent.of("first") is first and "first" in recent.young

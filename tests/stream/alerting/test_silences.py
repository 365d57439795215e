from stream.alerting.silences import Silences
from tracecore.silence import Matcher, Silence

CART = {"service": "cart", "severity": "warning"}


def silence(silence_id: str = "s1", *, ends_at_ns: int = 100, updated_at_ns: int = 1, service: str = "cart") -> Silence:
    return Silence(silence_id, (Matcher("service", service),), 0, ends_at_ns, "me", "known", updated_at_ns)


def test_silence_mutes_what_it_matches_until_it_expires() -> None:
    silences = Silences()
    silences.observe(silence())
    assert silences.muting(CART, 99) is not None
    assert silences.muting(CART, 100) is None
    assert silences.muting({"service": "checkout"}, 99) is None


def test_every_matcher_must_match_and_may_be_an_expression() -> None:
    silences = Silences()
    matchers = (Matcher("service", "ca.*", "=~"), Matcher("severity", "critical", "!="))
    silences.observe(Silence("s1", matchers, 0, 100, "me", "known", 1))
    assert silences.muting(CART, 50) is not None
    assert silences.muting(CART | {"severity": "critical"}, 50) is None


def test_later_word_on_a_silence_holds_and_an_older_one_that_comes_after_it_does_not() -> None:
    silences = Silences()
    silences.observe(silence())
    silences.observe(silence(ends_at_ns=10, updated_at_ns=3))
    silences.observe(silence(ends_at_ns=100, updated_at_ns=2))
    assert silences.muting(CART, 50) is None


def test_what_is_over_is_forgotten_and_the_rest_stays() -> None:
    silences = Silences()
    silences.observe(silence("s1", ends_at_ns=10))
    silences.observe(silence("s2"))
    silences.forget_expired(50)
    muting = silences.muting(CART, 50)
    assert muting is not None and muting.silence_id == "s2"

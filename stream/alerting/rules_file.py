"""The rules file: YAML to rules, with the line of everything that is wrong in it.

rules:
  - name: CheckoutErrors        # the alertname
    kinds: [error]              # findings it is about
    severity: critical          # info, warning or critical
    match: {service: checkout}  # labels a finding must have
    min_count: 3                # this much evidence ...
    within: 1m                  # ... in this time
    for: 0s                     # and lasting this long
    resolve_after: 2m
    repeat_interval: 4h
    learns: true                # fire only on more than its own past makes likely
defaults: true                  # keep the built-in rules too; a rule of the same name replaces one
thresholds:                     # fixed limits
  - {name: CheckoutSlow, service: checkout, metric: p99, above: 800ms, over: 5m}
objectives:                     # the share of requests that must succeed, in per cent
  - {name: CheckoutWorks, service: checkout, target: 99.9}
detection:                      # knobs of a detector; without a service, for all that have none of their own
  - {detector: latency, floor: 20ms}
  - {detector: latency, service: checkout, min_ratio: 3}
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from stream.alerting.rules import DEFAULT_RULES, HOUR_NS, KINDS, MINUTE_NS, SECOND_NS, AlertRule
from stream.detection.knobs import Knobs, Tuning
from stream.detection.objectives import Metric, Objective, Threshold
from tracecore.alert import Severity
from tracecore.errors import TracewatchError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_NS = {"ms": SECOND_NS // 1000, "s": SECOND_NS, "m": MINUTE_NS, "h": HOUR_NS, "d": 24 * HOUR_NS}
_LONGEST_NS = 3650 * 24 * HOUR_NS
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadRules(TracewatchError):
    """A rules file that cannot be used; says where and why."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}")
        self.line = line
        self.reason = reason


class _Bad(Exception):
    def __init__(self, node: yaml.Node, reason: str) -> None:
        super().__init__(reason)
        self.line = node.start_mark.line + 1
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All that a rules file says."""

    rules: tuple[AlertRule, ...] = DEFAULT_RULES
    thresholds: tuple[Threshold, ...] = ()
    objectives: tuple[Objective, ...] = ()
    tuning: Tuning = field(default_factory=Tuning)


def read_rules(path: Path) -> RuleBook:
    """What a file says, built-in rules included unless it says otherwise. Raises ``BadRules``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRules(path, 0, f"cannot be read: {error}") from None
    try:
        return parsed_rules(text)
    except _Bad as error:
        raise BadRules(path, error.line, error.reason) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise BadRules(path, line, f"not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise BadRules(path, 0, f"not YAML: {error}") from None
    except RecursionError:
        raise BadRules(path, 0, "not YAML of rules: nested too deeply") from None


def parsed_rules(text: str) -> RuleBook:
    """What a YAML text says."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return RuleBook()
    fields = _mapping(root, {"rules", "defaults", "thresholds", "objectives", "detection"})
    rules: dict[str, AlertRule] = {}
    nodes = fields.get("rules")
    if nodes is not None:
        for node in _sequence(nodes):
            rule = _rule(node)
            if rule.name in rules:
                raise _Bad(node, f"there are two rules with the name {rule.name}")
            rules[rule.name] = rule
    keeps_defaults = "defaults" not in fields or _boolean(fields["defaults"])
    defaults = {rule.name: rule for rule in DEFAULT_RULES} if keeps_defaults else {}
    return RuleBook(
        tuple((defaults | rules).values()),
        tuple(_threshold(node) for node in _sequence(fields["thresholds"])) if "thresholds" in fields else (),
        tuple(_objective(node) for node in _sequence(fields["objectives"])) if "objectives" in fields else (),
        _tuning(_sequence(fields["detection"])) if "detection" in fields else Tuning(),
    )


def _threshold(node: yaml.Node) -> Threshold:
    fields = _mapping(node, {"name", "service", "metric", "above", "below", "over"})
    _require(node, fields, "name", "service", "metric")
    if ("above" in fields) == ("below" in fields):
        raise _Bad(node, "a threshold has either above or below")
    metric = _one_of(get_args(Metric))(fields["metric"])
    limit = fields.get("above") or fields["below"]
    return Threshold(
        _name(fields["name"]),
        _text(fields["service"]),
        cast(Metric, metric),
        float(_duration_ns(limit)) if metric.startswith("p") else _number(limit),
        "above" in fields,
        _duration_ns(fields["over"]) if "over" in fields else MINUTE_NS,
    )


def _objective(node: yaml.Node) -> Objective:
    fields = _mapping(node, {"name", "service", "target"})
    _require(node, fields, "name", "service", "target")
    target = _number(fields["target"])
    if not 50 <= target < 100:
        raise _Bad(fields["target"], f"a target is a percentage from 50 to below 100, not {target:g}")
    return Objective(_name(fields["name"]), _text(fields["service"]), target / 100)


def _tuning(nodes: list[yaml.Node]) -> Tuning:
    """What stands for all services holds for each, wherever it stands; what stands for one holds over it."""
    changes = [_change(node) for node in nodes]
    common = _changed(Knobs(), [values for service, values in changes if not service])
    services = {service for service, _ in changes if service}
    return Tuning(
        common,
        {name: _changed(common, [values for service, values in changes if service == name]) for name in services},
    )


def _changed(knobs: Knobs, changes: list[tuple[str, dict[str, Any]]]) -> Knobs:
    for detector, values in changes:
        knobs = replace(knobs, **{detector: replace(getattr(knobs, detector), **values)})
    return knobs


def _change(node: yaml.Node) -> tuple[str, tuple[str, dict[str, Any]]]:
    """The service ("" for all), and the detector with the knobs that are set."""
    given = _mapping(node, set())
    _require(node, given, "detector")
    detector = _one_of(tuple(one.name for one in fields(Knobs)))(given["detector"])
    knobs = {one.name.removesuffix("_ns"): one for one in fields(getattr(Knobs(), detector))}
    given = _mapping(node, {"detector", "service", *knobs})
    values: dict[str, Any] = {}
    for name in given.keys() & knobs.keys():
        knob, value = knobs[name], given[name]
        if knob.name.endswith("_ns"):
            values[knob.name] = _duration_ns(value)
        else:
            values[knob.name] = int(_number(value)) if knob.type in (int, "int") else _number(value)
    return _text(given["service"]) if "service" in given else "", (detector, values)


def _require(node: yaml.Node, fields: dict[str, yaml.Node], *names: str) -> None:
    for name in names:
        if name not in fields:
            raise _Bad(node, f"{name} is missing")


def _rule(node: yaml.Node) -> AlertRule:
    fields = _mapping(node, set(_READERS))
    for name in ("name", "kinds", "severity"):
        if name not in fields:
            raise _Bad(node, f"the rule has no {name}")
    values = {_FIELDS.get(name, name): _READERS[name](value) for name, value in fields.items()}
    return AlertRule(**values)


def _mapping(node: yaml.Node, known: set[str]) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise _Bad(node, "expected a mapping")
    fields: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _text(key)
        if known and name not in known:
            raise _Bad(key, f"unknown key {name!r}; known are {', '.join(sorted(known))}")
        if name in fields:
            raise _Bad(key, f"{name!r} stands here twice")
        fields[name] = value
    return fields


def _sequence(node: yaml.Node) -> list[yaml.Node]:
    if not isinstance(node, yaml.SequenceNode):
        raise _Bad(node, "expected a list")
    return list(node.value)


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Bad(node, "expected a text")
    return str(node.value)


def _boolean(node: yaml.Node) -> bool:
    if _text(node) not in ("true", "false"):
        raise _Bad(node, f"expected true or false, not {_text(node)!r}")
    return _text(node) == "true"


def _number(node: yaml.Node) -> float:
    try:
        value = float(_text(node))
    except ValueError:
        raise _Bad(node, f"expected a number, not {_text(node)!r}") from None
    if not 0 < value < 1e12:
        raise _Bad(node, f"expected a positive number, not {value:g}")
    return value


def _duration_ns(node: yaml.Node) -> int:
    found = _DURATION.fullmatch(_text(node))
    if not found:
        raise _Bad(node, f"expected a duration such as 30s, 5m or 4h, not {_text(node)!r}")
    duration_ns = float(found[1]) * _UNITS_NS[found[2]]
    if duration_ns > _LONGEST_NS:
        raise _Bad(node, f"expected at most {_LONGEST_NS // _UNITS_NS['d']}d, not {_text(node)}")
    return int(duration_ns)


def _name(node: yaml.Node) -> str:
    if not _NAME.fullmatch(_text(node)):
        raise _Bad(node, f"a name has letters, digits and underscores, not {_text(node)!r}")
    return _text(node)


def _one_of(choices: tuple[str, ...]) -> Callable[[yaml.Node], str]:
    def choice(node: yaml.Node) -> str:
        if _text(node) not in choices:
            raise _Bad(node, f"{_text(node)!r} is none of {', '.join(choices)}")
        return _text(node)

    return choice


_kind = _one_of(KINDS)

_READERS: dict[str, Callable[[yaml.Node], Any]] = {
    "name": _name,
    "kinds": lambda node: tuple(_kind(item) for item in _sequence(node)),
    "severity": _one_of(get_args(Severity)),
    "match": lambda node: tuple((name, _text(value)) for name, value in _mapping(node, set()).items()),
    "min_count": _number,
    "within": _duration_ns,
    "for": _duration_ns,
    "resolve_after": _duration_ns,
    "repeat_interval": _duration_ns,
    "learns": _boolean,
}
_FIELDS = {
    "within": "within_ns",
    "for": "for_ns",
    "resolve_after": "resolve_after_ns",
    "repeat_interval": "repeat_interval_ns",
}

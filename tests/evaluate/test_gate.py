"""The gate: each rule by its limit, and closed wherever something is missing."""

import pytest

from medgan_ray.errors import InputError, UsageError
from medgan_ray.evaluate import gate
from medgan_ray.evaluate.gate import Rule, judge, read_rules
from medgan_ray.metrics.figure import Figure, absent


def rule(**limits):
    return {"it": Rule(figure="f", why="it is bad", **limits)}


@pytest.mark.parametrize(
    ("limits", "figure", "passed", "value"),
    [
        ({"at_most": 1.0}, Figure(value=1.0, n=5), True, 1.0),
        ({"at_most": 1.0}, Figure(value=1.1, n=5), False, 1.1),
        ({"at_least": 0.5}, Figure(value=0.4, n=5), False, 0.4),
        ({"at_least": 0.5, "at_most": 1.0}, Figure(value=0.7, n=5), True, 0.7),
        ({"at_most": 2.0, "over_floor": True}, Figure(value=0.3, floor=0.2, n=5), True, pytest.approx(1.5)),
        ({"at_most": 2.0, "over_floor": True}, Figure(value=0.5, floor=0.2, n=5), False, pytest.approx(2.5)),
        ({"at_least": 0.0, "end": "high"}, Figure(value=-0.1, low=-0.3, high=0.05, n=5), True, 0.05),
        ({"at_least": 0.0, "end": "low"}, Figure(value=0.1, low=-0.3, high=0.5, n=5), False, -0.3),
    ],
)
def test_a_figure_is_held_against_its_limit(limits, figure, passed, value):
    verdict = judge({"f": figure}, rule(**limits))
    assert (verdict.passed, verdict.rules[0].value) == (passed, value)
    assert verdict.word == ("passed" if passed else "refused")
    assert bool(verdict.rules[0].note) is not passed


@pytest.mark.parametrize(
    "figures", [{}, {"f": Figure(n=5)}, {"f": Figure(value=0.3, n=5)}, {"g": Figure(value=0, n=5)}]
)
def test_what_is_missing_is_refused_even_where_absence_passes(figures):
    verdict = judge(figures, rule(at_most=2.0, over_floor=True, absent="pass"))
    assert not verdict.passed and verdict.failed[0].value is None and verdict.failed[0].note


def test_a_figure_that_does_not_apply_passes_only_where_its_rule_says_so():
    figures = {"f": absent("the dataset has no classes")}
    refused, passed = (judge(figures, rule(at_least=0.5, absent=word)) for word in ("refuse", "pass"))
    assert not refused.passed and passed.passed
    assert refused.rules[0].note == passed.rules[0].note == "the dataset has no classes"


def test_one_broken_rule_refuses_and_is_named():
    rules = rule(at_most=1.0) | {"other": Rule(figure="g", at_least=1.0, why="too little of it")}
    verdict = judge({"f": Figure(value=0.0, n=1), "g": Figure(value=0.0, n=1)}, rules)
    assert not verdict.passed
    assert gate.sentences(verdict.failed) == "other: too little of it"


def test_a_gate_without_rules_is_no_gate(tmp_path):
    with pytest.raises(UsageError, match="no rules"):
        judge({}, {})
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(UsageError, match="no rules"):
        read_rules(str(tmp_path / "empty.yaml"))


def test_rules_are_read_from_a_file_and_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("copies: {figure: privacy.copies, at_most: 0, why: copies}\n")
    assert read_rules(str(path))["copies"].at_most == 0
    for text, words in [
        ("copies: 3\n", "not a mapping"),
        ("copies: {figure: a, why: b}\n", "give at_most, at_least or both"),
        ("copies: {figure: a, why: b, at_mots: 3}\n", "at_most"),
    ]:
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            read_rules(str(path))
    with pytest.raises(InputError):
        read_rules(str(tmp_path / "missing.yaml"))


def test_the_packages_own_rules_refuse_where_privacy_is_unknown():
    rules = read_rules()
    assert {"canary", "copies", "membership"} <= rules.keys()
    assert all(each.absent == "refuse" for each in rules.values() if each.figure.startswith("privacy."))

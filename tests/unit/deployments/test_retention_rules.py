"""Retention rules in prefect.yaml: what may be written, and which rule holds for a deployment."""

import pytest

from freshline.deployments.document import read_document
from freshline.deployments.retention import RetentionRule, parse_retention, read_defaults, rule_for
from freshline.runs.register import declared_of
from freshline.storage.errors import CatalogError, InvalidInput
from freshline.storage.words import DeploymentKind


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "is empty"),
        ({"keep_day": 3}, "unknown key 'keep_day' in `retention`; write keep_days"),
        ({"keep_days": -1}, "`keep_days` is -1; write a whole number from 0"),
        ({"keep_days": True}, "`keep_days` is True"),
        ({"keep_days": 1.5}, "`keep_days` is 1.5"),
        ({"keep_last": 0}, "`keep_last` is 0; write a whole number from 1"),
        ({"keep_last": "five"}, "`keep_last` is 'five'"),
        ({"keep_last": 10**7}, "to 1,000,000"),
    ],
)
def test_rule_that_cannot_be_used_is_refused(written, message):
    with pytest.raises(InvalidInput) as caught:
        parse_retention(written)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retention: 30", "maps kinds of run to rules"),
        ("retention: {backtests: {keep_days: 3}}", "unknown kind 'backtests' in `retention`; write backtest"),
        ("retention: {backtest: 3}", "retention of backtest: `retention` must be a rule like"),
        ("retention: {default: {keep: 3}}", "retention of default: unknown key 'keep'"),
        ("retention: {default: }", "write a rule like"),
    ],
)
def test_project_rules_that_cannot_be_used_name_line_and_fix(tmp_path, text, message):
    path = tmp_path / "prefect.yaml"
    path.write_text(f"name: x\n{text}\n")
    with pytest.raises(CatalogError) as caught:
        read_defaults(read_document(path))
    assert message in str(caught.value)
    assert caught.value.line == 2


def test_own_rule_counts_before_that_of_the_kind_and_the_default():
    defaults = {"default": {"keep_days": 90}, "backtest": {"keep_last": 5}}
    assert rule_for({"keep_days": 1}, DeploymentKind.BACKTEST, defaults) == {"keep_days": 1}
    assert rule_for(None, DeploymentKind.BACKTEST, defaults) == {"keep_last": 5}
    assert rule_for(None, DeploymentKind.REFRESH, defaults) == {"keep_days": 90}
    assert rule_for({}, DeploymentKind.REFRESH, defaults) is None  # `forever`
    assert rule_for(None, DeploymentKind.REFRESH, {}) is None


def test_rule_is_said_in_words():
    assert RetentionRule(30, 5).sentence() == "30 days, the last 5"
    assert parse_retention({"keep_last": 5}).sentence() == "the last 5"


def test_rule_reaches_what_is_registered_and_changes_no_declaration(project):
    written = """
        retention: {backtest: {keep_last: 5}, default: {keep_days: 90}}
        resources:
          - {external: true, name: vendor, kind: dataset, retention: forever}
        deployments:
          - name: prices
            entrypoint: MODULE.py:refresh
            resource: {name: prices, kind: dataset, runs: refresh, retention: {keep_days: 3}}
          - name: book
            entrypoint: MODULE.py:backtest
            resource: {name: book, kind: backtest, runs: backtest}
    """
    project.write_yaml(written)
    before = project.load()
    declared = {spec.key: declared_of(spec, None).retention for spec in before.deployments}
    assert declared == {
        "refresh/vendor": None,
        "refresh/prices": {"keep_days": 3},
        "backtest/book": {"keep_last": 5},
    }
    project.write_yaml(written.replace("keep_days: 3", "keep_days: 4").replace("keep_last: 5", "keep_last: 6"))
    digests = [[spec.declaration_digest for spec in one.deployments] for one in (before, project.load())]
    assert digests[0] == digests[1]


def test_rule_of_a_block_that_cannot_be_used_names_deployment_and_line(project):
    project.write_deployments(
        """
        name: prices
        entrypoint: MODULE.py:refresh
        resource:
          name: prices
          kind: dataset
          runs: refresh
          retention: {keep_days: soon}
        """
    )
    with pytest.raises(CatalogError, match=r"line 8, deployment 'prices': `keep_days` is 'soon'"):
        project.load()

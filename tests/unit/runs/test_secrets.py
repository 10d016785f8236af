"""A parameter that the flow types as a secret is never recorded, whichever way it comes."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from freshline.runs import register
from freshline.runs.request import HIDDEN
from freshline.storage.errors import InvalidInput
from tests.unit.runs.conftest import World

SECRET = "correct horse battery staple"


def with_secret(world: World) -> None:
    """Register `refresh/prices` anew, with a flow whose parameter `token` is a SecretStr that the deployment sets."""
    old = world.graph.declared["refresh/prices"]
    declaration = {**old.declaration, "secrets": ["token"], "parameters": {"token": HIDDEN}}
    schema = {"properties": {"token": {"type": "string", "format": "password", "writeOnly": True}}}
    changed = replace(old, declaration=declaration, parameter_schema=schema)
    world.graph.register(*{**world.graph.declared, "refresh/prices": changed}.values())


def stored_text(world: World) -> str:
    """Everything that the store holds of runs, as text."""
    with world.database.read() as connection:
        tables = ("run", "run_event", "outbox", "deployment")
        return "".join(str(connection.execute(sa.text(f"SELECT * FROM {table}")).fetchall()) for table in tables)


def test_submit_with_a_secret_is_refused_and_records_nothing(world):
    with_secret(world)
    with pytest.raises(InvalidInput, match="token is a secret") as refusal:
        world.service.submit("refresh/prices", {"token": SECRET})
    assert SECRET not in str(refusal.value)
    assert SECRET not in stored_text(world)


def test_click_with_a_secret_is_recorded_without_it(world):
    with_secret(world)
    deployment = world.graph.declared["refresh/prices"].prefect_deployment_id
    claim = world.claim(world.gateway.click(deployment, {"token": SECRET}).id)
    assert claim.run.parameters == {"token": HIDDEN}
    assert SECRET not in stored_text(world)


def test_dispatch_leaves_the_secret_to_prefect(world):
    with_secret(world)
    run = world.service.submit("refresh/prices")
    world.dispatch()
    assert run.parameters == {"token": HIDDEN}
    assert "token" not in world.flow_run_of(run).parameters


def test_registration_finds_secrets_by_their_schema(world):
    properties = {"token": {"type": "string", "format": "password", "writeOnly": True}, "days": {"type": "integer"}}
    facts = world.gateway.add_deployment("flow/secret", parameters=properties)
    assert register._secrets(facts) == {"token"}

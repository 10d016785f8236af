"""A secret appears nowhere: not in an answer, a header, a log, on the command line, in Prefect, nor in an error.

Each secret is a word that stands nowhere else. What is looked at is everything that a store says of itself while it
works, and while its database or its object store is away.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
import sqlalchemy as sa

from freshline.runs import composition, interface
from freshline.runs.api.app import create_app
from freshline.runs.author_events import AuthorEvent
from freshline.runs.cli import cli
from freshline.runs.composition import Freshline, open_objects
from freshline.runs.lease_terms import keeper_command
from freshline.runs.live.sse import project_stream
from freshline.runs.remote.client import HttpPort
from freshline.runs.request import HIDDEN
from freshline.runs.result import Result
from freshline.runs.run_artifacts import RunArtifacts
from freshline.storage.database import Database
from freshline.storage.errors import FreshlineError
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.settings import load_settings
from tests.asking import Asking
from tests.contracts.servers import serving_store
from tests.databases import new_database_url
from tests.unit.runs.conftest import World, make_world
from tests.unit.runs.test_secrets import with_secret

SECRETS = {
    "password": "canary-of-the-database",
    "s3_secret": "canary-of-the-object-store",
    "s3_token": "canary-of-its-session",
    "option": "canary-of-the-driver",
    "token": "canary-of-the-api-with-enough-letters",
    "parameter": "canary-of-a-parameter",
    "run_token": "fr1_",
}
"""All of them but the last one, with which every token of a run begins."""
ENVIRONMENT = {
    "FRESHLINE_S3_ACCESS_KEY_ID": "an-access-key",
    "FRESHLINE_S3_SECRET_ACCESS_KEY": SECRETS["s3_secret"],
    "FRESHLINE_S3_SESSION_TOKEN": SECRETS["s3_token"],
    "FRESHLINE_S3_ENDPOINT_URL": "http://127.0.0.1:9",
    "FRESHLINE_ARTIFACTS_OPTIONS": json.dumps(
        {"config_kwargs": {"user_agent": SECRETS["option"], "retries": {"max_attempts": 0}}}
    ),
    "FRESHLINE_ARTIFACTS_RETRY_S": "0",
    "FRESHLINE_API_TOKEN": SECRETS["token"],
}


def found_in(*texts: object) -> set[str]:
    """The secrets that stand in what was said."""
    return {name for name, secret in SECRETS.items() for text in texts if secret in str(text)}


@pytest.fixture(scope="module", params=["postgres"])
def world(request, tmp_path_factory) -> Iterator[World]:
    """A store on a Postgres that is given a password, with a run whose flow was given a secret and one that failed."""
    with pytest.MonkeyPatch.context() as environment:
        url = sa.make_url(new_database_url(request, tmp_path_factory.mktemp("store"))).set(password=SECRETS["password"])
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        environment.setenv("FRESHLINE_HOME", str(tmp_path_factory.mktemp("home")))
        environment.setenv("FRESHLINE_DATABASE_URL", url.render_as_string(hide_password=False))
        made = make_world(url.render_as_string(hide_password=False))
        for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
            made.run_through(key)
        with_secret(made)
        fail(made)
        yield made
        made.database.dispose()


@pytest.fixture
def log(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged: by us everything, by the drivers what they say unless they are asked for more."""
    with caplog.at_level(logging.INFO), caplog.at_level(logging.DEBUG, logger="freshline"):
        yield caplog


def everything(asking: Asking, run_id: str, artifact_id: str) -> Iterator[str]:
    """What is answered to every question, and to some that are wrong."""
    document = asking.request("GET", "/openapi.json")
    yield document.text
    named = {
        "run_id": run_id, "artifact_id": artifact_id, "kind": "refresh", "resource": "prices", "which": "v1"
    }  # fmt: skip
    for path, methods in create_document(asking).items():
        if path == "/api/v1/stream":
            continue  # it does not end
        known = path.removeprefix("/api/v1").format_map(Known(named)) if path.startswith("/api") else f"/{path}"
        unknown = path.removeprefix("/api/v1").format_map(Known({})) if path.startswith("/api") else f"/{path}/no"
        questions = [("GET", known), ("GET", unknown)] if "get" in methods else [("PATCH", known)]
        for method, address in questions:
            answer = asking.request(method, address)
            yield f"{method} {address} {answer.status_code} {dict(answer.headers)} {answer.content!r}"
    for address in ("//health", "//metrics", "//", "//runs"):
        yield asking.request("GET", address).text
    for path, body in (
        ("/runs", {"deployment": "refresh/prices", "parameters": {"token": "x"}}),
        ("/runs", []),
        ("/no", 1),
    ):
        yield asking.request("POST", path, json=body).text
    for token in (SECRETS["token"], SECRETS["token"][:-1]):
        answer = asking.request("POST", "/session", json={"token": token})
        yield f"{answer.status_code} {dict(answer.headers)} {answer.text}"
    for authorization in ("Bearer wrong", "Basic d3Jvbmc=", ""):
        yield asking.request("POST", "/runs", json={}, headers={"Authorization": authorization}).text
    yield asking.request("GET", "/runs", headers={"Host": "evil.example"}).text


class Known(dict[str, str]):
    """The parts of an address; what is not known is a word that means nothing."""

    def __missing__(self, _name: str) -> str:
        return "nothing"


def create_document(asking: Asking) -> dict[str, dict[str, object]]:
    paths: dict[str, dict[str, object]] = asking.app.openapi()["paths"]
    return paths


def test_server_that_works_says_no_secret(world, log, capfd):
    freshline = Freshline(load_settings(), world.database, world.objects)
    ((_, run),) = world.queries.runs(deployment="refresh/prices", limit=1)
    with world.database.read() as connection:
        artifact_id = str(connection.execute(sa.text("SELECT id FROM artifact LIMIT 1")).scalar_one())
    with Asking(create_app(freshline), token=SECRETS["token"]) as asking:
        said = list(everything(asking, show_run_id(run.id), artifact_id))
    assert any(f'"token":"{HIDDEN}"' in one.replace(": ", ":") for one in said), "the run was never shown"
    assert sum(" 200 " in one for one in said) > 15
    assert found_in(*said, log.text, *capfd.readouterr()) == set()


def test_stream_of_the_project_says_no_secret(world, log, capfd):
    live = create_app(Freshline(load_settings(), world.database, world.objects)).state.live

    async def listen() -> bytes:
        said, stream = b"", project_stream(live)
        async with asyncio.timeout(30):
            async for part in stream:
                said += part
                if b"event: resync" in part:
                    await asyncio.to_thread(fail, world)
                if b"event: run\n" in part:
                    break
        await stream.aclose()
        return said

    said = asyncio.run(listen())
    live.close()
    assert b"refresh/prices" in said
    assert found_in(said.decode(), log.text, *capfd.readouterr()) == set()


def test_worker_without_the_database_and_its_server_say_no_secret(world, log, capfd, tmp_path):
    with serving_store(Freshline(load_settings(), world.database, world.objects)) as url:
        port = HttpPort(url, SECRETS["token"], world.objects, world.gateway, home=tmp_path, again_for_s=0.0)
        stranger = HttpPort(url, "a-token-of-somebody-else", world.objects, world.gateway, again_for_s=0.0)
        claim = port.claim(world.gateway.begin(click(world)))
        run_id, fence = claim.run.id, claim.run.fence
        terms = port.lease_terms(run_id, fence)
        assert found_in(terms.connect) == {"run_token"}
        said = [port, stranger, claim, terms, *keeper_command()]
        port.record(run_id, fence, [AuthorEvent(name="begun")])
        for refused in (
            lambda: port.heartbeat(run_id, fence + 1),
            lambda: port.record(new_id(), fence),
            lambda: port.complete(run_id, fence, Result(metrics={"a\0": 1.0})),
            lambda: stranger.heartbeat(run_id, fence),
        ):
            said.append(refusal_of(refused))
        port.fail(run_id, fence, ValueError("no"), "Traceback", will_retry=False)
        world.gateway.end(claim.run.flow_run_id)
    said.append(refusal_of(lambda: port.newest_checkpoint(run_id)))
    for opened in (port, stranger):
        opened.close()
    said += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert found_in(*said, log.text, *capfd.readouterr()) == set()


def click(world: World) -> UUID:
    """The flow run of a click on `refresh/prices`, to whose flow a secret is given."""
    deployment = world.graph.declared["refresh/prices"].prefect_deployment_id
    return world.gateway.click(deployment, {"token": SECRETS["parameter"]}).id


def fail(world: World) -> None:
    """A run whose flow was given a secret, and that failed."""
    claim = world.claim(click(world))
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no"), "Traceback", will_retry=False)
    world.gateway.end(claim.run.flow_run_id)


def refusal_of(act: Callable[[], object]) -> str:
    """What an act says that must be refused."""
    with pytest.raises(FreshlineError) as refused:
        act()
    return f"{refused.value} {refused.value!r} {refused.value.__dict__}"


def test_server_whose_database_is_away_says_no_secret(world, log, capfd):
    database = Database(f"postgresql+psycopg://ada:{SECRETS['password']}@127.0.0.1:9/none")
    freshline = Freshline(load_settings(), database, world.objects)
    with Asking(create_app(freshline), token=SECRETS["token"]) as asking:
        said = [asking.request("GET", path).text for path in ("/runs", "/runs/active", "/deployments", "//health")]
        said.append(asking.request("POST", "/runs", json={"deployment": "refresh/prices"}).text)
    database.dispose()
    assert '"code": "unavailable"' in said[0]
    assert found_in(*said, log.text, *capfd.readouterr()) == set()


def test_server_whose_object_store_is_away_says_no_secret(world, log, capfd, monkeypatch):
    monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", "s3://bucket/prefix")
    settings = load_settings()
    freshline = Freshline(settings, world.database, open_objects(settings))
    ((_, run),) = [found for found in world.queries.runs() if found[0] == "backtest/book"]
    with Asking(create_app(freshline), token=SECRETS["token"]) as asking:
        (artifact,) = asking.get(f"/runs/{show_run_id(run.id)}/artifacts")["items"]
        address = f"/runs/{show_run_id(run.id)}/artifacts/{artifact['id']}"
        answers = [asking.request("GET", f"{address}/{what}") for what in ("preview", "content")]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert found_in(*(answer.text for answer in answers), log.text, *capfd.readouterr()) == set()


@pytest.mark.parametrize(
    "command",
    [
        ["runs"], ["runs", "--json"], ["status", "--json"], ["show", "RUN"], ["show", "RUN", "--json"],
        ["explain", "RUN"], ["explain", "refresh/prices"], ["lineage", "backtest/book"], ["doctor"], ["show", "run-0"],
    ],
)  # fmt: skip
def test_command_line_says_no_secret(world, log, capfd, monkeypatch, command):
    monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", "s3://bucket/prefix")
    ((_, run),) = world.queries.runs(deployment="refresh/prices", limit=1)
    freshline = Freshline(load_settings(), world.database, world.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: freshline)
    monkeypatch.setattr(composition, "shared_freshline", lambda: freshline)
    said = []
    try:
        cli.main([word.replace("RUN", show_run_id(run.id)) for word in command], standalone_mode=False)
    except (FreshlineError, SystemExit) as error:
        said.append(str(error))
    out, err = capfd.readouterr()
    assert out or err or said
    assert found_in(out, err, log.text, *said) == set()


def test_pages_in_prefect_and_the_views_say_no_secret(world):
    RunArtifacts(world.database, world.gateway).pass_once()
    said = [one.data for one in world.gateway.artifacts.values()]
    with world.database.read() as connection:
        for view in ("v_runs", "v_run_inputs", "v_metrics", "v_freshness"):
            said += map(str, connection.execute(sa.text(f"SELECT * FROM {view}")).all())
    assert len(said) > 10
    assert found_in(*said) == set()


def test_settings_and_what_is_made_of_them_show_no_secret(world):
    settings = load_settings()
    freshline = Freshline(settings, world.database, world.objects)
    said = [repr(settings), str(settings), settings.model_dump_json(), repr(freshline), repr(world.database.engine)]
    assert found_in(*said) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRESHLINE_ARTIFACTS_OPTIONS", f'["{SECRETS["option"]}"]'),
        ("FRESHLINE_API_TOKEN", SECRETS["token"][:5]),
        ("FRESHLINE_DATABASE_URL", f"nothing://ada:{SECRETS['password']}@127.0.0.1/none"),
    ],
)
def test_setting_that_cannot_be_used_is_named_without_its_value(world, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(FreshlineError) as refused:
        open_all(world)
    assert value not in str(refused.value)
    assert found_in(str(refused.value), repr(refused.value)) == set()


def open_all(world):
    settings = load_settings()
    create_app(Freshline(settings, world.database, world.objects))
    Database(settings.resolved_database_url()).dispose()


def test_secrets_are_found_where_they_stand():
    # The guard of the tests above.
    assert found_in(f"a {SECRETS['password']} b", SECRETS["token"]) == {"password", "token"}

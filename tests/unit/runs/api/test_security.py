"""Who is let in, and what is refused before a route is asked: each guard with what it keeps out."""

import base64
import contextlib
import os
import stat
from typing import Any

import pytest
from fastapi import APIRouter
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import exc

from freshline.runs.api import app as application
from freshline.runs.api import cursors
from freshline.runs.api.access import Access, access_for, token_in
from freshline.runs.api.app import API, ROOT, create_app
from freshline.runs.api.cursors import decode, encode
from freshline.runs.api.pages import cut
from freshline.runs.api.policies import Policy, PolicyMissing, Routes, policy_of
from freshline.runs.api.problems import CODE_OF, STATUS_OF, Code, Refusal, code_of
from freshline.runs.composition import Freshline
from freshline.storage import errors
from freshline.storage.errors import InvalidInput
from freshline.storage.settings import Settings
from tests.asking import ADDRESS, TOKEN, Asking

NEW_RUN = {"deployment": "refresh/prices"}


class NoDatabase:
    """No request here may come as far as a database."""

    def read(self) -> Any:
        raise ValueError("password=hunter2")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    freshline = Freshline(Settings(home=tmp_path_factory.mktemp("home")), NoDatabase(), None)
    return create_app(freshline, access=Access(token=TOKEN))


@pytest.fixture(scope="module")
def api(app):
    with Asking(app) as asking:
        yield asking


@pytest.fixture(scope="module")
def stranger(app):
    with Asking(app, token=None) as asking:
        yield asking


def test_every_route_has_a_policy_and_every_write_needs_the_token(stranger):
    for routes in (*API, *ROOT):
        for route in routes.routes:
            policy = policy_of(route.endpoint)
            assert policy is not None
            if route.path.startswith("/worker/"):  # what a worker reads is not for everybody either
                assert policy in (Policy.WRITE, Policy.RUN), route.path
                continue
            writes = route.methods - {"GET"} and not route.path.startswith("/session")
            assert (policy == Policy.WRITE) == bool(writes), route.path


@pytest.mark.parametrize("group", [Routes, APIRouter])
def test_route_without_a_policy_stops_the_start(monkeypatch, app, group):
    routes = group()

    @routes.get("/open")
    def forgotten() -> None: ...

    monkeypatch.setattr(application, "API", [*API, routes])
    with pytest.raises(PolicyMissing, match="/open: "):
        create_app(app.state.freshline, access=Access(token=TOKEN))


def test_route_without_a_policy_that_got_in_is_closed(app):
    routes = Routes()

    @routes.get("/late")
    def forgotten() -> None: ...

    made = create_app(app.state.freshline, access=Access(token=TOKEN))
    made.include_router(routes, prefix="/api/v1")
    with Asking(made, token=None) as asking:
        asking.problem("GET", "/late", status=401, code="unauthenticated")


def test_write_without_the_token_is_refused_before_its_body_is_read(stranger):
    answer = stranger.request("POST", "/runs", content=b"{no json")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="freshline"')


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"])
def test_wrong_token_is_refused(stranger, header):
    headers = {"Authorization": header.encode("latin-1")}
    stranger.problem("POST", "/runs", json=NEW_RUN, headers=headers, status=401, code="unauthenticated")


def test_reads_need_the_token_when_others_reach_the_server(app):
    closed = create_app(app.state.freshline, access=Access(token=TOKEN, reads_are_open=False))
    with Asking(closed, token=None) as stranger, Asking(closed) as known:
        stranger.problem("GET", "/openapi.json", status=401, code="unauthenticated")
        assert stranger.get("/session") == {"authenticated": False, "may_read": False}
        assert known.get("/openapi.json")["info"]["title"] == "Freshline"


@pytest.mark.parametrize("host", ["fresh.example", "10.0.0.5:4280"])
def test_reads_need_the_token_through_a_proxy_on_this_machine(app, host):
    local = create_app(app.state.freshline, access=Access(token=TOKEN, names=frozenset({"localhost", "fresh.example"})))
    with Asking(local, token=None) as asking:
        asking.problem("GET", "/openapi.json", headers={"Host": host}, status=401, code="unauthenticated")
        session = asking.request("GET", "/session", headers={"Host": host}).json()
        assert session == {"authenticated": False, "may_read": False}
        assert asking.request("GET", "/openapi.json", headers={"Host": "localhost:4280"}).status_code == 200


def test_access_for_other_addresses_closes_reads_and_takes_their_name(tmp_path):
    settings = Settings(home=tmp_path, api_token="x" * 20, api_names="fresh.example, ")
    local, outward = access_for(settings), access_for(settings, host="desk.example", port=99)
    assert (local.reads_are_open, outward.reads_are_open) == (True, False)
    assert outward.names == {"localhost", "fresh.example", "desk.example"}
    assert (outward.token, outward.cookie) == ("x" * 20, "freshline_session_99")
    assert "xxx" not in repr(outward)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost/x", "[::1", "localhost@evil"]
)
def test_foreign_host_is_refused(api, host):
    api.problem("GET", "/session", headers={"Host": host}, status=403, code="permission_denied")


@pytest.mark.parametrize("host", ["localhost:4280", "LOCALHOST", "127.0.0.1", "[::1]:4280", "192.168.1.5:4280"])
def test_own_host_is_taken(api, host):
    assert api.request("GET", "/session", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:4200"},
        {"Origin": "http://[x"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_of_another_sites_page_is_refused(api, method, headers):
    api.problem(method, "/session", headers=headers, status=403, code="permission_denied")


def test_link_from_another_site_is_followed_but_its_form_is_not(api):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert api.request("GET", "/session", headers=headers).status_code == 200
    api.problem("POST", "/session", headers=headers, status=403, code="permission_denied")


def test_session_stands_for_the_token_and_is_not_the_token(stranger):
    stranger.problem("POST", "/session", json={"token": "guess"}, status=401, code="unauthenticated")
    answer = stranger.request("POST", "/session", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    for said in ("HttpOnly", "SameSite=strict", "Path=/api/v1"):
        assert said in cookie
    assert TOKEN not in cookie
    own = {"Cookie": cookie.partition(";")[0]}
    assert stranger.request("GET", "/session", headers=own).json()["authenticated"] is True
    # 422: it came as far as the body.
    with_origin = own | {"Origin": ADDRESS}
    stranger.problem("POST", "/runs", headers=with_origin, json={}, status=422, code="invalid_argument")
    stranger.problem("POST", "/runs", headers=own, json={}, status=403, code="permission_denied")
    ended = stranger.request("DELETE", "/session", headers=with_origin)
    assert (ended.status_code, "Max-Age=0" in ended.headers["set-cookie"]) == (204, True)


@pytest.mark.parametrize(
    "change", [lambda s: s + "0", lambda s: "9" + s, lambda s: s.partition(".")[0] + ".", lambda _: "é"]
)
def test_changed_session_is_none(app, stranger, change):
    session = stranger.request("POST", "/session", json={"token": TOKEN}).headers["set-cookie"]
    name, _, value = session.partition(";")[0].partition("=")
    own = {"Cookie": f"{name}={change(value)}".encode()}
    assert stranger.request("GET", "/session", headers=own).json()["authenticated"] is False


def test_session_ends_by_itself(app, stranger, monkeypatch):
    session = stranger.request("POST", "/session", json={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
    monkeypatch.setattr("freshline.runs.api.access.time.time", lambda: 4e9)
    assert stranger.request("GET", "/session", headers={"Cookie": session}).json()["authenticated"] is False


def test_every_answer_has_the_headers_that_protect_its_reader(api):
    for path in ("/session", "/no/such", "//"):
        headers = api.request("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


BAD_BODIES = {
    "no JSON": b"{",
    "NaN": b'{"deployment": NaN}',
    "infinity": b'{"deployment": -Infinity}',
    "NUL": b'{"deployment": "a\\u0000"}',
    "NUL in a name": b'{"parameters": {"a\\u0000": 1}}',
    "half a character": b'{"metadata": {"a": ["\\ud800"]}}',
    "no UTF-8": b'"\xff"',
    "too deep": b"[" * 100_000,
    "a bit too deep": b"[" * 41 + b"]" * 41,
    "too many digits": b"1" * 5000,
    "a name twice": b'{"deployment": "a/b", "deployment": "c/d"}',
    "nothing": b"",
    "a list": b"[]",
    "an unknown field": b'{"deployment": "a/b", "on_stael": "force"}',
    "a wrong word": b'{"deployment": "a/b", "on_stale": "never"}',
    "a number for a day": b'{"deployment": "a/b", "data_as_of": 0}',
    "text for a truth": b'{"deployment": "a/b", "background": "yes"}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_body_is_refused(api, body):
    headers = {"Content-Type": "application/json"}
    problem = api.problem("POST", "/runs", content=body, headers=headers, status=422, code="invalid_argument")
    assert problem["errors"][0]["pointer"].startswith("/body")


def test_long_name_in_a_body_is_not_repeated_for_each_of_its_items(api):
    """Else a body of 1 MiB that needs no token (a session is begun with one) keeps the server from all others."""
    body = b'{"%s": [%s"\\u0000"]}' % (b"n" * 230_000, b"1," * 270_000)
    headers = {"Content-Type": "application/json"}
    problem = api.problem("POST", "/session", content=body, headers=headers, status=422, code="invalid_argument")
    assert problem["errors"][0]["pointer"] == f"/body/{'n' * 100}/270000"


@pytest.mark.parametrize("announced", [True, False])
def test_large_body_is_refused(api, announced):
    async def parts():
        for _ in range(17):
            yield b" " * 65536

    body = b" " * (17 * 65536) if announced else parts()
    headers = {"Content-Type": "application/json"}
    api.problem("POST", "/runs", content=body, headers=headers, status=413, code="too_large")


@pytest.mark.parametrize("path", ["/runs/%00", "/runs/%ff", "/session?x=%00", "/session?x=%ff", "/session?ses=1"])
def test_bad_address_is_refused(api, path):
    api.problem("GET", path, status=422, code="invalid_argument")


def test_unknown_address_and_method_are_problems(api):
    assert api.problem("GET", "/no/such", status=404, code="not_found")["instance"] == "/api/v1/no/such"
    api.problem("GET", "/runs/x/", status=404, code="not_found")
    problem = api.problem("PUT", "/session", status=405, code="invalid_argument")
    assert "it takes DELETE, GET, HEAD, POST" in problem["detail"]
    for method, path, takes in (
        ("DELETE", "/runs/active", "GET, HEAD"), ("GET", "/runs/bulk", "POST"), ("HEAD", "/runs/bulk", "POST"),
    ):  # fmt: skip
        answer = api.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, takes)


def test_unexpected_error_is_logged_and_tells_nothing(api, caplog):
    problem = api.problem("GET", "/runs/0199b3c2-7d3e-7c4b-9a55-0f6d1c2b3a49", status=500, code="internal")
    assert problem["instance"].startswith("urn:uuid:")
    assert "hunter2" not in str(problem)
    (record,) = [one for one in caplog.records if problem["instance"] in one.getMessage()]
    assert "hunter2" in str(record.exc_info[1])


@pytest.mark.parametrize(
    "error", [errors.StoreUnavailable("cannot reach it"), exc.OperationalError("SELECT 1", {}, ValueError("hunter2"))]
)
def test_database_that_is_away_is_a_problem_that_passes(api, monkeypatch, error):
    def read(_self: Any) -> Any:
        raise error

    monkeypatch.setattr(NoDatabase, "read", read)
    answer = api.request("GET", "/deployments")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "5")
    assert "hunter2" not in answer.text


def test_every_error_of_ours_has_a_code():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 20
    assert CODE_OF[errors.FreshlineError] == Code.INTERNAL
    assert set(STATUS_OF) == set(Code)
    found = {kind.__name__: code_of(kind.__new__(kind)) for kind in kinds}
    assert (
        found["RunDeleted"],
        found["CatalogError"],
        found["Fenced"],
        found["StoreVersion"],
        found["StackError"],
    ) == (
        "not_found",
        "invalid_argument",
        "conflict",
        "unavailable",
        "internal",
    )


def test_cursor_goes_on_where_it_says_and_belongs_to_its_question():
    cursor = encode(["a/b", 7], of="versions", asked={"key": "a/b"})
    assert decode(cursor, of="versions", asked={"key": "a/b"}) == ["a/b", 7]
    changed = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    for text, of, asked in [
        (cursor, "events", {"key": "a/b"}),
        (cursor, "versions", {"key": "a/c"}),
        (changed, "versions", {"key": "a/b"}),
        (cursor + "=", "versions", {"key": "a/b"}),
        ("", "versions", {"key": "a/b"}),
        ("é", "versions", {"key": "a/b"}),
        ("a", "versions", {"key": "a/b"}),
        *((forged(payload), "versions", {"key": "a/b"}) for payload in (b"", b"{", b"null", b"\xff", b"[" * 1200)),
    ]:
        with pytest.raises(Refusal, match="cursor"):
            decode(text, of=of, asked=asked)


def forged(payload):
    """Return a cursor of the versions of a/b that holds what is given: how it is made is no secret."""
    check = cursors._check(payload, "versions", {"key": "a/b"})
    return base64.urlsafe_b64encode(check + payload).decode().rstrip("=")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda one: st.lists(one, max_size=5),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("key", ["a/b", ["dataset", "prices"], [1, "a/b", "prices", 3], [1, "a/b", "prices", None]])
@settings(max_examples=30, deadline=None)
@given(last=JSON)
def test_forged_cursor_into_a_list_is_refused_or_gives_a_page(key, last):
    with contextlib.suppress(Refusal):
        page, following = cut(["one"], of="list", key=lambda _: key, cursor=encode(last, of="list"), limit=5)
        assert (len(page) <= 1, following) == (True, None)


def test_token_is_made_once_for_its_owner_alone(tmp_path):
    home = tmp_path / "new"
    token = token_in(home)
    assert len(token) >= 40
    assert token_in(home) == token
    assert stat.S_IMODE((home / "api-token").stat().st_mode) == 0o600
    assert os.listdir(home) == ["api-token"]


@pytest.mark.parametrize(
    ("text", "mode"), [("short", 0o600), ("x" * 40, 0o644), ("with a space, but long", 0o600), ("", 0o600)]
)
def test_token_file_that_cannot_be_used_is_refused(tmp_path, text, mode):
    path = tmp_path / "api-token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(InvalidInput, match="api-token"):
        token_in(tmp_path)

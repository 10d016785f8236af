"""Settings of the object store: what they come to, what is refused, and that secrets stay secret."""

import pwd
from pathlib import Path

import pytest

from freshline.storage.errors import InvalidInput
from freshline.storage.settings import is_secret, load_settings

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def given(monkeypatch):
    def load(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"FRESHLINE_{name}", value)
        return load_settings()

    return load


def test_s3_settings_are_those_of_the_driver(given):
    settings = given(
        S3_ENDPOINT_URL="https://s3.example",
        S3_REGION="eu-west-1",
        S3_ACCESS_KEY_ID="me",
        S3_SECRET_ACCESS_KEY=SECRET,
        S3_SESSION_TOKEN="today",
    )
    assert settings.driver_options("s3") == {
        "key": "me",
        "secret": SECRET,
        "token": "today",
        "endpoint_url": "https://s3.example",
        "client_kwargs": {"region_name": "eu-west-1"},
    }
    assert settings.driver_options("gs") == {}
    assert SECRET not in repr(settings) + str(settings)


def test_settings_are_read_again_when_a_variable_or_the_home_is_another_one(given, monkeypatch, tmp_path):
    first = given(LEASE_S="30")
    assert given(LEASE_S="30") is first
    assert given(LEASE_S="40").lease_s == 40
    monkeypatch.delenv("FRESHLINE_HOME", raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert given().home == tmp_path / ".freshline"


def test_settings_that_name_the_home_are_read_where_the_user_has_none(given, monkeypatch):
    def nobody(_user_id):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert given(HOME="/kept").home == Path("/kept")


def test_options_come_before_all_else(given):
    settings = given(S3_ENDPOINT_URL="https://one", ARTIFACTS_OPTIONS='{"endpoint_url": "https://two", "anon": true}')
    assert settings.driver_options("s3") == {"endpoint_url": "https://two", "anon": True}
    assert settings.driver_options("gs") == {"endpoint_url": "https://two", "anon": True}


def test_no_settings_leave_all_to_the_driver(given):
    assert given().driver_options("s3") == {}


@pytest.mark.parametrize("text", [f'{{"secret": "{SECRET}"', f'["{SECRET}"]', SECRET])
def test_options_that_are_no_json_object_are_refused_without_being_shown(given, text):
    with pytest.raises(InvalidInput, match="FRESHLINE_ARTIFACTS_OPTIONS: it must be a JSON object") as caught:
        given(ARTIFACTS_OPTIONS=text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("half", ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"])
def test_half_a_pair_of_credentials_is_refused(given, half):
    with pytest.raises(InvalidInput, match="go together") as caught:
        given(**{half: SECRET}).driver_options("s3")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("ARTIFACTS_BLOCK", "aws-credentials"), ("ARTIFACTS_RETRY_S", "-1")])
def test_value_that_cannot_be_used_names_its_variable(given, name, value):
    with pytest.raises(InvalidInput, match=f"FRESHLINE_{name}='{value}'"):
        given(**{name: value})


def test_secret_settings_are_known():
    assert is_secret("s3_secret_access_key")
    assert is_secret("database_url")
    assert not is_secret("artifacts_url")

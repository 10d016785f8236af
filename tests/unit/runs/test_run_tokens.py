"""A token speaks for one attempt of one run, and cannot be made without the server's."""

import pytest

from freshline.runs.remote.tokens import fence_of, mint
from freshline.storage.ids import new_id

SECRET = "the-token-of-the-server"


def test_token_tells_its_own_attempt():
    run_id = new_id()
    assert fence_of(SECRET, run_id, mint(SECRET, run_id, 7)) == 7


def test_token_of_another_run_server_or_fence_tells_nothing():
    run_id = new_id()
    token = mint(SECRET, run_id, 7)
    assert fence_of(SECRET, new_id(), token) is None
    assert fence_of("another-server", run_id, token) is None
    assert fence_of(SECRET, run_id, token.replace("fr1_7_", "fr1_8_")) is None


@pytest.mark.parametrize("text", ["", "fr1_", "fr1_7", "fr1_7_", "fr1_-1_x", "fr1_٣_x", f"fr1_{'9' * 4000}_x", SECRET])
def test_text_that_is_no_token_tells_nothing(text):
    assert fence_of(SECRET, new_id(), text) is None

"""A command that a test had to give up is nobody else's."""

import signal
import threading

import pytest

from tests import commands
from tests.unit.runs.test_cli import environment


def test_call_after_one_that_did_not_end_gets_its_own_answer(tmp_path):
    began = tmp_path / ".stdout"

    def interrupt():
        while not began.exists():
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        commands.freshline(tmp_path, ["reconcile"], environment(tmp_path, {}))
    thread.join()
    assert commands.freshline(tmp_path, ["nonsense"], environment(tmp_path, {})).returncode == 2

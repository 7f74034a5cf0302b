"""Two processes and one folder."""

import subprocess
import sys
import threading

import pytest

from cervjax.io.lock import FolderInUseError, alone_in

HOLD = """
import sys, pathlib, time
from cervjax.io.lock import alone_in
with alone_in(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_and_a_killed_process_holds_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUseError, match="used by another run"):
            alone_in(tmp_path).__enter__()
        other.kill()
        other.wait()
    with alone_in(tmp_path):
        pass


def test_waiting_comes_to_its_turn(tmp_path):
    order = []

    def second():
        with alone_in(tmp_path, wait=True):
            order.append(2)

    with alone_in(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append(1)
    thread.join(5)
    assert order == [1, 2]

import time

from cervjax.cli.progress import scan_listener


def test_the_time_left_does_not_count_compiling_again(monkeypatch, capsys):
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    now = 0.0
    with scan_listener(3) as listener:
        now = 25.0
        listener.on_finished("a", {"compile": 20.0, "network": 5.0})
        now = 29.0
        listener.on_finished("b", {"compile": 0.0, "network": 4.0})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a: done in 25.0 s; 1/3, about 10 s left"
    assert second == "b: done in 4.0 s; 2/3, about 4 s left"

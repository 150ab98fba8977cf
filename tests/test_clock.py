"""Where a thread's time goes."""

import threading
import time

from lapis.clock import taken, timed


def test_time_goes_to_the_innermost_name_and_is_given_once(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    taken()
    with timed("decode"):  # from 0
        with timed("resample"):  # from 1
            pass  # to 2
        with timed("resample"), timed("decode"):  # from 3, from 4
            pass  # to 5, to 6
    # to 7
    assert taken() == {"decode": 1.0 + 1.0 + 1.0 + 1.0, "resample": 1.0 + 1.0 + 1.0}
    assert taken() == {}


def test_a_block_that_fails_is_closed_and_threads_have_times_of_their_own():
    taken()
    try:
        with timed("decode"):
            raise ValueError("broken")
    except ValueError:
        pass
    others = []

    def work():
        with timed("storage"):
            pass
        others.append(taken())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert taken().keys() == {"decode"} and others[0].keys() == {"storage"}

from __future__ import annotations

import threading

from realtime_stream.ports import LagInfo
from realtime_stream.runtime.lag import LagMeter


def test_it_measures_from_receive_to_delivery() -> None:
    meter = LagMeter(threshold=1.0)
    assert meter.info(0.0, None) == LagInfo()
    assert not meter.begin(received=10.0, now=10.5)
    meter.end()
    assert not meter.begin(received=11.0, now=11.25)
    meter.end()
    assert meter.info(12.0, None) == LagInfo(last=0.25, highest=0.5)


def test_an_alarm_is_raised_once_per_onset() -> None:
    meter = LagMeter(threshold=1.0)
    assert meter.begin(0.0, 1.5)
    assert not meter.begin(0.0, 2.0)
    assert not meter.begin(10.0, 10.75)  # below the threshold, yet not well below
    assert not meter.begin(0.0, 12.0)
    assert not meter.begin(20.0, 20.25)
    assert meter.begin(0.0, 21.5)
    assert meter.info(30.0, None).alarms == 2


def test_a_lag_of_exactly_the_threshold_is_no_alarm() -> None:
    assert not LagMeter(threshold=1.0).begin(0.0, 1.0)


def test_a_delivery_that_hangs_is_seen_from_outside() -> None:
    meter = LagMeter(threshold=1.0)
    assert not meter.watch(100.0)
    meter.begin(10.0, 10.0)
    assert not meter.watch(11.0)
    assert meter.watch(11.5)
    assert not meter.watch(12.0)
    assert meter.info(13.0, None) == LagInfo(0.0, 0.0, 3.0, 1)
    meter.end()
    assert not meter.watch(20.0)


def test_how_long_the_oldest_frame_waits_is_shown() -> None:
    meter = LagMeter(threshold=1.0)
    assert meter.info(5.0, 3.0).waiting == 2.0
    assert meter.info(5.0, 6.0).waiting == 0.0
    meter.begin(1.0, 1.5)
    assert meter.info(5.0, 3.0).waiting == 4.0


def test_threads_that_see_the_same_lag_raise_one_alarm() -> None:
    meter, barrier = LagMeter(threshold=1.0), threading.Barrier(8)
    meter.begin(0.0, 0.0)
    answers: list[bool] = []

    def watch() -> None:
        barrier.wait(10)
        answers.append(meter.watch(2.0))

    threads = [threading.Thread(target=watch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == [False] * 7 + [True]


def test_a_second_listener_that_hangs_on_a_quiet_feed_is_a_second_onset() -> None:
    meter = LagMeter(1.0)
    assert meter.watch(2.0, 0.5)
    assert not meter.watch(3.0, 0.5)
    assert not meter.watch(4.0, None, idle=True)
    assert meter.watch(9.0, 5.0)

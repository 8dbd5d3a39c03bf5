from __future__ import annotations

import asyncio
import threading

from realtime_stream.providers.loop_signal import LoopSignal


def test_it_is_not_set_at_first() -> None:
    assert not LoopSignal().is_set()


def test_setting_calls_what_is_armed_each_time() -> None:
    signal, calls = LoopSignal(), list[int]()
    signal.arm_direct(lambda: calls.append(1))
    assert calls == []
    signal.set()
    signal.set()
    assert calls == [1, 1]
    assert signal.is_set()


def test_arming_after_it_was_set_calls_at_once() -> None:
    signal, calls = LoopSignal(), list[int]()
    signal.set()
    signal.arm_direct(lambda: calls.append(1))
    assert calls == [1]


def test_disarmed_it_calls_nothing() -> None:
    signal, calls = LoopSignal(), list[int]()
    signal.arm_direct(lambda: calls.append(1))
    signal.disarm()
    signal.set()
    assert calls == []
    assert signal.is_set()


def test_arming_again_replaces_what_was_armed() -> None:
    signal, calls = LoopSignal(), list[str]()
    signal.arm_direct(lambda: calls.append("old"))
    signal.arm_direct(lambda: calls.append("new"))
    signal.set()
    assert calls == ["new"]


def test_another_thread_makes_something_happen_on_the_loop() -> None:
    signal, threads = LoopSignal(), list[threading.Thread]()

    async def main() -> threading.Thread:
        happened = asyncio.Event()

        def act() -> None:
            threads.append(threading.current_thread())
            happened.set()

        signal.arm(act)
        setter = threading.Thread(target=signal.set)
        setter.start()
        async with asyncio.timeout(10):
            await happened.wait()
        setter.join(10)
        return threading.current_thread()

    assert asyncio.run(main()) is threads[0]


def test_on_a_loop_too_it_happens_at_once_when_already_set() -> None:
    signal = LoopSignal()
    signal.set()

    async def main() -> None:
        happened = asyncio.Event()
        signal.arm(happened.set)
        async with asyncio.timeout(10):
            await happened.wait()

    asyncio.run(main())


def test_setting_after_the_loop_has_ended_is_harmless() -> None:
    signal, calls = LoopSignal(), list[int]()

    async def main() -> None:
        signal.arm(lambda: calls.append(1))

    asyncio.run(main())
    signal.set()
    assert calls == []

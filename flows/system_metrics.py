"""What a body takes of its machine: processor, memory, disk, network, GPUs; sampled beside it, as metric values.

Owns what is sampled and when. The values go into the run's series under names that begin with `system/`; they are no
result of the run, and so neither its latest metrics nor part of its digest.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psutil

_LOGGER = logging.getLogger(__name__)
INTERVAL_S = 10.0

Samples = dict[str, float]


class SystemMetrics:
    """Samples in a thread of its own, from its start to its end; what cannot be told is left out.

    Args:
        add: takes the values of one moment.
        interval_s: how often; the first time after one interval, so that a short run has none.
    """

    def __init__(self, add: Callable[[Samples], None], *, interval_s: float = INTERVAL_S) -> None:
        self._add = add
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="freshline-system", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            sampler = Sampler()
            while not self._closed.wait(self._interval_s):
                self._add(sampler.sample())
        except Exception as error:
            _LOGGER.warning("system metrics end here, and the run goes on: %s", error)


class Sampler:
    """Asks the system; what is a sum counts from here on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._own = psutil.Process()
        self._sampled_at = clock()
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._io: dict[tuple[int, float], tuple[int, int]] = {}
        self._before: dict[tuple[int, float], tuple[int, int]] = {}
        self._look()
        # What the process had done before the body began is not the body's.
        self._before = dict(self._io)
        self._net = psutil.net_io_counters()
        self._gpus = _Gpus()

    def sample(self) -> Samples:
        """Return name -> value: `cpu_pct` since the last sample (100 is one core), and bytes."""
        cpu_s, before_s, sampled_at = dict(self._cpu_s), self._sampled_at, self._clock()
        memory = self._look()
        self._sampled_at = sampled_at
        used_s = sum(now_s - cpu_s.get(process, 0.0) for process, now_s in self._cpu_s.items())
        samples = {
            "system/cpu_pct": 100.0 * max(0.0, used_s) / max(1e-9, sampled_at - before_s),
            "system/memory_bytes": float(memory),
        }
        if self._io:
            began = {process: self._before.get(process, (0, 0)) for process in self._io}
            samples["system/disk_read_bytes"] = float(sum(io[0] - began[one][0] for one, io in self._io.items()))
            samples["system/disk_written_bytes"] = float(sum(io[1] - began[one][1] for one, io in self._io.items()))
        net = psutil.net_io_counters()
        if net is not None and self._net is not None:
            samples["system/net_sent_bytes"] = float(net.bytes_sent - self._net.bytes_sent)
            samples["system/net_received_bytes"] = float(net.bytes_recv - self._net.bytes_recv)
        return samples | self._gpus.sample()

    def _look(self) -> int:
        """Look at the process and those that it has started; return the bytes that they have in memory.

        The times and the transfers of those that have ended are kept, as they were when last seen.
        """
        memory, living = 0, {}
        for process in _tree(self._own):
            with suppress(psutil.Error):
                key = (process.pid, process.create_time())
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                    with suppress(psutil.Error, AttributeError):  # not every system tells
                        io = process.io_counters()
                        self._io[key] = (io.read_bytes, io.write_bytes)
                living[key] = times.user + times.system
        self._cpu_s = living
        return memory


class _Gpus:
    """NVIDIA's GPUs, where its library is there."""

    def __init__(self) -> None:
        self._library: Any = None
        self._devices: list[Any] = []
        with suppress(Exception):  # no library, no driver, no GPU: there is nothing to tell
            import pynvml

            pynvml.nvmlInit()
            self._devices = [pynvml.nvmlDeviceGetHandleByIndex(one) for one in range(pynvml.nvmlDeviceGetCount())]
            self._library = pynvml

    def sample(self) -> Samples:
        """Return the use and the memory of each."""
        return dict(self._samples())

    def _samples(self) -> Iterator[tuple[str, float]]:
        for number, device in enumerate(self._devices):
            with suppress(Exception):  # one that is lost must not end the others
                yield f"system/gpu_{number}_pct", float(self._library.nvmlDeviceGetUtilizationRates(device).gpu)
                yield f"system/gpu_{number}_memory_bytes", float(self._library.nvmlDeviceGetMemoryInfo(device).used)


def _tree(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    with suppress(psutil.Error):
        yield from process.children(recursive=True)

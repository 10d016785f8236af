"""How a body uses its machine: sampled beside it, in its series alone."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from freshline.flows import RunContext, track
from freshline.flows.series import MetricSeries
from freshline.flows.system_metrics import Sampler, SystemMetrics
from freshline.runs.points.chunks import latest_in, table_of
from freshline.storage.errors import InvalidInput
from tests.unit.flows.ports import Port, started


def test_samples_tell_processor_memory_and_network():
    now_s = [100.0]
    sampler = Sampler(clock=lambda: now_s[0])
    began_s = time.process_time()
    while time.process_time() - began_s < 0.06:
        sum(range(100_000))
    now_s[0] += 1.0
    samples = sampler.sample()
    assert samples["system/cpu_pct"] >= 5.0
    assert samples["system/memory_bytes"] > 1e6
    assert samples["system/net_sent_bytes"] >= 0.0
    assert all(name.startswith("system/") and type(value) is float for name, value in samples.items())


def test_processes_that_the_body_has_started_count_and_may_end():
    sampler = Sampler()
    alone = sampler.sample()["system/memory_bytes"]
    with subprocess.Popen([sys.executable, "-c", "x = bytearray(1); print(flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        assert sampler.sample()["system/memory_bytes"] > alone + 2e6
        child.communicate(b"\n")
    assert sampler.sample()["system/cpu_pct"] >= 0.0


def test_gpus_are_told_where_their_library_is(monkeypatch):
    def rates(device: int) -> Any:
        if device == 1:
            raise RuntimeError("the GPU is lost")
        return SimpleNamespace(gpu=40)

    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=rates,
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=7),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    found = {name: value for name, value in Sampler().sample().items() if "gpu" in name}
    assert found == {"system/gpu_0_pct": 40.0, "system/gpu_0_memory_bytes": 7.0}


def test_sampling_that_fails_ends_with_a_warning_and_not_the_body(caplog):
    tried = threading.Event()

    def fail(_samples: Any) -> None:
        tried.set()
        raise ValueError("no room")

    with SystemMetrics(fail, interval_s=0.001):
        assert tried.wait(30)
    assert "system metrics end here" in caplog.text


def test_use_of_the_system_is_no_latest_metric_and_its_names_are_taken():
    series = MetricSeries()
    series.observe({"system/cpu_pct": 3.0})
    with pytest.raises(InvalidInput, match="which is for what Freshline samples"):
        series.add(None, {"system/cpu_pct": 3.0})
    series.add(None, {"loss": 1.0})
    assert series.latest == {"loss": 1.0}
    assert latest_in(table_of(series.take())) == {"loss": 1.0}


@pytest.mark.parametrize(
    ("said", "setting", "samples"), [(True, False, True), (False, True, False), (None, True, True)]
)
def test_decorator_says_whether_it_is_sampled_and_else_the_setting(monkeypatch, said, setting, samples):
    monkeypatch.setattr(SystemMetrics.__init__, "__kwdefaults__", {"interval_s": 0.001})
    seen = threading.Event()

    @track.training(system_metrics=said)
    def body(run: RunContext) -> None:
        while samples and not len(run._series):
            seen.wait(0.005)

    with started(monkeypatch, Port(system_metrics=setting), body) as port:
        body()
    assert [artifact.name for artifact in port.result.artifacts] == (["metrics"] if samples else [])
    assert port.result.metrics == {}

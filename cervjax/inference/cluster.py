"""Many scans on many machines, or on all devices of one: workers of a Ray cluster.

A worker does one scan after the other by the stages of `pipeline`; a scan whose worker
is lost is done again. Results are written by the workers, tables by the process that
asks, at the end. All machines need the same folders under the same names.
"""

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import jax

from cervjax.inference.failures import DISK_FULL, Failure, Listener, failure_of
from cervjax.inference.pipeline import Ends, NotTriedError, Outcome, Stages, caught
from cervjax.io.compiled import tend
from cervjax.io.scans import Scan

LOCAL = "local"  # a cluster of this machine alone, for as long as the run lasts
_TRIES = 3
_WORKER_BYTES = 3_000_000_000  # a process and the network on a scan of usual size
_LOST = f"its worker was lost {_TRIES} times; it may need more memory (--max-memory-gb)"


@dataclass(frozen=True)
class Cluster:
    """Where scans are worked on.

    Attributes:
        address: `LOCAL`, or of a running cluster: "auto", or "host:6379".
        cores: of each worker without a device of its own.
        device: "cpu", "gpu", or None for the best.
        verbose: workers' own messages are shown.
    """

    address: str
    cores: int = 4
    device: str | None = None
    verbose: bool = False

    def run(self, work: Stages, scans: Collection[Scan]) -> Ends:
        """Works on scans, as `pipeline.segment_scans` wants it.

        Raises:
            ModuleNotFoundError: Ray is not installed.
            ValueError: there is no such cluster.
        """
        with self._connected() as ray:
            number, options = _plan(ray.cluster_resources(), self, work, len(scans))
            work.listener.log(f"{number} worker(s), each with {options}")
            method = work.method
            if method.settings.max_memory_gb is None and "num_gpus" not in options:
                total = ray.cluster_resources().get("memory", _WORKER_BYTES)
                method = method.limited(total / number / 1e9)
            sent = replace(work, method=method, listener=_SILENT)
            remote = ray.remote(**options, max_restarts=-1)(_Worker)
            workers = [remote.remote(os.getcwd(), sent) for _ in range(number)]
            try:
                yield from _shared_out(ray, workers, work, scans)
            finally:
                for worker in workers:  # nothing is written after the tables
                    ray.kill(worker)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        programs = getattr(jax.config, "jax_compilation_cache_dir", None)  # noqa: B009
        variables = {}
        if programs:
            variables["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(programs)
        if self.device is not None:
            variables["JAX_PLATFORMS"] = self.device.replace("gpu", "cuda")
        options: dict[str, Any] = {"runtime_env": {"env_vars": variables}}
        if self.address == LOCAL:
            options |= {"include_dashboard": False, "object_store_memory": 100_000_000}
        else:
            options["address"] = self.address
        level = logging.INFO if self.verbose else logging.ERROR
        stop = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(log_to_driver=self.verbose, logging_level=level, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"no cluster at {self.address}: {reason}") from error
        if current_thread() is main_thread():  # Ray has put its own there
            signal.signal(signal.SIGTERM, stop)
        try:
            yield ray
        finally:
            ray.shutdown()


def _plan(
    there: dict[str, float], cluster: Cluster, work: Stages, scans: int
) -> tuple[int, dict[str, float]]:
    """How many workers, and what each asks of Ray."""
    limit = work.method.settings.max_memory_gb
    memory = _WORKER_BYTES if limit is None else int(limit * 1e9)
    cpus, gpus = there.get("CPU", 1), int(there.get("GPU", 0))
    by_memory = max(int(there.get("memory", memory) // memory), 1)
    memory = min(memory, int(there.get("memory", memory)))
    if gpus and cluster.device != "cpu":
        number = max(min(gpus, by_memory, scans), 1)
        cores = max(int(cpus // gpus), 1)
        return number, {"num_cpus": cores, "num_gpus": 1, "memory": memory}
    cores = int(min(cluster.cores, cpus))
    number = max(min(int(cpus // cores), by_memory, scans), 1)
    return number, {"num_cpus": cores, "memory": memory}


class _Worker:
    """A process with a device, or some cores; started again by Ray if it is lost."""

    def __init__(self, folder: str, work: Stages):
        os.chdir(folder)  # names of files are those of the process that asks
        if not work.out.is_dir():
            raise ValueError(f"{work.out} is not to be seen on this machine")
        if programs := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            tend(Path(programs), is_ours=False)
        stages, full = (work.read, work.draw, work.write), Event()
        self._stages = [caught(stage, full) for stage in stages]

    def ready(self) -> None:
        """Returns when the worker has started."""

    def segment(self, scan: Scan) -> tuple[Outcome | Failure, bool]:
        """The end of a scan, and whether the disk is full."""
        value: Any = scan
        for stage in self._stages:
            value = stage(value)
        if isinstance(value, Outcome):
            spent = {k: s for k, s in value.seconds.items() if k != "compile"}
            return replace(value, seconds=spent), False
        is_full = isinstance(value, OSError) and value.errno in DISK_FULL
        return failure_of(scan, value), is_full


def _nothing(*_: Any) -> None:
    """A worker tells nothing by itself."""


_SILENT = Listener(_nothing, _nothing, _nothing, _nothing)


def _shared_out(ray: Any, workers: list, work: Stages, scans: Collection[Scan]) -> Ends:
    """Gives each worker that has nothing to do a scan, until all are done."""
    waiting, tries = deque(scans), Counter[str]()
    busy: dict[Any, tuple[Any, Scan | None]] = {_ready(w): (w, None) for w in workers}
    while waiting or any(scan for _, scan in busy.values()):
        (done,), _ = ray.wait(list(busy), num_returns=1)
        worker, scan = busy.pop(done)
        try:
            found = ray.get(done)
        except ray.exceptions.RayTaskError as error:  # a fault of this program
            raise error.cause from error
        except ray.exceptions.RayError as error:
            if scan is None:
                raise ValueError(f"a worker cannot start: {error}") from error
            busy[_ready(worker)] = worker, None
            yield from _lost(scan, tries, waiting, work.listener.log)
            continue
        if scan is not None:
            yield scan, found[0]
            if found[1]:
                why = "not tried: the disk is full"
                yield from ((s, NotTriedError(why)) for s in waiting)
                waiting.clear()
        if waiting:
            scan = waiting.popleft()
            work.listener.on_stage(scan.name, "read")
            busy[worker.segment.remote(scan)] = worker, scan


def _ready(worker: Any) -> Any:
    """Comes when a worker has started, or started again."""
    return worker.ready.options(max_task_retries=-1).remote()


def _lost(
    scan: Scan, tries: Counter, waiting: deque[Scan], log: Callable[[str], object]
) -> Ends:
    """Puts a scan whose worker was lost at the front again, unless that is in vain."""
    tries[scan.name] += 1
    if tries[scan.name] < _TRIES:
        log(f"{scan.name}: its worker was lost; it is done again")
        waiting.appendleft(scan)
    else:
        files = "; ".join(map(str, scan.files.values()))
        yield scan, Failure(scan.name, files, _LOST)

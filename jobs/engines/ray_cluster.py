"""The Ray cluster of this process: joined, or started here; what it has; which of its nodes are about to go;
what its errors mean.

Knows no partitions and no workers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil

from jobs.engines.engine import RaySettings
from pipelines.errors import BackhaulError, SettingsError

T = TypeVar("T")
log = logging.getLogger(__name__)
_LOCAL = "local"  # what ray.init calls a cluster of its own
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": what a local cluster listens on is 127.0.0.1 alone
_CONNECT_S = 60.0
_OBJECT_STORE_BYTES = 100 << 20  # receipts are small; Ray's default is a third of the machine's memory


def require_ray() -> None:
    """Raises SettingsError with the command that installs it."""
    if importlib.util.find_spec("ray") is None:
        raise SettingsError("engine ray needs the extra `ray`: `make setup`, or pip install -e '.[ray]'")


def connect(settings: RaySettings, wake: Connection) -> None:
    """Join the cluster at ``engine.ray.address`` or RAY_ADDRESS, else start one here; at once when this process has one.

    It stays until the process ends: starting takes seconds, and a process has one connection to Ray at most.
    Returns early when ``wake`` becomes readable.

    Raises:
        BackhaulError: it cannot be joined or started.
        SettingsError: through Ray Client; or a local one would listen to the network, or no worker fits in it.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    address = settings.address or os.environ.get("RAY_ADDRESS") or _LOCAL
    options = {"address": address, "logging_level": logging.ERROR, **_options(address)}
    began, raylets = time.monotonic(), _raylets()
    connected = _init_in_a_thread_that_stays(options)
    while not connected.done() and not wake.poll():
        wait_for([connected], 0.2)
        if time.monotonic() - began > _CONNECT_S:  # Ray's own patience is many times that
            raise BackhaulError(_refusal(address, TimeoutError(f"no answer in {_CONNECT_S:g} s")))
    if not connected.done():
        return
    if error := connected.exception():
        raise BackhaulError(_refusal(address, error)) from error
    if address == _LOCAL:
        _end_agents_with_this_process(_raylets() - raylets)
        _must_fit(settings)
    log.info("on Ray (%s) after %.1f s: %s", address, time.monotonic() - began, resources_text())


def _options(address: str) -> dict[str, Any]:
    """What ray.init needs beside the address. Ray must not be imported before."""
    if "://" in address:
        raise SettingsError(
            f"{address} is Ray Client's, which neither tells of drained nodes nor ends the workers with their driver. Run the "
            "driver inside the cluster: ray job submit -- backhaul embed CONF --engine ray"
        )
    if address != _LOCAL:
        return {}
    if "ray" in sys.modules and os.environ.get(_LOOPBACK) != "0":
        raise SettingsError(
            "Ray was imported before this engine ran, so that a local cluster would listen on every network interface. "
            f"Set {_LOOPBACK}=0 before importing it, or start a cluster yourself: ray.init()"
        )
    os.environ[_LOOPBACK] = "0"  # read when Ray is imported
    return {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}


def _refusal(address: str, error: BaseException) -> str:
    if address == _LOCAL:
        return f"a local Ray cluster did not start ({_brief(error)}); --engine local needs none"
    return (
        f"the Ray cluster at {address} cannot be joined ({_brief(error)}); see `ray status --address {address}`, "
        "and engine.ray.address or RAY_ADDRESS"
    )


def _print_on_standard_error() -> None:
    """Ray prints its workers' lines and its own errors on the driver's standard output, which belongs to --json. Its
    log_to_driver knows no other place, and for the errors there is no setting."""
    from ray._private import worker

    printing = worker.print_worker_logs
    worker.print_worker_logs = lambda data, sink, *rest: printing(data, sys.stderr, *rest)


def _init_in_a_thread_that_stays(options: dict[str, Any]) -> Future[None]:
    """The kernel ends a local cluster with the thread that started it, so that nothing of it outlives this process, even
    killed. And in the main thread ray.init takes SIGTERM's handler."""
    import ray

    _print_on_standard_error()
    connected: Future[None] = Future()

    def hold() -> None:
        try:
            ray.init(**options)
        except BaseException as error:
            connected.set_exception(error)
            return
        connected.set_result(None)
        threading.Event().wait()

    threading.Thread(target=hold, name="ray-connection", daemon=True).start()
    return connected


def _raylets() -> set[psutil.Process]:
    """Those that this process has started."""
    found = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if process.name() == "raylet":
                found.add(process)
    return found


def _end_agents_with_this_process(raylets: set[psutil.Process]) -> None:
    """Most of a local cluster ends at once with its driver, however that ends. Its agents alone would go on for a
    minute, waiting for the rest to take their last words; so a process waits for the driver's end to end them."""
    agents = {str(process.pid): process.create_time() for raylet in raylets for process in raylet.children()}
    reaper = subprocess.Popen(  # noqa: S603  # our own interpreter and program
        [sys.executable, "-c", _REAPER, json.dumps(agents)], stdin=subprocess.PIPE, stdout=2, start_new_session=True
    )
    _held_open.append(reaper)


_held_open: list[subprocess.Popen[bytes]] = []  # their standard input ends with this process
_REAPER = """
import contextlib, json, sys, time, psutil
sys.stdin.read()
time.sleep(1)
for pid, created in json.loads(sys.argv[1]).items():
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(int(pid))
        if process.create_time() == created:
            process.kill()
"""


def _must_fit(settings: RaySettings) -> None:
    """A cluster that was started here never grows."""
    import ray

    total = ray.cluster_resources()
    if settings.cpus_per_worker > total.get("CPU", 0) or settings.gpus_per_worker > total.get("GPU", 0):
        raise SettingsError(
            f"no worker fits on this machine: {settings.text()}, and it has {resources_text()}. Ask for less with "
            "--set engine.ray.cpus_per_worker=N --set engine.ray.gpus_per_worker=N, or name a cluster with engine.ray.address"
        )


def resources_text() -> str:
    """Such as ``CPU 8 (2 free), GPU 0 (0 free) on 3 nodes``."""
    import ray

    total: dict[str, float] = _ask(ray.cluster_resources, {})
    free: dict[str, float] = _ask(ray.available_resources, {})
    parts = [f"{name} {total.get(name, 0):g} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")]
    nodes = len(living_nodes(otherwise=set()))
    return f"{', '.join(parts)} on {nodes} node{'s' * (nodes != 1)}"


def draining_nodes() -> dict[str, float | None]:
    """Seconds left, or None where nobody said, by the id of each node that is being drained (``ray drain-node``, the
    autoscaler, SIGTERM to ``ray start --block``).

    No public call tells it; this one is what Ray's own training library asks.
    """
    import ray

    draining: dict[str, int] = _ask(lambda: ray._private.state.state.get_draining_nodes(), {})
    now_ms = time.time() * 1000
    return {node: max(0.0, (at_ms - now_ms) / 1000) if at_ms else None for node, at_ms in draining.items()}


def living_nodes(otherwise: set[str]) -> set[str]:
    import ray

    return _ask(lambda: {node["NodeID"] for node in ray.nodes() if node["Alive"]}, otherwise)


def _ask(question: Callable[[], T], otherwise: T) -> T:
    """A head that does not answer for a while, or is started anew, is no reason to end a run."""
    try:
        return question()
    except Exception as error:  # any: it is not ours to know what a foreign, and partly private, call raises
        log.debug("the cluster does not say: %s", error)
        return otherwise


def end_of(error: Exception) -> str:
    """How a worker ended, in a few words of the many that Ray has for it."""
    import ray

    text = str(error)
    if isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in text:
        return "killed by Ray's memory monitor: its node was running low on memory"
    if "its node has died" in text:
        return "gone with its node"
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return "out of reach, as with a node or network that is gone"
    if "connection error code 2" in text:
        return "ended without a word, as by SIGKILL or exit"
    return (
        _brief(error)
        if "The actor is dead because " not in text
        else text.partition("The actor is dead because ")[2][:200]
    )


def start_error(error: Exception) -> str:
    """Why a worker could not start on its node, such as ``ModuleNotFoundError: No module named 'jobs'``; nothing when
    that is not what ended it."""
    text = str(error)
    if not getattr(error, "actor_init_failed", False) and "failed to import on the worker" not in text:
        return ""
    errors = re.findall(r"^ *(\w+(?:Error|Exception): .*)", text, re.MULTILINE)
    causes = [line for line in errors if not line.startswith(("RuntimeError: The actor with name", "RaySystemError"))]
    return causes[-1] if causes else _brief(error)


def _brief(error: BaseException) -> str:
    return (str(error) or repr(error)).strip().splitlines()[0][:300]

"""Who has something in hand, as the others see it, and what it has from its machine. Knows no leases."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from pipelines.clock import SYSTEM, Clock


@dataclass(frozen=True, slots=True)
class Owner:
    """``invocation`` is one driver with all its workers, or one array child. ``host`` is a boot of a machine and a
    process namespace in it: there, and only there, ``pid`` and ``started`` tell whether the owner lives."""

    invocation: str
    host: str
    name: str
    pid: int
    started: float


def this_owner(invocation: str) -> Owner:
    host, started = _this_host(), psutil.Process().create_time()
    return Owner(invocation, host, socket.gethostname(), os.getpid(), started)


def is_dead(owner: Owner) -> bool:
    """Whether the process of an owner on this host is gone; False where that cannot be told."""
    try:
        process = psutil.Process(owner.pid)
        return process.create_time() != owner.started or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


@cache
def _this_host() -> str:
    """A boot of this machine and the process namespace; something of our own where these cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()}/{new_token()}"


def new_token() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Machine:
    """Time, other processes, chance and threads, as a value: a simulation brings its own."""

    clock: Clock = SYSTEM
    is_dead: Callable[[Owner], bool] = is_dead
    new_token: Callable[[], str] = new_token
    new_lock: Callable[[], AbstractContextManager[object]] = threading.Lock


THIS_MACHINE = Machine()

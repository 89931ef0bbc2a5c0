"""One container of the simulator: a command as a process of this machine, in a process group of its own.

Knows signals and exit codes; knows no job and no retrying.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_END_S = 10.0  # from SIGKILL to the end of a process; the kernel needs milliseconds


class CannotStart(Exception):
    """In the words of ECS, as the container's reason."""


class Container:
    """Runs from construction on. Not reaped before its whole group was killed, so that no other process can have
    got the group's number meanwhile."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], workdir: Path | None, *,
                 stdout: Path, stderr: Path) -> None:  # fmt: skip
        self._code: int | None = None
        stdout.parent.mkdir(parents=True, exist_ok=True)
        with stdout.open("wb") as out, stderr.open("wb") as err:
            try:
                self._process = subprocess.Popen(
                    list(command), env=dict(environment), cwd=workdir, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True)  # fmt: skip
            except OSError as error:
                raise CannotStart(
                    "CannotStartContainerError: Error response from daemon: failed to create task for container: failed "
                    f'to create shim task: OCI runtime create failed: exec: "{command[0]}": {error.strerror}'
                ) from error
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """None while the main process runs; else as Docker has it, 128 + n for signal n, and the rest of the group
        is killed: with a container's first process go all the others."""
        if self._code is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self.kill()
        return self._code

    def terminate(self) -> None:
        """SIGTERM to the main process alone, as `docker stop` sends it."""
        if self._code is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait for the main process."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            code = self._process.wait(_END_S)
            self._code = code if code >= 0 else 128 - code

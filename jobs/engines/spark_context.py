"""Opens the Spark context of this process: spark-submit's, a cluster's, or one on this machine. Knows no Work."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway

from jobs.engines.engine import EngineSettings
from jobs.no_pandas import pandas_refused
from pipelines.errors import BackhaulError, SettingsError

_OLDEST_JAVA = 17
_opening = threading.Lock()
_INSTALL = "install one, such as `apt-get install openjdk-17-jre-headless`, and let JAVA_HOME name it"


def open_context(settings: EngineSettings) -> SparkContext:
    """The context of this process, which one after the other run uses; made when there is none.

    Raises:
        SettingsError: no Java that Spark can use.
        BackhaulError: Spark does not start, or its master is not to be reached.
    """
    with _opening:
        if SparkContext._active_spark_context is not None:
            return SparkContext._active_spark_context
        handler = signal.getsignal(signal.SIGINT)
        try:
            context = _start(settings)
        except BackhaulError:
            raise
        except Exception as error:  # Py4J and Spark raise many classes
            raise BackhaulError(
                f"Spark does not start ({cause_of(error)}), its own words are above; is engine.spark right?"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)  # Spark's own would cancel all jobs, whoever they belong to
        atexit.register(context.stop)  # else it leaves a socket behind in the temporary folder
        return context


def submitted() -> bool:
    """Whether spark-submit started this process: then master and resources are its."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def is_local(master: str | None) -> bool:
    """Whether workers share the driver's host and JVM."""
    return master is not None and re.match(r"local(\[|$)", master) is not None


def own_workers(context: SparkContext, settings: EngineSettings) -> int | None:
    """How many workers the settings ask for; None where they come from elsewhere."""
    return settings.workers if is_local(context.master) and not submitted() else None


def task_attempts(context: SparkContext) -> int:
    """How often Spark runs a task that fails before it fails the job."""
    if is_local(master := context.master or ""):
        tries = re.fullmatch(r"local\[.*,\s*(\d+)\s*\]", master)
        return int(tries[1]) if tries else 1
    return int(context.getConf().get("spark.task.maxFailures") or 4)


def driver_host(context: SparkContext) -> tuple[str, str]:
    """The name by which executors reach this process, and the address to listen at for them."""
    host = context.getConf().get("spark.driver.host") or "127.0.0.1"
    return host, context.getConf().get("spark.driver.bindAddress") or host


def is_running(context: SparkContext) -> bool:
    try:
        return not context._jsc.sc().isStopped()
    except Exception:  # Py4J has several for a JVM that is gone
        return False


def cause_of(error: Exception) -> str:
    """The line of Spark's pages of text that says why a job failed."""
    text = str(error)
    python = re.findall(r"^(\w+(?:Error|Exception): .+)$", text, re.MULTILINE)
    recent = re.search(r"most recent failure: (.+)", text)
    line: str = python[-1] if python else recent[1] if recent else text.strip().partition("\n")[0]
    return line[:500]


def _start(settings: EngineSettings) -> SparkContext:
    with pandas_refused():  # PySpark asks its testing module, at the first object it passes, whether there is numpy
        import pyspark.testing.utils  # noqa: F401
    if SparkContext._gateway is None and not submitted():
        _launch(settings)
    SparkContext._ensure_initialized()  # so that the next line sees what spark-submit and spark-defaults.conf say
    properties = _properties(settings)
    if not submitted():
        os.environ.setdefault("PYSPARK_PYTHON", properties.get("spark.pyspark.python") or sys.executable)
    context = SparkContext(conf=properties)
    # Python workers end with the run that they were for; that Spark finds them gone is no news.
    log4j = context._jvm.org.apache.logging.log4j  # type: ignore[union-attr]  # there is one as long as the context
    log4j.core.config.Configurator.setLevel("org.apache.spark.api.python.PythonWorkerFactory", log4j.Level.ERROR)
    return context


def _launch(settings: EngineSettings) -> None:
    """Start the JVM. In a session of its own, so that a signal to our group leaves it to the driver to stop it; it
    ends when this process does, whatever the reason. Standard output is the command's alone."""
    java_version()
    if is_local(_master(settings)):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        # Here the JVM hands out slices and no more: its optimising compiler takes more from the workers than it gives.
        os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1")
    given = SparkConf(loadDefaults=False).setMaster(_master(settings)).setAppName("backhaul")
    given.set("spark.ui.showConsoleProgress", "false")  # progress is the command's; Spark draws over it
    given.setAll(list(settings.spark.conf.items()))
    popen = {"stdout": 2, "start_new_session": True}
    SparkContext._ensure_initialized(gateway=launch_gateway(given, popen))  # type: ignore[no-untyped-call]


def _master(settings: EngineSettings) -> str:
    return settings.spark.master or f"local[{settings.workers},{settings.max_attempts}]"


def _properties(settings: EngineSettings) -> SparkConf:
    """Ours where nobody said otherwise, then spark-submit's and spark-defaults.conf's, then the run description's."""
    conf = SparkConf()
    if settings.spark.master or not submitted():
        conf.setMaster(_master(settings))
    defaults = {
        "spark.app.name": "backhaul",
        "spark.ui.enabled": "false",
        "spark.log.level": "WARN",
        "spark.python.worker.reuse": "true",
        "spark.python.unix.domain.socket.enabled": "true",  # halves the cost of a task
        "spark.task.maxFailures": str(settings.max_attempts),
    }
    if is_local(conf.get("spark.master")):
        defaults |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
                     "spark.authenticate": "true",
                     "spark.executorEnv.PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # fmt: skip
    else:
        defaults["spark.decommission.enabled"] = "true"  # an executor that goes away is given nothing more
    if settings.spark.gpus_per_task:
        defaults["spark.task.resource.gpu.amount"] = f"{settings.spark.gpus_per_task:g}"
    for key, value in defaults.items():
        conf.setIfMissing(key, value)
    return conf.setAll(list(settings.spark.conf.items()))


def java_version() -> int:
    """Of the Java that Spark's scripts will start.

    Raises:
        SettingsError: there is none, or it is too old, with the command that installs one.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None or not Path(java).exists():
        where = (
            f"JAVA_HOME is {home}, where there is none" if home else "there is none on PATH, and JAVA_HOME is not set"
        )
        raise SettingsError(f"engine spark needs Java {_OLDEST_JAVA} or later; {where}: {_INSTALL}")
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr  # noqa: S603  # Spark would run it, too
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"{java} does not run ({error}); {_INSTALL}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < _OLDEST_JAVA:
        version = f"version {found[1]}" if found else f"of an unknown version ({said.strip()[:100]})"
        raise SettingsError(f"engine spark needs Java {_OLDEST_JAVA} or later, {java} is {version}: {_INSTALL}")
    return int(found[1])

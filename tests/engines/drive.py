"""A driver process for tests: ``python -m tests.engines.drive ENGINE WORKERS GRACE_S COUNT ORDERS_JSON FOLDER``.

Prints one line per outcome on standard output, and ends with the exit code of what it raised.
"""

from __future__ import annotations

import json
import sys

from jobs.engines.engine import Done, EngineSettings, WorkSpec
from pipelines.errors import BackhaulError
from tests.contracts.engines import ENGINES
from tests.engines.works import EvidenceWork, Orders, partitions


def main() -> int:
    name, workers, grace_s, count, orders, folder = sys.argv[1:]
    spec = WorkSpec(EvidenceWork, Orders(folder, {int(key): value for key, value in json.loads(orders).items()}))
    engine = ENGINES[name](EngineSettings(workers=int(workers), grace_s=float(grace_s)))
    try:
        for outcome in engine.run(spec, partitions(int(count))):
            print("done" if isinstance(outcome, Done) else "failed", outcome.partition.number, flush=True)
    except BackhaulError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""pandas stays out of processes that have no use for it, and in the others' way of nothing."""

from __future__ import annotations

import subprocess
import sys


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pyarrow_works_without_importing_pandas_which_can_still_be_imported() -> None:
    program = (
        "import sys; from jobs.no_pandas import spare_pandas; spare_pandas()\n"
        "import pyarrow as pa\n"
        "assert pa.table({'a': [1, 2]})['a'].to_numpy().tolist() == [1, 2] and 'pandas' not in sys.modules\n"
        "import pandas; print(pandas.Series([3])[0])"
    )
    assert _run(program) == "3"


def test_who_has_imported_pandas_keeps_it() -> None:
    program = (
        "import pandas, pyarrow as pa; from jobs.no_pandas import spare_pandas; spare_pandas()\n"
        "print(pa.table({'a': [1]}).to_pandas()['a'][0])"
    )
    assert _run(program) == "1"

"""Session fixtures live in tests/fixtures, one real part each."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

pytest_plugins = ["tests.fixtures.opensearch", "tests.fixtures.s3"]

"""What a refusal means for the one who sent a request. Knows no service."""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    BACK_OFF = "wait and send the same again"
    SHRINK = "wait and send less at once"
    REJECT = "this document will never be taken; the others may"
    STOP = "waiting is futile"

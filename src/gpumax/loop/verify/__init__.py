"""Rules that no decision breaks, checked by code that knows the rules of policy.md and not the policy."""

from __future__ import annotations

from gpumax.loop.verify.check import verify
from gpumax.loop.verify.known import Known
from gpumax.loop.verify.sound import sound
from gpumax.loop.verify.violation import Violation

__all__ = ["Known", "Violation", "sound", "verify"]

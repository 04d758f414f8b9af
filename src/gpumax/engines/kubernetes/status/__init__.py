"""What our own objects are told of themselves: queues what they may hold and hold, gangs how far they have come, and both what is wrong."""

from gpumax.engines.kubernetes.status.keeper import Keeper, Shown

__all__ = ["Keeper", "Shown"]

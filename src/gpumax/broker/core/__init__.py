"""What the broker decides: events in, orders out. It sees no clock, chance, disk or network; `now` comes with each event,
in nanoseconds. Memory is in bytes, shares are in thousandths of a device's time.
"""

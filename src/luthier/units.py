"""Numbers as people read them: bytes, durations, counts, rates."""

KIB, MIB, GIB = 2**10, 2**20, 2**30


def format_bytes(num_bytes: float) -> str:
    """Bytes with a binary unit, three digits: `1.25 GiB`."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(num_bytes) >= size:
            return (
                f"{num_bytes / size:.3g} {unit}"
                if num_bytes / size < 1000
                else f"{num_bytes / size:,.0f} {unit}"
            )
    return f"{num_bytes:.0f} B"


def format_duration(seconds: float) -> str:
    """Seconds as `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min` or `3 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def format_count(number: float) -> str:
    """A count with a unit letter: `950`, `12.3k`, `56.2M`, `7.62B`."""
    for letter, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:  # 999.9M would be written 1e+03M
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def format_rate(tokens_per_s: float) -> str:
    """Tokens per second: `1,234 tok/s`."""
    return f"{tokens_per_s:,.0f} tok/s"

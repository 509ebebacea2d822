"""Conditions: clocks, temperature, cores and delegates that the device reported while it was measured."""

from collections.abc import Sequence

from fbagents.agent.cores import has_words
from fbprof.journal.journal import JournalContent


def device_words(model: str | None, soc: str | None) -> str:
    """Return which device it is, as far as it tells: its maker's name for it and its processor, each once."""
    return ", ".join(dict.fromkeys(filter(None, [model, soc])))


def clocks_ghz(content: JournalContent) -> list[float]:
    """Return every clock that was read after a visit, of the core that made it."""
    visits = [record.visit.freq_khz for record in content.visits if record.visit.freq_khz is not None]
    return [khz / 1e6 for khz in visits]


def temperatures_c(content: JournalContent) -> list[float]:
    """Return the hottest zone of every state that has temperatures, in order of time."""
    return [max(state.temperature_c.values()) for state in content.states if state.temperature_c]


def affinities(content: JournalContent) -> list[tuple[int, ...]]:
    """Return the different sets of cores that the agent was allowed to run on, in order of time."""
    return list(dict.fromkeys(state.affinity for state in content.states if state.affinity is not None))


def describe_conditions(content: JournalContent) -> str:
    """Return the conditions in words; what the device does not report is called not readable, or denied."""
    denied = {name for state in content.states for name in state.denied}
    cores = " then ".join(",".join(map(str, affinity)) for affinity in affinities(content))
    asked = content.start.identity["cores"]
    word = f" ({asked})" if has_words(asked) else ""
    overheads_ns = [ns for session in content.sessions if (ns := session.hello.overhead_ns) is not None]
    overhead = f"{max(overheads_ns) / 1e3:.2f} µs per sample" if overheads_ns else "not told"
    sessions = len(content.sessions)
    return ", ".join(
        [
            _range("clock", clocks_ghz(content), "GHz", 2, "freq_khz" in denied),
            _range("temperature", temperatures_c(content), "°C", 1, "temperature_c" in denied),
            f"cores allowed {cores}{word}" if cores else f"affinity not readable{word}",
            f"agent overhead {overhead}",
            f"{sessions} session{'s' * (sessions != 1)}",
        ]
    )


def _range(name: str, values: Sequence[float], unit: str, digits: int, is_denied: bool) -> str:
    if not values:
        return f"{name} {'denied' if is_denied else 'not readable'}"
    return f"{name} {min(values):.{digits}f} to {max(values):.{digits}f} {unit}"


def describe_delegates(content: JournalContent, key: str) -> str:
    """Describe a model's delegates; empty where one ran all of it in every session, or none was reported."""
    reported = list(content.delegates.get(key, ()))
    if len(reported) < 2 and all(delegate.extent == "completely" for delegates in reported for delegate in delegates):
        return ""
    return "; in another session: ".join(", ".join(map(str, delegates)) or "no delegate" for delegates in reported)


def without_delegate(content: JournalContent, key: str) -> bool:
    """Return whether no delegate ran any of a model in some session although one was asked for; XNNPACK is the CPU."""
    extents = [[d.extent for d in found if d.name.lower() != "xnnpack"] for found in content.delegates.get(key, ())]
    return any(found and set(found) <= {"not", "untold"} for found in extents)

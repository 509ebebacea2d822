"""Delegates: which models a delegate runs only in part, or not at all, as the agent reported when it loaded them."""

from fbprof.journal.journal import JournalContent


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

"""Delegates: which models a delegate runs only in part, or not at all, as the agent told when it loaded them."""

from fbprof.journal.journal import JournalContent


def describe_delegates(content: JournalContent, key: str) -> str:
    """Return what was told of a model's delegates, empty where one runs all of it and always did, or none was told."""
    told = list(content.delegates.get(key, ()))
    if len(told) < 2 and all(delegate.extent == "completely" for delegates in told for delegate in delegates):
        return ""
    return "; in another session: ".join(", ".join(map(str, delegates)) or "no delegate" for delegates in told)


def without_delegate(content: JournalContent, key: str) -> bool:
    """Return whether no delegate ran any of a model in some session although one was asked for; XNNPACK is the CPU."""
    told = [[d.extent for d in found if d.name.lower() != "xnnpack"] for found in content.delegates.get(key, ())]
    return any(extents and set(extents) <= {"not", "untold"} for extents in told)

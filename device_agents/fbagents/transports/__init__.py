"""One file per way to reach a device; each holds one class that derives from `Transport`."""

from fbagents.transport import Transport
from fbbase.plugins import Plugins

TRANSPORTS = Plugins("transport", "fbagents.transports", base=Transport)

"""Everything, for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fblut.views import Section, View


class Json(View):
    """The values as JSON."""

    def render(self, title: str, sections: Sequence[Section], values: Mapping[str, Any]) -> str:
        """Return an object."""
        return json.dumps(values, indent=2)

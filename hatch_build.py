"""Build hook: a wheel also contains what a clone has in its root; see `detectime/paths.py`."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TEMPLATES = ("config.yml", "data/sample", "definitions.py", "notebooks")
"""Files and folders that go into ``detectime/templates``."""


class TemplatesHook(BuildHookInterface[Any]):
    """Adds the templates to a wheel. An editable install finds them in the clone: a copy of them would go stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the templates, unless the build is for an editable install."""
        if version == "standard":
            build_data["force_include"].update({name: f"detectime/templates/{name}" for name in TEMPLATES})

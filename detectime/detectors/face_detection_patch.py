"""What detectime does to another library when it is imported: the one exception to "an import changes nothing".

Notebooks of 2021 call ``face_detection.build_detector`` themselves, and face-detection 0.2.2 does not work on today's
NumPy, nor does it find its weights. So it is mended wherever detectime is imported beside it, whichever comes first.
Neither face_detection nor torch is imported by this.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NAME = "face_detection"


class _Finder(MetaPathFinder):
    """Lets the other finders find face_detection, and has it mended once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_mend(module: ModuleType) -> None:
                execute(module)
                _mend()

            loader.exec_module = execute_and_mend
        return spec


def install_patch() -> None:
    """Have face_detection mended: now if it is loaded, otherwise when it will be."""
    if _NAME in sys.modules:
        _mend()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _mend() -> None:
    from detectime.detectors.face_detection import patch_library

    patch_library()

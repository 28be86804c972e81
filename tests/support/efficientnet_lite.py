"""EfficientNet-Lite0 with its ImageNet weights, as the tutorials on the site load it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "efficientnet_lite0"
_FILE = Path(__file__).parents[2] / "examples" / f"{_NAME}.py"
_found = importlib.util.spec_from_file_location(_NAME, _FILE)
assert _found is not None
assert _found.loader is not None
_module = sys.modules[_NAME] = importlib.util.module_from_spec(_found)
_found.loader.exec_module(_module)

efficientnet_lite0 = _module.efficientnet_lite0
preprocess = _module.preprocess

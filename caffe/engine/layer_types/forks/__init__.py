"""Layer types that the SSD branch of Caffe does not have: those of other forks, and of Caffe itself after SSD left it.

Each file says whose its layers are. Values, gradients, defaults and corner cases are those of that fork; where it
leaves a case undefined, the file says what was chosen. Importing this package registers them all.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

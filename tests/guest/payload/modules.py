"""Imports every module of the standard library. Each line it prints is `missing NAME: why`, the last one `done`."""

import contextlib
import io
import sys
import warnings

warnings.simplefilter("ignore")
with open("/mnt/apk/assets/modules.txt") as file:
    names = file.read().split()
for name in sorted(sys.stdlib_module_names | set(names)):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            __import__(name)
        except BaseException as error:  # noqa: BLE001
            print(f"missing {name}: {error!r}", file=sys.stderr)
print("done")

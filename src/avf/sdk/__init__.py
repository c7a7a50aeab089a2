"""What a developer of native payloads compiles against: the headers of libvm_payload.so.

`python -m avf.sdk --cflags --libs` prints the compiler's options; `avf-payload.pc` has the same for pkg-config.
"""

from .flags import INCLUDE, cflags, libs

__all__ = ["INCLUDE", "cflags", "libs"]

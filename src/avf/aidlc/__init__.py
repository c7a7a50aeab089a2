"""The AIDL compiler `avf-aidl`: .aidl files in, typed Python for `avf.binder` out.

lexer, parser    characters to a syntax tree (`tree`)
world, resolver  names to types; `constants` computes, `annotations` and `analysis` check; the result is a `model`
names, docs      how things are called in Python, and what is said about them
plan             which module and class everything becomes, and what there is a default for
writer           the model to Python, one module per AIDL type: `spelling`, `layout`; `package` binds them together
compiler         all of these in turn, without touching files; `files` and `main` touch them
"""

from .compiler import compile_sources
from .errors import AidlError, Diagnostic, Place
from .plan import Modules, Options
from .source import Source, Span
from .world import Loader

__all__ = [
    "AidlError",
    "Diagnostic",
    "Loader",
    "Modules",
    "Options",
    "Place",
    "Source",
    "Span",
    "compile_sources",
]

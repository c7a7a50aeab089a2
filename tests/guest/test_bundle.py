"""The agent's modules out of one file, and expressions that are compiled beforehand."""

import marshal
import subprocess
import sys
from pathlib import Path

from avf.guest import bundle

SCRIPT = """
import sys
bundle = {"__name__": "avf_bundle"}
exec(open(sys.argv[1]).read(), bundle)
bundle["install"](sys.argv[2])
assert "collections" not in sys.modules
import collections
known = collections.namedtuple("Known", "one two")
other = collections.namedtuple("Other", "one two three")
print(known(1, 2), other(1, 2, 3), known.__new__.__defaults__, collections.eval.__self__ in sys.meta_path)
"""
KNOWN = "lambda _cls, one, two: _tuple_new(_cls, (one, two))"
SWAPPED = "lambda _cls, one, two: _tuple_new(_cls, (two, one))"


def test_expressions_of_collections_are_not_compiled_again(tmp_path: Path) -> None:
    import collections

    source = Path(collections.__file__).read_bytes()
    code = marshal.dumps(compile(source, "collections", "exec"))
    swapped = marshal.dumps(compile(SWAPPED, "<string>", "eval"))
    content = {"collections": (True, code)}, {KNOWN: swapped}
    path = tmp_path / "modules.bin"
    path.write_bytes(marshal.dumps(content))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, bundle.__file__, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(") ") == [
        "Known(one=2, two=1",
        "Other(one=1, two=2, three=3",
        "None True\n",
    ]

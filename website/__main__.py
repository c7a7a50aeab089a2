"""`python -m website [OUT]`: writes the site; every warning is an error."""

import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx_build

from website.stage import ROOT, stage


def build(output: Path) -> int:
    """Writes the pages to `output`, which may exist; 0, or what sphinx-build exits with."""
    sources = output.with_name(f"{output.name}-sources")
    stage(sources)
    options = ["-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-c", str(ROOT / "website")]
    return int(sphinx_build([*options, str(sources), str(output)]))


def main(arguments: list[str]) -> int:
    output = Path(arguments[0]) if arguments else ROOT / "build/site"
    status = build(output.absolute())
    if status == 0:
        print(f"The site is in {output}: open {output}/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

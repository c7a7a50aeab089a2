"""Which APEXes go into a VM, on a host that has APEXes.

They are listed by `apex-info-list.xml`, as apexd writes it: `$AVF_APEX_INFO`, else `/apex/apex-info-list.xml`. A host
without that file has none. `$AVF_STAGED_APEX_INFO` names a list of the same form with the updates that are staged.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from avf import settings
from avf.causes import words
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.opening import open_regular

DEFAULT_LIST = Path("/apex/apex-info-list.xml")
DERIVE_CLASSPATH = Path("/apex/com.android.sdkext/bin/derive_classpath")
MAX_LIST_SIZE = 4 << 20
MAX_APEXES = 1024
"""In a list; Android has some 70."""
MAX_OUTPUT = 1 << 20
CLASSPATH = "{CLASSPATH}"
"""In a payload configuration: every active APEX with a jar on a class path."""
ALWAYS_REQUIRED = frozenset({"com.android.os.statsd"})
REQUIRED_TO_DEBUG = frozenset({"com.android.adbd"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApexInfo:
    name: str
    version: int = 0
    path: str = ""
    has_classpath_jar: bool = False
    last_update_seconds: int = 0
    is_factory: bool = False
    is_active: bool = False
    provides_shared_libs: bool = False


def select_apexes(
    wanted: Collection[str], *, debuggable: bool, with_staged: bool = False
) -> list[ApexInfo]:
    """What a VM gets, in the order of its partitions.

    Raises VirtmgrError if a list cannot be read, or if the host has no APEXes and some are wanted.
    """
    path = settings.apex_info() or DEFAULT_LIST
    if not path.exists():
        if wanted:
            raise VirtmgrError(
                f"the payload config asks for {', '.join(wanted)},"
                f" and this host has no APEXes ({path} does not exist)"
            )
        return []
    with_jar = classpath_apexes()
    found = load_list(path, with_jar)
    staged_list = settings.staged_apex_info()
    if with_staged and staged_list:
        for staged in load_list(staged_list, with_jar):
            found = prefer_staged(found, staged)
    # Not by path: it differs between boots that should give the same instance.
    return sorted(
        collect(found, wanted, debuggable=debuggable),
        key=lambda apex: (apex.name, apex.version, apex.last_update_seconds),
    )


def collect(
    found: Iterable[ApexInfo], wanted: Collection[str], *, debuggable: bool
) -> list[ApexInfo]:
    """The wanted and the required ones that are active, and all that provide shared libraries; in the list's order."""
    required = ALWAYS_REQUIRED | (REQUIRED_TO_DEBUG if debuggable else frozenset())
    names = required | set(wanted)
    return [
        apex
        for apex in found
        if apex.provides_shared_libs
        or (
            apex.is_active
            and (apex.name in names or (CLASSPATH in names and apex.has_classpath_jar))
        )
    ]


def prefer_staged(found: Iterable[ApexInfo], staged: ApexInfo) -> list[ApexInfo]:
    """The list as it will be once `staged` is active. Raises VirtmgrError if its file is not there.

    An active entry that was also the factory's stays, inactive, at the end.
    """
    updated, former = [], []
    for apex in found:
        if apex.name == staged.name and apex.is_active:
            if apex.is_factory:
                former.append(replace(apex, is_active=False))
            apex = replace(
                apex,
                version=staged.version,
                path=staged.path,
                has_classpath_jar=staged.has_classpath_jar,
                last_update_seconds=_modified(staged.path),
                is_factory=False,
            )
        updated.append(apex)
    return updated + former


def _modified(path: str) -> int:
    try:
        return int(Path(path).stat().st_mtime)
    except (OSError, ValueError) as e:
        raise VirtmgrError(f"staged APEX {path}: {words(e)}") from e


def load_list(path: Path, with_classpath_jar: Collection[str]) -> list[ApexInfo]:
    """Reads the list. Raises VirtmgrError, naming the file and the attribute."""
    try:
        with open(open_regular(path, "the list of APEXes"), "rb") as file:
            text = file.read(MAX_LIST_SIZE + 1)
    except OSError as e:
        raise VirtmgrError(f"{path}: {words(e)}") from e
    if len(text) > MAX_LIST_SIZE:
        raise VirtmgrError(f"{path}: larger than {MAX_LIST_SIZE} bytes")
    return [_info(path, found, with_classpath_jar) for found in _attributes(path, text)]


def _attributes(path: Path, text: bytes) -> list[dict[str, str]]:
    """The attributes of every apex-info element. Nothing else of the document is kept, no entity is expanded."""
    from xml.parsers import expat

    found: list[dict[str, str]] = []

    def element(name: str, attributes: dict[str, str]) -> None:
        if name != "apex-info":
            return
        if len(found) == MAX_APEXES:
            raise VirtmgrError(f"{path}: more than {MAX_APEXES} APEXes")
        found.append(attributes)

    def doctype(*_about: object) -> None:
        raise VirtmgrError(f"{path}: a document type is not allowed")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as e:
        raise VirtmgrError(f"{path}: {e}") from e
    return found


def _info(path: Path, found: dict[str, str], with_jar: Collection[str]) -> ApexInfo:
    name = _attribute(path, found, "moduleName")
    return ApexInfo(
        name=name,
        version=_number(path, found, "versionCode"),
        path=_attribute(path, found, "modulePath"),
        has_classpath_jar=name in with_jar,
        last_update_seconds=_number(
            path, found, "lastUpdateMillis"
        ),  # seconds, in spite of its name
        is_factory=found.get("isFactory") == "true",
        is_active=found.get("isActive") == "true",
        provides_shared_libs=found.get("provideSharedApexLibs") == "true",
    )


def _attribute(path: Path, found: dict[str, str], name: str) -> str:
    value = found.get(name)
    if not value:
        raise VirtmgrError(f"{path}: an apex-info has no {name}")
    return value


def _number(path: Path, found: dict[str, str], name: str) -> int:
    value = found.get(name, "0")
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise VirtmgrError(f"{path}: {name}: {value[:32]!r} is not a number")
    return int(value)


def classpath_apexes() -> set[str]:
    """The APEXes with jars on a class path, as derive_classpath tells; none where that program is not."""
    if not DERIVE_CLASSPATH.exists():
        return set()
    import subprocess

    try:
        done = subprocess.run(
            [DERIVE_CLASSPATH, "/proc/self/fd/1"], capture_output=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise VirtmgrError(f"{DERIVE_CLASSPATH}: {words(e)}") from e
    return names_in_classpath(done.stdout[:MAX_OUTPUT].decode(errors="replace"))


def names_in_classpath(exports: str) -> set[str]:
    """The APEXes named by lines `export VARIABLE /apex/NAME/...:/apex/...`; other lines are passed over."""
    names = set()
    for line in exports.splitlines():
        words = line.split(" ")
        if len(words) != 3 or words[0] != "export":
            log.warning("malformed class path: %r", line[:200])
            continue
        for path in words[2].split(":"):
            if path.startswith("/apex/"):
                name, slash, _ = path.removeprefix("/apex/").partition("/")
                if slash and name:
                    names.add(name)
    return names

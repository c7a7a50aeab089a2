"""Makes one template for VMs of the guest image, then ends.

    python -m avf.virtmgr.template_builder [--debug none|full] [--memory MIB] [--cpu-topology one_cpu|match_host]
                                           [--system] [--nice]

--system: for all users of this host, which is up to root. --nice: behind everybody else, but not for ever. Of several
that are started at once for the same store one does its work.
"""

import os
import sys

from avf import facts, settings
from avf.arguments import ArgumentParser
from avf.printable import printable
from avf.virtmgr.app_config import image_machine, require_memory
from avf.virtmgr.errors import VirtmgrError, full_chain
from avf.virtmgr.fds import Fds
from avf.virtmgr.kind import CloneKind
from avf.virtmgr.warm import TEMPLATES, failure_key, kind_spec
from avf.vmm import (
    Qemu,
    TemplateError,
    TemplateLate,
    TemplateStore,
    VmmError,
    VmSpec,
    make_template,
    system_templates,
    user_templates,
)

_FAILED = 1
_NICENESS = 10
"""Of this process and all that it starts: a tenth of a processor where others want all of it."""


def main(words: list[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    if arguments.nice:
        os.nice(_NICENESS)
    store = system_templates() if arguments.system else user_templates()
    fds = Fds()
    try:
        settings.check()
        kind = CloneKind(
            arguments.debug == "full", arguments.memory, arguments.cpu_topology == "match_host"
        )
        machine = image_machine(kind.debug_level, fds)
        if machine.templates != TEMPLATES:
            raise VirtmgrError("this guest image can be no template")
        if arguments.memory:
            machine.memory_mib = arguments.memory
            require_memory(machine)
        spec = kind_spec(kind, machine)
        print(build(Qemu(), spec, store))
    except (VirtmgrError, VmmError, settings.SettingError, OSError) as error:
        print(f"{printable(full_chain(error))}", file=sys.stderr)
        return _FAILED
    finally:
        fds.close()
    return 0


def build(qemu: Qemu, spec: VmSpec, store: TemplateStore) -> str:
    """What was done, for people. Raises TemplateError, VmmError or OSError, which is remembered."""
    key = qemu.template_key(spec)
    if key is None:
        raise TemplateError("such a VM can have no template")
    if _is_there(store, key):
        return f"template {key} is there"
    with store.lock() as ours:
        if not ours:
            return f"somebody else makes a template in {store.folder}"
        try:
            store.add(key, lambda state: make_template(qemu, spec, state))
        except TemplateLate:
            raise
        except (VmmError, OSError) as error:
            facts.remember(failure_key(key), str(error))
            raise
    return f"template {key} was made"


def _is_there(store: TemplateStore, key: str) -> bool:
    try:
        opened = store.open(key)
    except TemplateError:
        return False  # it is made anew
    if opened is None:
        return False
    os.close(opened[0])
    return True


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="template_builder", allow_abbrev=False)
    parser.add_argument("--debug", choices=("none", "full"), default="none")
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--cpu-topology", choices=("one_cpu", "match_host"), default="one_cpu")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--nice", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())

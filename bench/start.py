"""What starting the programs costs, beside `python -c pass`, all of them in turn; their bytecode is there.

virtmgr.start_s                      spawn to ready, median
virtmgr.start.vs_python              ratio to `python -c pass`
virtmgr.first_vm.vs_python           spawn to the answer of createVm: all is loaded then that a VM takes
virtualizationservice.start.vs_python  spawn to ready
vm.help.vs_python                    `vm --help`, spawn to end
vm.list.vs_python                    `vm list`: a client, its virtmgr and a service that runs already
virtmgr.rss_mib                      resident memory when idle, everything loaded
virtualizationservice.rss_mib        resident memory when idle
"""

import compileall
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import avf
from avf.aidl.virtualizationservice import IVirtualizationService
from avf.binder import FdMode, bootstrap, connect
from avf.client import AppConfig
from avf.client import connect as connect_client
from bench._programs import (
    in_turn,
    own_service,
    own_virtmgr,
    python_start,
    ratio,
    resident_mib,
    seconds_of,
)
from bench.vm import prepare_app

ROUNDS = 9


def run() -> dict[str, float]:
    compileall.compile_dir(Path(avf.__file__).parent, quiet=2)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["AVF_RUNTIME_DIR"] = str(folder)
        service = stack.enter_context(own_service(folder))
        client = stack.enter_context(connect_client())
        app = prepare_app(client, folder)
        with client.create_vm(app):
            virtmgr_mib = resident_mib(client.pid)
        python, virtmgr, first_vm, other, shown, listed = in_turn(
            ROUNDS,
            python_start,
            _virtmgr_start,
            lambda: _first_vm(app),
            _service_start,
            lambda: seconds_of(sys.executable, "-P", "-m", "avf.cli", "--help"),
            lambda: seconds_of(sys.executable, "-P", "-m", "avf.cli", "list"),
        )
        return {
            "virtmgr.start_s": median(virtmgr),
            "virtmgr.start.vs_python": ratio(virtmgr, python),
            "virtmgr.first_vm.vs_python": ratio(first_vm, python),
            "virtmgr.rss_mib": virtmgr_mib,
            "virtualizationservice.start.vs_python": ratio(other, python),
            "virtualizationservice.rss_mib": resident_mib(service.pid),
            "vm.help.vs_python": ratio(shown, python),
            "vm.list.vs_python": ratio(listed, python),
        }


def _virtmgr_start() -> float:
    begin = time.perf_counter()
    with own_virtmgr():
        return time.perf_counter() - begin


def _first_vm(app: AppConfig) -> float:
    begin = time.perf_counter()
    with (
        own_virtmgr() as (_, socket),
        connect(bootstrap(socket), fd_mode=FdMode.UNIX, timeout=30) as session,
        app.open() as config,
    ):
        session.get_root(IVirtualizationService).create_vm(config, None, None)
        return time.perf_counter() - begin


def _service_start() -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with own_service(Path(folder)):
            return time.perf_counter() - begin

"""`vm run-app --name`: a VM that is kept in the store, made the first time and run again the next."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import structs

from avf.binder import BinderError
from avf.cli.app_source import App
from avf.cli.options import AppOptions
from avf.cli.text import CliError, NotCreated
from avf.client import AppConfig, ClientError, VirtualizationService, VmStateError
from avf.client.store import OWN_APK, StoredConfig, StoredVm, VmStore


@contextmanager
def kept_vm(
    connection: VirtualizationService,
    app: App,
    options: AppOptions,
    extra_apks: tuple[Path, ...] | list[Path],
) -> Iterator[AppConfig]:
    """What to make the VM of, which is held as long as the context. Raises CliError.

    If no VM can be made of it, the store is as it was before: what was wrong is not kept for the next time.
    """
    name = options["name"] or ""
    _check_name(name)
    if options["storage"] is not None:
        raise CliError(
            "--storage does not go with a VM that is kept",
            "--storage-size alone gives it storage of its own; with INSTANCE it is not kept",
        )
    with store_errors(name):
        store = VmStore()
        vm = store.get(name)
        before = None if vm is None else vm.config
        wanted = _wanted(app, options, extra_apks, before)
        if vm is None:
            vm = store.create(name, wanted)
        else:
            _check_same(vm, wanted)
            vm.set_config(wanted)
    is_prepared = False
    try:
        with held_vm(connection, vm, app.apk if app.is_source else None) as config:
            is_prepared = True
            yield config
    except CliError as error:
        if not is_prepared or isinstance(error, NotCreated):
            _go_back(vm, before)
        raise


def _go_back(vm: StoredVm, before: StoredConfig | None) -> None:
    """Storage that has grown stays as large."""
    with suppress(ClientError, OSError):
        if before is None:
            vm.delete()
        else:
            size = vm.config.encrypted_storage_size
            vm.set_config(structs.replace(before, encrypted_storage_size=size))


@contextmanager
def held_vm(
    connection: VirtualizationService, vm: StoredVm, apk: Path | None = None
) -> Iterator[AppConfig]:
    """As `StoredVm.held`, its errors told in the command's words."""
    held = vm.held(connection, apk=apk)
    with store_errors(vm.name):
        config = held.__enter__()
    try:
        yield config
    finally:
        held.__exit__(None, None, None)


@contextmanager
def store_errors(name: str) -> Iterator[None]:
    """What the store refuses becomes an error of the command."""
    try:
        yield
    except VmStateError as error:
        vm = VmStore().get(name)
        if vm is None or not vm.running:
            raise CliError(str(error)) from None
        raise CliError(f"VM {name} runs already", f"`vm stop {name}` stops it.") from None
    except BinderError as error:
        raise CliError(f"Failed to prepare VM {name}") from error
    except OSError as error:
        raise CliError(f"Failed to change the files of VM {name}") from error
    except ClientError as error:
        raise CliError(str(error)) from error.__cause__


def _check_name(name: str) -> None:
    if name.isdecimal():
        raise CliError(f"{name} cannot be the name of a VM that is kept: it looks like a CID")


def _wanted(
    app: App,
    options: AppOptions,
    extra_apks: tuple[Path, ...] | list[Path],
    before: StoredConfig | None,
) -> StoredConfig:
    """What is not said stays as it was."""
    debug = options["debug"]
    debuggable = debug == "full" if debug else before.debuggable if before else app.is_source
    storage = options["storage_size"] or (before.encrypted_storage_size if before else 0)
    return StoredConfig(
        apk=OWN_APK if app.is_source else str(app.apk.absolute()),
        payload_binary_name=app.binary,
        config_path=app.config_path,
        extra_apks=tuple(str(path.absolute()) for path in extra_apks),
        debuggable=debuggable,
        protected=options["protected"],
        encrypted_storage_size=storage,
        memory_mib=options["mem"] or (before.memory_mib if before else None),
        match_host_cpus=options["cpu_topology"] == "match_host",
    )


def _check_same(vm: StoredVm, wanted: StoredConfig) -> None:
    """Raises CliError: a name stands for one VM, whose secrets no other gets."""
    before = vm.config
    if (field := before.incompatibility(wanted)) is None:
        return
    old, new = getattr(before, field), getattr(wanted, field)
    raise CliError(
        f"VM {vm.name} is another one: its {field} is {old}, not {new}",
        f"choose another name; `vm rm {vm.name}` removes the VM and its data",
    )

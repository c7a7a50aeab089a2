"""`vm template`: what VMs of the guest image begin as clones of."""

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from avf.cli.paths import FOLDER
from avf.cli.sizes import Size
from avf.cli.text import CliError
from avf.printable import printable
from avf.printing import printable_json
from avf.vmm import StoredTemplate, TemplateError, TemplateStore, system_templates, user_templates

_BUILDER = "avf.virtmgr.template_builder"
_SHOWN = 12
_MIB = 1 << 20


@click.group(epilog="Example:  vm template build --debug full")
def template() -> None:
    """Make, list and remove templates: booted guests that VMs begin as clones of."""


@template.command()
@click.option("--debug", type=click.Choice(["none", "full", "both"]), default="both", show_default=True,
              help="For VMs that cannot be looked into, or can.")  # fmt: skip
@click.option("-m", "--mem", type=Size("m", minimum=1, maximum=(1 << 31) - 1), metavar="SIZE",
              help="Memory of those VMs, in MiB or as in 512M and 2G.  [default: what the image asks for]")  # fmt: skip
@click.option("--cpu-topology", type=click.Choice(["one_cpu", "match_host"]), default="one_cpu",
              show_default=True, help="How many CPUs those VMs have.")  # fmt: skip
@click.option("--image", type=FOLDER, help="Folder of the guest image (microdroid.json).")
@click.option("--system", is_flag=True, help="For all users of this host; only root can.")
def build(debug: str, mem: int | None, cpu_topology: str, image: Path | None, system: bool) -> None:
    """Make templates now, instead of after the first VM that lacks one."""
    command = [sys.executable, "-P", "-m", _BUILDER, "--cpu-topology", cpu_topology]
    command += [] if mem is None else ["--memory", str(mem)]
    command += ["--system"] if system else []
    variables = dict(os.environ)
    if image is not None:
        variables["AVF_IMAGE_DIR"] = str(image.absolute())
    for level in ("none", "full") if debug == "both" else (debug,):
        done = subprocess.run(
            [*command, "--debug", level],
            env=variables,
            check=False,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise CliError(done.stderr.strip() or f"it ended with status {done.returncode}")
        click.echo(done.stderr, err=True, nl=False)


@template.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
def list_templates(as_json: bool) -> None:
    """List your templates and the host's, the one used last first, and say why one is not used."""
    rows = [_row(store, found) for store in _stores() for found in _all(store)]
    if as_json:
        click.echo(printable_json(rows, indent=2))
        return
    for row in rows:
        click.echo(printable(_line(row)))


@template.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--all", "everything", is_flag=True, help="All that you may remove.")
def rm(keys: tuple[str, ...], everything: bool) -> None:
    """Remove templates, by the beginning of their keys. VMs that began as clones of one live on."""
    if bool(keys) == everything:
        raise CliError("name the templates to remove, or say --all")
    ours = [store for store in _stores() if store.is_ours]
    known = [(store, found.key) for store in ours for found in _all(store)]
    for wanted in keys:
        if not any(key.startswith(wanted) for _, key in known):
            raise CliError(f"none of your templates begins with {wanted}")
    for store, key in known:
        if everything or key.startswith(keys):
            try:
                store.remove(key)
            except TemplateError as error:
                raise CliError(str(error)) from error
            click.echo(key)


def _stores() -> tuple[TemplateStore, TemplateStore]:
    return user_templates(), system_templates()


def _all(store: TemplateStore) -> list[StoredTemplate]:
    try:
        return store.list()
    except TemplateError as error:
        raise CliError(str(error)) from error


def _row(store: TemplateStore, found: StoredTemplate) -> dict[str, object]:
    facts = found.facts
    return {
        "key": found.key,
        "folder": str(store.folder),
        "size": found.size,
        "used_at": found.used_at,
        "made_at": facts and facts.made_at,
        "memory_mib": facts and facts.memory_mib,
        "cpus": facts and facts.cpus,
        "vmm": facts and facts.vmm,
        "problem": found.problem,
    }


def _line(row: dict[str, object]) -> str:
    if row["problem"] is not None:
        return f"{row['key']:.{_SHOWN}}  not used: {row['problem']}"
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(str(row["used_at"]))))
    size = int(str(row["size"])) / _MIB
    return (
        f"{row['key']:.{_SHOWN}}  {size:6.1f} MiB, used {used}, for {row['memory_mib']} MiB and"
        f" {row['cpus']} CPUs, in {row['folder']}"
    )

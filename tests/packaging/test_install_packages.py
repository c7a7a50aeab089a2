"""`packaging/install-packages`, among programs that only write down how they were called."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "install-packages"
DPKG_QUERY = """
shift 3
for package; do
    case " $LACKING " in
        *" $package "*) ;;
        *) printf 'installed=%s ' "$package" ;;
    esac
done
[ -z "$LACKING" ]
"""


@dataclass
class Host:
    programs: Path
    calls: Path

    def add(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{script}\n')
        path.chmod(0o755)

    def run(self, lacking: str = "", purpose: str = "run") -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(
            ["/bin/sh", SCRIPT, purpose],
            env={"PATH": str(self.programs), "LACKING": lacking},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def called(self, name: str) -> list[str]:
        calls = self.calls.read_text().splitlines()
        return [line.removeprefix(f"{name} ") for line in calls if line.startswith(f"{name} ")]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An ordinary user's, without sudo."""
    programs = tmp_path / "programs"
    programs.mkdir()
    found = Host(programs, tmp_path / "calls")
    found.add("dpkg-query", DPKG_QUERY)
    found.add("id", "echo 1000")
    found.add("apt-get", "")
    found.add("env", 'while [ "${1#*=}" != "$1" ]; do shift; done; "$@"')
    return found


def test_nobody_is_asked_when_everything_is_there(host: Host) -> None:
    host.add("sudo", "exit 1")
    done = host.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not host.called("sudo") and not host.called("apt-get")


@pytest.mark.parametrize("sudo", [None, "exit 1"], ids=["no sudo", "sudo wants a password"])
def test_what_is_missing_is_a_command_for_whoever_can_install(host: Host, sudo: str | None) -> None:
    if sudo:
        host.add("sudo", sudo)
    done = host.run(lacking="gcc erofs-utils")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "Debian packages are missing, and only root can install them. Type as root, then start again:",
        "  apt-get update && apt-get install --no-install-recommends gcc erofs-utils",
    ]
    assert not host.called("apt-get")


def test_sudo_installs_what_is_missing_and_no_more(host: Host) -> None:
    host.add("sudo", '[ "$1" = -n ] || "$@"')
    done = host.run(lacking="gcc")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Installing Debian packages: gcc\n"
    (call,) = host.called("apt-get")
    assert call.endswith("install -y --no-install-recommends gcc")


@pytest.mark.parametrize("purpose", ["check", "run", "test"])
def test_each_package_is_named_once(host: Host, purpose: str) -> None:
    done = host.run(lacking="python3 python3-venv util-linux", purpose=purpose)
    names = done.stderr.splitlines()[-1].partition("--no-install-recommends")[2].split()
    assert "python3-venv" in names
    assert len(names) == len(set(names))


def test_root_needs_no_sudo(host: Host) -> None:
    host.add("id", "echo 0")
    assert host.run(lacking="gcc").returncode == 0
    assert len(host.called("apt-get")) == 1


def test_package_lists_are_fetched_if_those_at_hand_will_not_do(host: Host) -> None:
    host.add("id", "echo 0")
    host.add("apt-get", f'case "$(/bin/cat {host.calls})" in *update*) ;; *) exit 100 ;; esac')
    assert host.run(lacking="gcc").returncode == 0
    assert [call.split()[3] for call in host.called("apt-get")] == ["install", "update", "install"]


def test_another_distribution_is_told_what_it_needs(host: Host) -> None:
    (host.programs / "dpkg-query").unlink()
    done = host.run()
    assert (done.returncode, done.stdout) == (0, "")
    assert "qemu-system-x86" in done.stderr and len(done.stderr.splitlines()) == 1

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

BUS = """
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
  </policy>
</busconfig>
"""

StartAuthority = Callable[..., None]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A system bus of the test's own; its address, in the environment too."""
    with tempfile.TemporaryDirectory(prefix="avf-bus-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "bus.conf").write_text(BUS.format(path=folder / "bus"))
        command = ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--print-address"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("unix:path=")
        address = f"unix:path={folder}/bus"
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield address


@pytest.fixture
def authority(bus: str) -> Iterator[StartAuthority]:
    """Starts a stand-in for polkit with the given rules."""
    with ExitStack() as stack:

        def start(*rules: str) -> None:
            command = [sys.executable, "-m", "tests.policy.authority", *rules]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

        yield start

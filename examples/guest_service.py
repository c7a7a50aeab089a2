"""Runs the sample payload `greeter.py` in a VM and calls its interface, as if it were an object of this program.

python examples/build_payload.py build/payload/sample.apk
python examples/guest_service.py build/payload/sample.apk you
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from avf.client import connect

sys.path.insert(0, str(Path(__file__).parent / "payload"))

from interfaces import IGreeter
from vsock_echo import prepare

PORT = 5679


def main(apk: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, connect() as service:
        config = replace(prepare(service, apk, Path(folder)), payload_binary_name="greeter.py")
        with service.create_vm(config, log=2) as vm:
            vm.start()
            vm.wait_until_ready(timeout=120)
            with vm.connect_service(PORT, IGreeter) as greeter:
                print(greeter.greet(name))
                greeter.quit()
            print("VM ended:", vm.wait_for_death(timeout=60))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])

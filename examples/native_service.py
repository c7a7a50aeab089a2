"""Runs the sample payload `libnotebook.so`, written in C, in a VM and calls its interface.

python examples/build_payload.py build/payload/sample.apk
python examples/native_service.py build/payload/sample.apk
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from avf.binder import RemoteException
from avf.client import connect

sys.path.insert(0, str(Path(__file__).parent / "payload"))

from interfaces import INotebook, Note
from vsock_echo import prepare

PORT = 5680


def use(notebook: INotebook) -> None:
    for title in ("milk", "bread and milk", "naïve 😀"):
        print(notebook.add(Note(title=title, body=title.encode())), title)
    print("milk is in", notebook.find("milk"))
    note = notebook.get(2)
    print("number 2 is", note and note.body.decode())
    print("number 7 is", notebook.get(7))
    try:
        notebook.add(Note(title="one more"))
    except RemoteException as error:
        assert error.service_specific == INotebook.ERROR_FULL
        print(error)


def main(apk: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, connect() as service:
        config = replace(prepare(service, apk, Path(folder)), payload_binary_name="libnotebook.so")
        with service.create_vm(config, log=2) as vm:
            vm.start()
            vm.wait_until_ready(timeout=120)
            with vm.connect_service(PORT, INotebook) as notebook:
                use(notebook)
                notebook.quit()
            print("VM ended:", vm.wait_for_death(timeout=60))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

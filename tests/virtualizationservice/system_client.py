"""A client on a host with the system service: `python -m tests.virtualizationservice.system_client APK FOLDER PAYLOAD`

Says what is listed while the VM exists, and how the VM died; or what it was refused with.
"""

import sys
from pathlib import Path

from avf.binder import RemoteException
from avf.client import connect
from tests.vm.conftest import prepare_app


def main(apk: Path, folder: Path, payload: str) -> None:
    with connect() as service:
        try:
            app = prepare_app(service, folder, apk)
            with service.create_vm(app.running(payload)) as vm:
                for info in service.debug_list_vms():
                    print(info.cid, info.temporary_directory, info.requester_uid)
                vm.start()
                print(vm.wait_for_death(300).name)
        except RemoteException as error:
            print(f"{error.code.name}: {error.message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

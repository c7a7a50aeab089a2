"""What a waiting guest makes up to rehearse with."""

import io
import os
import zipfile

from avf.guest.rehearsal import _archive
from avf.guest.ziptree import ZipTree


def test_the_archive_is_one() -> None:
    content = b"import os\n" * 999
    made = _archive("bin/payload.py", content)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        assert archive.read("bin/payload.py") == content


def test_a_guest_can_show_it() -> None:
    fd = os.memfd_create("archive")
    try:
        os.write(fd, _archive("bin/payload.py", b"x" * 5000))
        (file,) = ZipTree(fd, ("bin",)).files()
        assert file.is_stored
        assert file.mode & 0o100
    finally:
        os.close(fd)

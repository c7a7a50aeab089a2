"""A peer that means well: python -m tests.attack.binder_honest PATH

For each line on its standard input it opens a session, makes a call, and prints the sum that it got.
"""

import sys

from avf.binder import connect, unix
from tests.interop.echo import IEcho

for _ in sys.stdin:
    with connect(unix(sys.argv[1]), timeout=60) as session:
        print(session.get_root(IEcho).add_ints(2, 3), flush=True)

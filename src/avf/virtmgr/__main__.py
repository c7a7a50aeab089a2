"""`python -m avf.virtmgr`."""

import sys

from avf.virtmgr.main import main

sys.exit(main())

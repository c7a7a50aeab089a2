"""`python -m avf.aidlc`"""

import sys

from .main import main

sys.exit(main())

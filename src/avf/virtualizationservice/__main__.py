"""`python -m avf.virtualizationservice`."""

import sys

from avf.virtualizationservice.main import main

sys.exit(main())

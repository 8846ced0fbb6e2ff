#!/usr/bin/env python3
"""The developer's door: `dev.py setup | test | demo | fuzz | soak | lint | docs | build | lock | bench | release`.

Only the Python version is looked at here, so that an old interpreter, which could not parse the rest, still gets a
sentence instead of a syntax error. What the commands do is in devtools/.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "dev.py: certcast needs Python 3.11 or newer and this is "
        + sys.version.split()[0]
        + "; install a newer one (python.org, apt-get install python3, brew install python) and run dev.py with it\n"
    )
    sys.exit(2)

# The script's own folder is not on the path under PYTHONSAFEPATH.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from devtools.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

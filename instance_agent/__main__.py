"""`python -m instance_agent`."""

import sys

from shared.starting import imported

if __name__ == "__main__":
    sys.exit(imported("instance_agent.command").main())

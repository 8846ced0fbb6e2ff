"""How long each function may take, well under the host's own limit, at which the whole process ends with all in flight.

What is not done by then is not lost: an event's upload is looked at again by way of the queue, a message is seen again,
and a sweep leaves the rest to the next one. host.json has the host's limit (`functionTimeout`).
"""

from __future__ import annotations

EVENT_S = 25
"""An event: Event Grid takes no answer in 30 s for a failure (learn.microsoft.com, "Event Grid message delivery")."""
LOOK_S = 120
"""A look that the queue `certificate-recheck` asked for, where what takes long to judge waits for its turn."""
MESSAGE_S = 150
"""A message as a whole."""
ANSWER_S = 90
"""An answer of the status API; Azure's load balancer ends a request after 230 s."""
ITEM_S = 60
"""One thing of many in a sweep."""
SWEEP_S = 150
"""A sweep begins nothing more after that."""
STEPS_S = 30
"""Left at least for what a sweep does once it has read everything."""
SWEEP_ENDS_S = 240
"""A sweep that is still at something is ended there."""
GIVE_UP_S = 3
"""Leaving a note that a look was given up."""

"""Where a long run is done: on this machine's cores (:mod:`.local`)."""

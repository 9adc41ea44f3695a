"""Where a long run is done: on this machine's cores (:mod:`.local`), or on a cluster (:mod:`.ray`, :mod:`.arrow`)."""

"""Where rows go: single files (:mod:`.rows`), and folders of long runs (:mod:`.run`)."""

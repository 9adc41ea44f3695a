"""Where rows go: files (:mod:`.rows`) and folders of long runs (:mod:`.run`), here or behind URLs (:mod:`.store`)."""

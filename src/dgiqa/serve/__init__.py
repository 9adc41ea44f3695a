"""Scores over HTTP, and a page to drop pictures on. Extra ``dgiqa[serve]``.

    request ─front: keys, room, log→ body: limits ─→ workshop: queue, batches, threads ─Scorer→ rows

:mod:`.app` has the routes, :mod:`.front` what stands before all of them, :mod:`.body` how pictures are received,
:mod:`.workshop` how they are worked on, :mod:`.problems` what is said when something is wrong (RFC 9457). Scores are
those of the command line, to the last bit: the same :class:`dgiqa.Scorer` gives them.
"""

from __future__ import annotations

from dgiqa.serve.settings import Settings

__all__ = ["Settings"]

"""No-reference image quality assessment guided by scene depth.

    >>> import dgiqa
    >>> scorer = dgiqa.load()
    >>> scorer.score("photo.jpg").quality          # 0 to 100, higher is better
    >>> scorer.explain("photo.jpg").faults         # why: faults, maps, sharpness
    >>> for row in scorer.score_all(dgiqa.find(["pictures/"])):
    ...     print(row.path, row.ok)

After Ramesh et al., "DGIQA: Depth-guided Feature Attention and Refinement for Generalizable Image Quality
Assessment", arXiv:2505.24002.
"""

from dgiqa.cards import ModelCard
from dgiqa.errors import DgiqaError, ImageError, RunError
from dgiqa.explain import Explanation
from dgiqa.models import list_models
from dgiqa.scorer import Compared, Scorer, load
from dgiqa.sources import Found, find
from dgiqa.types import Failure, Image, Score

__version__ = "0.1.0"

__all__ = [
    "Compared",
    "DgiqaError",
    "Explanation",
    "Failure",
    "Found",
    "Image",
    "ImageError",
    "ModelCard",
    "RunError",
    "Score",
    "Scorer",
    "__version__",
    "find",
    "list_models",
    "load",
]

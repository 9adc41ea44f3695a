"""Two vectors of a picture: what a large multimodal model (LMM) makes of it while it is asked about its meaning.

    picture ─padded to a square─→ processor ─→ model ─last hidden state, mean over the sequence─→ a vector a prompt

Wang et al., arXiv:2404.17762; prompts, order and padding as the authors' code has them. Their model is mPLUG-Owl2, 7 B;
any chat model that sees, in the format of transformers, can take its place. It is read from the folder that the
environment's ``DGIQA_LMM`` names and never downloaded. Vectors are kept on disk by the contents of model and picture:
each picture is asked about once, and alone, so that no picture changes another's vectors.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from dgiqa.errors import RuntimeMissing, WeightsError
from dgiqa.types import Float32, UInt8
from dgiqa.weights.fetch import cache_folder
from dgiqa.weights.files import fingerprint

#: Semantic content, then coherence: the order of the vectors.
PROMPTS = (
    "Evaluate the input image to determine if its quality is compromised due to a lack of meaningful semantic content.",
    "Evaluate if the image quality is compromised due to violations of coherence.",
)
#: The environment's name of the model's folder.
FOLDER = "DGIQA_LMM"

Float16: TypeAlias = npt.NDArray[np.float16]

_OPENING = threading.Lock()


class LMM:
    """A large multimodal model in a folder, and the vectors of it that are kept on disk. Threads may share it.

    The model is loaded when a picture comes whose vectors aren't there.

    Attributes:
        fingerprint: 8 hex digits that change with any file of the folder.

    Raises:
        WeightsError: the folder holds no model.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise WeightsError(
                f"{folder}: holds no large multimodal model, there is no config.json",
                hint=f"{FOLDER} must name the folder of a model as transformers saves it",
            )
        self.folder = folder
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        self.fingerprint = fingerprint(*files)
        self._kept = cache_folder() / "lmm" / self.fingerprint
        self._loaded: tuple[Any, Any] | None = None
        self._asking = threading.Lock()

    def describe(self, pixels: UInt8, device: torch.device | str = "cpu") -> Float32:
        """(2, width) float32 that 16 bits hold, a row for each of PROMPTS.

        Args:
            pixels: (H, W, 3) uint8 sRGB, the whole picture.
            device: where the model runs.

        Raises:
            RuntimeMissing: transformers is not installed.
            WeightsError: the model can't be loaded or asked, or the vectors can't be kept.
        """
        file = self._file(pixels)
        vectors = _read(file)
        if vectors is None:
            with self._asking:
                vectors = _halve(self._ask(pixels, device), self.folder)
            _write(file, vectors)
        return vectors.astype(np.float32)

    def keep(self, pixels: UInt8, vectors: npt.ArrayLike) -> None:
        """Keeps (2, width) vectors that were made elsewhere, of a model that transformers can't load.

        Raises:
            WeightsError: they are no two rows of numbers that 16 bits hold, or can't be kept.
        """
        _write(self._file(pixels), _halve(np.asarray(vectors, np.float32), self.folder))

    def _file(self, pixels: UInt8) -> Path:
        found = hashlib.sha256(repr((PROMPTS, pixels.shape)).encode())
        found.update(np.ascontiguousarray(pixels).data)
        key = found.hexdigest()
        return self._kept / key[:2] / f"{key[2:]}.npy"

    @torch.inference_mode()
    def _ask(self, pixels: UInt8, device: torch.device | str) -> Float32:
        processor, model = self._load()
        model.to(device)
        square = PIL.Image.fromarray(pad(pixels, processor.image_processor.image_mean))
        rows = []
        try:
            for prompt in PROMPTS:
                content = [{"type": "text", "text": prompt}, {"type": "image"}]
                chat = [{"role": "user", "content": content}]
                text = processor.apply_chat_template(chat, add_generation_prompt=True)
                inputs = processor(text=text, images=square, return_tensors="pt").to(device, model.dtype)
                hidden = model(**inputs, output_hidden_states=True).hidden_states[-1]  # (1, sequence, width)
                rows.append(hidden[0].float().mean(0).cpu().numpy())
        except Exception as error:  # processors and models raise whatever they like
            raise WeightsError(
                f"{self.folder}: the model can't be asked about a picture ({_reason(error)})",
                hint="take a chat model that sees, with its processor and its chat template",
            ) from error
        return np.stack(rows)

    def _load(self) -> tuple[Any, Any]:
        """The processor and the model, in the precision in which they were saved."""
        if self._loaded is None:
            try:
                from transformers import AutoModelForImageTextToText, AutoProcessor
            except ImportError as error:
                raise RuntimeMissing(
                    "asking a large multimodal model needs transformers, which is not installed",
                    hint="pip install 'dgiqa[multimodal]'",
                ) from error
            offline = {"local_files_only": True, "trust_remote_code": False}
            try:
                processor = AutoProcessor.from_pretrained(self.folder, **offline)  # type: ignore[no-untyped-call]
                if not hasattr(processor, "image_processor"):
                    raise ValueError("its processor takes no pictures")
                model = AutoModelForImageTextToText.from_pretrained(
                    self.folder, dtype="auto", use_safetensors=True, **offline
                )
            except Exception as error:  # damaged and foreign folders can raise anything
                raise WeightsError(
                    f"{self.folder}: transformers can't load a chat model that sees from here ({_reason(error)})",
                    hint="take another model, or keep vectors that were made elsewhere: LMM.keep",
                ) from error
            self._loaded = processor, model  # in eval mode: transformers loads it so
        return self._loaded


def open_lmm() -> LMM:
    """The model in the folder that DGIQA_LMM names, one in a process.

    Raises:
        WeightsError: it names none, or no model.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        raise WeightsError(
            "ma_agiqa asks a large multimodal model about each picture, and none is named",
            hint=f"set {FOLDER} to the folder of the model that the weights were fitted to",
        )
    with _OPENING:  # a second thread waits, for a model may fill the memory
        return _opened(Path(folder).expanduser().resolve())


def pad(pixels: UInt8, mean: tuple[float, float, float] | None) -> UInt8:
    """A picture in the middle of a square of its longer side.

    Args:
        pixels: (H, W, 3) uint8.
        mean: colour of the rest, 0..1; grey where a processor knows none.

    Returns:
        (max(H, W), max(H, W), 3) uint8.
    """
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = [int(255 * value) for value in mean or (0.5, 0.5, 0.5)]
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


@functools.cache
def _opened(folder: Path) -> LMM:
    return LMM(folder)


def _halve(vectors: Float32, folder: Path) -> Float16:
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if half.ndim != 2 or len(half) != len(PROMPTS) or not np.isfinite(half).all():
        raise WeightsError(
            f"{folder}: {vectors.shape} values are no {len(PROMPTS)} vectors of numbers that 16 bits hold",
            hint="the model's weights are damaged, or it is no chat model that sees",
        )
    return half


def _read(file: Path) -> Float16 | None:
    """The vectors in a file; None if it is missing or damaged, for then they are made anew."""
    try:
        vectors: Float16 = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return vectors if vectors.dtype == np.float16 and vectors.ndim == 2 else None


def _write(file: Path, vectors: Float16) -> None:
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.save(out, vectors)
        os.replace(part, file)
    except OSError as error:
        raise WeightsError(
            f"{file}: can't be written ({error.strerror})", hint="set DGIQA_CACHE to a folder that you may write to"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it is gone, or there is no folder
            part.unlink()


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]

"""DeblurGenerator: a network with its configuration; loads, restores pictures, saves and publishes."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict, Unpack, cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import hub
from .config import LONGEST_NAME, MOST_MEGAPIXELS, GeneratorConfig
from .errors import ModelError
from .hub.golden_tensors import golden_of
from .hub.reading import build_configured as build
from .model_card import CARD_BEGIN, plain_card, with_tags
from .networks.base import Generator, Piece, Quality, Read, gathered, reflect, reflecting
from .networks.description import Description
from .networks.refined import RefinedMaximGenerator
from .networks.state import cast_floats, evaluating, place_weights, require_weight_dtype
from .networks.windows import WindowedGenerator
from .pictures import (
    Original,
    Samples,
    Strip,
    read_pages,
    read_samples,
    to_array,
    to_image,
    to_samples,
    write_pages,
)
from .restoration.crispness import blended, require_partners, require_share
from .restoration.quality import Choice, choose, require_quality, require_strength, seconds_for, step_of, with_strength
from .restoration.restore import Precision, device_and_dtype, dtype_for, require_budget, restore, restore_pieces
from .restoration.tiles import Progress, part_of
from .restoration.together import BATCH

log = logging.getLogger("deblur_hub")

Restorer = Callable[..., Iterator[Piece]]  # as `DeblurGenerator.restorer` says
AT_QUALITY = " at quality "  # between a model's name and the quality that it was given


class RestoreOptions(TypedDict, total=False):
    """How a picture is restored; `DeblurGenerator.deblur` explains each."""

    quality: str | None
    strength: float
    crispness: float
    tile: int | None
    precision: Precision
    memory_budget: float | None


class DeblurOptions(RestoreOptions, total=False):
    """The same, and what is accepted and told."""

    progress: Progress | None
    max_megapixels: float


class FileSteps(NamedTuple):
    """What `DeblurGenerator.deblur_file` does, in its three steps; threads may take them side by side."""

    read: Callable[[Path, Path], Iterator[tuple[int, int, Samples]]]  # `read_pages` of a source and a target
    restore: Callable[[Samples, Progress | None], np.ndarray]
    # The same of at most `BATCH` pictures of one size, none of them in CMYK.
    restore_together: Callable[[Sequence[Samples], Progress | None], list[np.ndarray]]
    write: Callable[[Iterator[tuple[np.ndarray, Original]], Path], None]  # restored pages into a target


class DeblurGenerator(nn.Module):
    """A deblurring generator.

        generator = DeblurGenerator.from_pretrained()
        sharp = generator.deblur(Image.open("photo.jpg"))

    Args:
        config: the architecture and its options.
        network: with weights; None builds one with random weights.

    Attributes:
        crisp: the model that `crispness` blends with, as `from_pretrained` takes it; None for the model's own partner.

    Raises:
        ModelError: for an unknown architecture or option, or a value out of range.
    """

    def __init__(self, config: GeneratorConfig, network: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = network if network is not None else build(config, config.name or config.architecture)
        self.crisp: str | os.PathLike[str] | None = None
        self._access: dict[str, Any] = {}  # how this one was fetched from the hub; its partner is fetched alike
        self._partner: tuple[str | os.PathLike[str], dict[str, Tensor]] | None = None  # with its weights

    def forward(self, blurred: Tensor) -> Tensor | list[Tensor]:
        """(N, 3, H, W) in [-1, 1] to the same, for any H and W; one pass, differentiable, in the tensor's own type.

        In training mode the output is not clipped to [-1, 1], since clipped values have no gradient, and a network of
        several scales returns the list of its outputs, coarse to fine.
        """
        restored = self.network(blurred)
        return cast(Tensor | list[Tensor], restored if self.training else restored.clamp(-1, 1))

    @overload
    def deblur(self, image: np.ndarray, **options: Unpack[DeblurOptions]) -> np.ndarray: ...

    @overload
    def deblur(
        self, image: Image.Image | str | os.PathLike[str] | bytes | BinaryIO, **options: Unpack[DeblurOptions]
    ) -> Image.Image: ...

    def deblur(
        self,
        image: np.ndarray | Image.Image | str | os.PathLike[str] | bytes | BinaryIO,
        *,
        max_megapixels: float = MOST_MEGAPIXELS,
        progress: Progress | None = None,
        **options: Unpack[RestoreOptions],
    ) -> np.ndarray | Image.Image:
        """Restores a picture, which keeps its size, mode, alpha, bit depth and colour profile.

            generator.deblur(Image.open("photo.jpg")).save("sharp.png")

        Args:
            image: a PIL image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or floats in
                [0, 1]; or a path, a file's bytes or an open file. EXIF orientation is applied.
            quality: "draft", "fast", "balanced" or "best", of a model that has several (the next lower one where it
                lacks this one); None, the default, takes the configuration's, or else what `choose_quality` says.
            strength: a blend of the photo as it was, at 0.0, and the restored picture, at 1.0, the default.
            crispness: from 0.0, the default, most faithful to the photo, to 1.0, crisper edges and textures at the
                price of some fidelity; see `with_crispness`.
            tile: side of the tiles in pixels; 0 restores the frame whole, None (default) chooses by the memory at hand.
            precision: of the arithmetic: "auto" (default), "float32", "bfloat16" or "float16".
            memory_budget: bytes that the network's work may take beside the picture, its result and the weights; None
                (default) for half of what is free on the device, or in the control group of a container.
            progress: called with (steps done, steps in all); an exception that it raises ends the work.
            max_megapixels: larger pictures (default: than 110) are refused before they are decoded.

        Returns:
            A PIL image for a PIL image, a path or a file; an array for an array.

        Raises:
            PictureError: if it cannot be read, or is too large.
            RestorationError: if memory does not suffice, or for an unknown quality or a strength outside of [0, 1].
            ModelError: as `with_crispness` says, or if the crispness is not to be had at this quality.
        """
        restore = self.restorer(**options)
        samples = read_samples(image, max_megapixels=max_megapixels)
        original = samples.original
        for note in original.notes:
            log.warning("%s: %s", original.name, note)
        made = to_array if isinstance(image, np.ndarray) else to_image
        return made(restored_pieces(restore, samples, progress), original)

    def deblur_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        jpeg_quality: int | None = None,
        strip: Strip | None = None,
        max_megapixels: float = MOST_MEGAPIXELS,
        progress: Progress | None = None,
        **options: Unpack[RestoreOptions],
    ) -> Path:
        """Restores a picture file into another, whose suffix chooses the format; options and errors as in `deblur`.

        The target is written whole or not at all, with the metadata (EXIF, IPTC, XMP, texts, colour profile,
        resolution) and, of a TIFF, all pages. What is not restored, or has no place in the target's format, is a
        warning of the logger `deblur_hub`.

        Args:
            jpeg_quality: of JPEG, WebP and AVIF, 1 to 100; None for that of the source, or 95 if it has none.
            strip: "gps" leaves out where the picture was taken, "metadata" all but what its colours mean.
        """
        target = Path(target)
        steps = self.file_steps(jpeg_quality=jpeg_quality, strip=strip, max_megapixels=max_megapixels, **options)

        def pages() -> Iterator[tuple[np.ndarray, Original]]:
            for number, count, samples in steps.read(Path(source), target):
                original = samples.original
                restored = steps.restore(samples, progress and part_of(progress, number, count))
                del samples  # its pixels, before the result is encoded
                yield restored, original

        steps.write(pages(), target)
        return target

    def file_steps(
        self,
        *,
        jpeg_quality: int | None = None,
        strip: Strip | None = None,
        max_megapixels: float = MOST_MEGAPIXELS,
        **options: Unpack[RestoreOptions],
    ) -> FileSteps:
        """The three steps of `deblur_file`, which takes these options and explains the errors."""
        read = partial(read_pages, strip=strip, max_megapixels=max_megapixels)
        restore = self.restorer(**options)

        def restored(samples: Samples, progress: Progress | None) -> np.ndarray:
            return to_samples(restored_pieces(restore, samples, progress), samples.original)

        together = partial(restored_together, restore)
        return FileSteps(read, restored, together, partial(write_with_notes, jpeg_quality=jpeg_quality))

    def restorer(
        self,
        *,
        quality: str | None = None,
        strength: float = 1.0,
        crispness: float = 0.0,
        precision: Precision = "auto",
        **options: Any,
    ) -> Restorer:
        """What restores one picture after another, read part by part, to pieces; mistakes in options are found here.

        Its arguments are height and width; what reads rows and columns of the picture, (1, 3, h, w) in [-1, 1]; a
        progress, or None; and how many such pictures are to come, which the time that one may take depends on.
        """
        require_quality(quality)
        require_strength(strength)
        require_budget(options.get("memory_budget"))
        generator = self.with_crispness(crispness)
        generator._require(quality)
        network = generator.network

        def pieces(size: tuple[int, int], read: Read, progress: Progress | None, count: int = 1) -> Iterator[Piece]:
            with evaluating(generator):
                step = generator._step(size, count, quality, precision)
                more = {"precision": precision, "quality": step, "progress": progress, **options}
                for top, left, piece in restore_pieces(network, size, reflecting(read, size), **more):
                    if strength != 1:
                        rows, columns = range(top, top + piece.shape[-2]), range(left, left + piece.shape[-1])
                        piece = with_strength(read(rows, columns).to(piece), piece, strength)
                    yield top, left, piece

        return pieces

    def _step(self, size: Sequence[int], pictures: int, quality: str | None, precision: Precision) -> Quality | None:
        """The network's step for pictures of (height, width); None if it has a single one."""
        name = quality or self.config.quality
        if not name and (choice := self.choose_quality(size, pictures, precision=precision)):
            name = choice.name
            log.info("%s", choice)
        return step_of(self.network, name) if name else None

    def restore(
        self,
        blurred: Tensor,
        *,
        quality: str | None = None,
        tile: int | None = None,
        precision: Precision = "auto",
        memory_budget: float | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """(N, 3, H, W) float32 in [-1, 1] to the same, tiled where needed; options as in `deblur`."""
        self._require(quality)
        with evaluating(self):
            return restore(
                self.network,
                blurred,
                tile=tile,
                precision=precision,
                quality=self._step(blurred.shape[-2:], len(blurred), quality, precision),
                memory_budget=memory_budget,
                progress=progress,
            )

    def choose_quality(self, size: Sequence[int], pictures: int = 1, *, precision: Precision = "auto") -> Choice | None:
        """The quality that `deblur` takes by default: the best that is estimated to take at most a minute here.

            print(generator.choose_quality((4000, 6000)))    # quality 'draft', about 34 s; 'best' would take 470 s

        The speed of this machine is measured once, which takes a moment, and kept in the cache folder.

        Args:
            size: height and width, in pixels.
            pictures: how many of that size; one in four inks (CMYK) counts as two.

        Returns:
            Its name and the seconds; None for a model of a single quality.

        Raises:
            RestorationError: if the precision is not available.
        """
        device, dtype = device_and_dtype(self.network, precision)
        return choose(self.network, size, pictures, device=device, dtype=dtype)

    def expected_seconds(self, size: Sequence[int], *, precision: Precision = "auto") -> dict[str, float]:
        """Estimated seconds that this machine takes for a picture of (height, width), for each of `qualities`.

            print(generator.expected_seconds((4000, 6000))["best"])

        The key is "" for a model of a single quality. Measured and kept as `choose_quality` does it.

        Raises:
            RestorationError: if the precision is not available.
        """
        device, dtype = device_and_dtype(self.network, precision)
        return seconds_for(self.network, size, device, dtype)

    @property
    def qualities(self) -> tuple[str, ...]:
        """The qualities of a model that has several, the fastest first; () for others."""
        return tuple(self.network.qualities) if isinstance(self.network, WindowedGenerator) else ()

    def with_quality(self, quality: str) -> "DeblurGenerator":
        """A generator of the same weights that restores at a quality by default; itself if it has a single one.

        Raises:
            RestorationError: for an unknown quality.
        """
        self._require(quality)
        if step_of(self.network, quality) is None:
            return self
        name = f"{self.config.name or self.config.architecture}{AT_QUALITY}{quality}"[-LONGEST_NAME:]
        made = DeblurGenerator(replace(self.config, name=name, quality=quality), self.network)
        made.crisp, made._access = self.crisp, self._access
        return made.train(self.training)

    def with_crispness(self, crispness: float) -> "DeblurGenerator":
        """A new generator between this one, at 0, and its crisp partner, at 1, whose weights are blended.

            generator = DeblurGenerator.from_pretrained().with_crispness(0.5)

        Some models hold their partner, as the default does for quality "fast", at which they then restore; for others
        `from_pretrained(..., crisp=...)` names it.

        Raises:
            ModelError: for a number outside of [0, 1]; above 0 if there is no partner, it cannot be loaded, or is
                another network.
        """
        if not require_share(crispness):
            return self
        if not self.can_be_crisp:
            name = self.config.name or self.config.architecture
            raise ModelError(
                f"{name}: has no crisp partner to blend with; leave the crispness at 0, take the model "
                f"'{hub.DEFAULT_MODEL}', or name one that was trained from it (crisp=..., in the shell --crisp-model)"
            )
        weights = self._own_partner() if self.crisp is None else self._named_partner(self.crisp)
        name = f"{self.config.name} at crispness {crispness:g}"[-LONGEST_NAME:]
        config = replace(self.config, name=name, quality="" if self.crisp is None else self.config.quality)
        made = DeblurGenerator(config, blended(self.network, weights, crispness))
        if self.crisp is None and isinstance(made.network, RefinedMaximGenerator):
            made.network.keep_to_fast()
        return made.train(self.training)

    @property
    def can_be_crisp(self) -> bool:
        """Whether the model holds a crisp partner, or one was named."""
        return self.crisp is not None or bool(self._own_partner())

    def _require(self, quality: str | None) -> None:
        require_quality(quality)
        name, only = self.config.name, self.qualities
        if len(only) == 1 and quality not in (None, *only):
            raise ModelError(f"{name}: crispness is of quality '{only[0]}', not of '{quality}'; omit one of the two")

    def _own_partner(self) -> dict[str, Tensor]:
        return self.network.crisp_weights() if isinstance(self.network, RefinedMaximGenerator) else {}

    def _named_partner(self, crisp: str | os.PathLike[str]) -> dict[str, Tensor]:
        if self._partner is None or self._partner[0] != crisp:
            partner = DeblurGenerator.from_pretrained(crisp, device="cpu", **self._access)
            require_partners(self.config, partner.config, of=self.config.name, partner=str(crisp))
            self._partner = (crisp, partner.network.state_dict())
        return self._partner[1]

    def describe(self, size: tuple[int, int] = (1280, 720)) -> Description:
        """Parameters, multiply-adds for a picture of (width, height), receptive field, source and licence."""
        return self.network.describe(size)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        variant: str | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        force_download: bool = False,
        verify: bool = False,
        crisp: str | os.PathLike[str] | None = None,
    ) -> "DeblurGenerator":
        """Loads a released model by name, a local folder, or a hub repository.

            DeblurGenerator.from_pretrained()                    # the released default, bundled
            DeblurGenerator.from_pretrained("runs/mine/model")
            DeblurGenerator.from_pretrained("owner/name", revision="v2")

        Strict: whatever does not fit is an error, never a half-random network. Only safetensors are read.

        Args:
            name_or_path: a name of `list_models()`, a folder, or `owner/name`; None for the default. A `pathlib.Path`
                or `./name` is always a folder.
            revision: branch, tag or commit of a hub repository; all files come from the same commit.
            subfolder: of the folder or repository that holds the model.
            variant: reads `model.<variant>.safetensors`.
            dtype: of the weights; None for float32.
            device: None for the GPU if there is one, else the CPU.
            cache_dir, local_files_only, token, force_download: as in huggingface_hub.
            verify: restores the model's golden input in float32 and compares the output with the golden one.
            crisp: the model that `crispness` blends with, fine-tuned from this one and loaded when first needed; None
                for the model's own partner.

        Returns:
            The generator, in evaluation mode.

        Raises:
            ModelError: if it cannot be found or reached, does not fit its configuration, or fails verification.
        """
        require_weight_dtype(dtype or torch.float32)
        access: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
        source = hub.find(
            name_or_path,
            revision=revision,
            subfolder=subfolder,
            variant=variant,
            force_download=force_download,
            golden=verify,
            **access,
        )
        generator = cls.from_source(source, variant=variant, dtype=dtype, device=device)
        generator.crisp = crisp
        generator._access = access
        if verify:
            generator.verify(hub.read_golden(source, variant))
        return generator

    @classmethod
    def from_source(
        cls,
        source: hub.Source,
        *,
        variant: str | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ) -> "DeblurGenerator":
        """Loads what `hub.find` found; arguments and errors as in `from_pretrained`."""
        config, network, tensors = hub.read_model(source, variant)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            tensors = place_weights(tensors, torch.device(device), dtype or torch.float32)
        except (RuntimeError, AssertionError) as reason:
            raise ModelError(f"device '{device}' cannot be used ({hub.first_line(reason)}); take 'cpu'") from None
        network.load_state_dict(tensors, strict=True, assign=True)
        return cls(config, network.requires_grad_(True)).eval()

    def verify(self, golden: hub.Golden, *, precision: Precision = "float32") -> hub.Match:
        """Restores a golden input and compares the output with the golden one.

        Args:
            precision: of the arithmetic; weights that are not in float32 compute in their own type.

        Raises:
            ModelError: if they differ by more than the golden tensors allow; says by how much, and which weights'
                norms have changed.
            RestorationError: if the precision is not available.
        """
        weights = next(self.parameters())
        own = weights.dtype != torch.float32
        computed = str(weights.dtype if own else dtype_for(precision, weights.device))[6:]
        if computed == "float32" and weights.is_cuda and torch.backends.cudnn.conv.fp32_precision != "ieee":  # type: ignore[attr-defined]
            computed = "tf32"
        step = self.network.best if isinstance(self.network, WindowedGenerator) else None
        with evaluating(self):
            output = restore(self.network, golden.input, quality=step, precision="auto" if own else precision)
        return hub.check_golden(golden, output, computed, self.network.state_dict())

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        variant: str | None = None,
        dtype: torch.dtype = torch.float32,
        max_shard_size: int | str = hub.LARGEST_FILE,
        card: str | None = None,
    ) -> Path:
        """Writes config.json, model.safetensors, README.md and golden.safetensors, which `from_pretrained` reads.

        Args:
            variant: writes `model.<variant>.safetensors`.
            dtype: of the stored weights; float16 halves the file.
            max_shard_size: of a file, in bytes or as "5GB"; larger weights are split into several, with an index.
            card: the README's text; None writes a plain one. If it has a generated block, what people wrote outside of
                that block into a README that is there already stays.

        Returns:
            The folder.

        Raises:
            ModelError: if it cannot be written; the folder is then as it was.
        """
        require_weight_dtype(dtype)
        tensors = cast_floats(self.network.state_dict(), dtype)
        golden, tolerances = golden_of(self.config, tensors)
        hub.write_model(
            Path(folder),
            self.config,
            tensors,
            variant=variant,
            max_shard_size=max_shard_size,
            golden=golden,
            golden_notes=hub.golden_metadata(tensors, tolerances),
            card=plain_card(self.config) if card is None else card,
        )
        return Path(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload a deblur-hub model",
        variant: str | None = None,
        dtype: torch.dtype = torch.float32,
        max_shard_size: int | str = hub.LARGEST_FILE,
        card: str | None = None,
        tags: list[str] | tuple[str, ...] = (),
        tag: str = "",
        token: str | bool | None = None,
    ) -> str:
        """Saves the model and uploads it to a hub repository, created if need be, in one commit.

        Can be repeated: unchanged files make no commit, and of an edited README only the generated block is renewed.

        Args:
            revision: the branch, created if need be; None for the main one.
            private: of a repository that is created; None takes the owner's settings.
            create_pr: proposes the commit in a pull request.
            variant, dtype, max_shard_size: as in `save_pretrained`.
            card: the README's text; one without a generated block replaces the README.
            tags: further tags for the card, by which the hub is searched.
            tag: of the commit, such as "v1"; an existing one is never moved.

        Returns:
            The address of the commit or pull request.

        Raises:
            ModelError: if the hub refuses or cannot be reached, or the tag stands for another commit.
        """
        text = with_tags(card if card is not None else plain_card(self.config), list(tags))
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant, dtype=dtype, max_shard_size=max_shard_size, card=text)
            return hub.push(
                Path(folder).iterdir(),
                repo_id,
                revision=revision,
                private=private,
                create_pr=create_pr,
                commit_message=commit_message,
                token=token,
                tag=tag,
                keep_card=CARD_BEGIN in text,
            )

    def __repr__(self) -> str:
        parameters = list(self.parameters())
        count = sum(parameter.numel() for parameter in parameters) / 1e6
        kinds = sorted({f"{str(parameter.dtype)[6:]} on {parameter.device}" for parameter in parameters})
        described = [self.config.name or self.config.architecture, f"{count:.2f} M parameters", *kinds]
        return f"DeblurGenerator({', '.join(described)})"


def restored_pieces(restore: Restorer, samples: Samples, progress: Progress | None) -> Iterator[Piece]:
    """A picture restored in pieces; the black ink of CMYK as a picture of its own, behind the colours."""
    size, count = samples.size, samples.original.pictures
    if count == 1:
        return restore(size, samples.read, progress)
    whole = samples.tensor()
    pictures = []
    for number, picture in enumerate(whole.split(1)):
        share = progress and part_of(progress, number, count)
        pictures.append(gathered(restore(size, partial(reflect, picture), share, count), picture))
    return iter([(0, 0, torch.cat(pictures))])


def restored_together(restore: Restorer, batch: Sequence[Samples], progress: Progress | None) -> list[np.ndarray]:
    """At most `BATCH` pictures of one size and in one tensor each, restored at once."""
    filled = [*batch, *[batch[0]] * (BATCH - len(batch))]

    def read(rows: range, columns: range) -> Tensor:
        return torch.cat([samples.read(rows, columns) for samples in filled])

    height, width = batch[0].size
    restored = gathered(restore((height, width), read, progress), torch.empty(BATCH, 3, height, width))
    return [to_samples(restored[number : number + 1], samples.original) for number, samples in enumerate(batch)]


def write_with_notes(pages: Iterator[tuple[np.ndarray, Original]], target: Path, *, jpeg_quality: int | None) -> None:
    """Writes restored pages, and logs what is to be said about them."""
    said: list[str] = []

    def noted() -> Iterator[tuple[np.ndarray, Original]]:
        for restored, original in pages:
            said.extend(f"{original.name}: {note}" for note in original.notes)
            yield restored, original

    write_pages(noted(), target, quality=jpeg_quality)
    for sentence in dict.fromkeys(said):
        log.warning("%s", sentence)

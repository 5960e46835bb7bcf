"""DeblurGenerator: a network with its configuration, from where it is stored to a restored picture."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from . import hub, images
from .config import LONGEST_NAME, GeneratorConfig
from .crispness import blended, require_partners, require_share
from .errors import ModelError, shown
from .model_card import CARD_BEGIN, plain_card
from .networks import NETWORKS, build_network
from .networks.base import Generator
from .networks.description import Description
from .networks.refined import RefinedMaximGenerator
from .networks.windows import WindowedGenerator
from .qualities import Choice, choose, require_quality, require_strength, step_of, with_strength
from .restoration import DTYPES, Precision, dtype_for, placed, restore

Progress = Callable[[int, int], None]

log = logging.getLogger("deblur_hub")

AT_QUALITY = " at quality "  # between a model's name and the quality that it was given
GOLDEN_SIDE = 48
GOLDEN_MARGIN = 4  # between what rounding is measured to change and what it may
GOLDEN_FLOORS = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1.6e-2}  # differences that no network is too good for
FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.tensor, torch.arange}
WEIGHT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class DeblurGenerator(nn.Module):
    """A deblurring generator.

        generator = DeblurGenerator.from_pretrained()
        sharp = generator.deblur(Image.open("photo.jpg"))

    Args:
        config: the architecture and its options.
        network: with weights; None builds it with fresh ones.

    Attributes:
        crisp: the model that `crispness` blends with, as `from_pretrained` takes it; None for the partner that the
            model holds itself, if it does.

    Raises:
        ModelError: for an unknown architecture or option, or a value out of range.
    """

    def __init__(self, config: GeneratorConfig, network: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = network if network is not None else build(config, config.name or config.architecture)
        self.crisp: str | os.PathLike[str] | None = None
        self._access: dict[str, Any] = {}  # to the hub, as this one was fetched, for its partner
        self._partner: tuple[str | os.PathLike[str], dict[str, Tensor]] | None = None  # its weights, once needed

    def forward(self, blurred: Tensor) -> Tensor | list[Tensor]:
        """(N, 3, H, W) in [-1, 1] to the same, for any H and W; one pass, differentiable, in the tensor's own type.

        In training mode values may leave [-1, 1] a little where the network does not bound them: clipped ones would
        have no gradient; and a network of several scales returns the list of its outputs, coarse to fine.
        """
        restored = self.network(blurred)
        return cast(Tensor | list[Tensor], restored if self.training else restored.clamp(-1, 1))

    @overload
    def deblur(
        self,
        image: np.ndarray,
        *,
        quality: str | None = None,
        strength: float = 1.0,
        crispness: float = 0.0,
        tile: int | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
        max_megapixels: float = 100,
    ) -> np.ndarray: ...

    @overload
    def deblur(
        self,
        image: Image.Image | str | os.PathLike[str] | bytes | BinaryIO,
        *,
        quality: str | None = None,
        strength: float = 1.0,
        crispness: float = 0.0,
        tile: int | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
        max_megapixels: float = 100,
    ) -> Image.Image: ...

    def deblur(
        self,
        image: np.ndarray | Image.Image | str | os.PathLike[str] | bytes | BinaryIO,
        *,
        quality: str | None = None,
        strength: float = 1.0,
        crispness: float = 0.0,
        tile: int | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
        max_megapixels: float = 100,
    ) -> np.ndarray | Image.Image:
        """Restores a picture, which keeps its size, mode, alpha, bit depth and colour profile.

            generator.deblur(Image.open("photo.jpg")).save("sharp.png")

        Args:
            image: a PIL image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or floats in
                [0, 1]; or a path, a file's bytes or an open file. EXIF orientation is applied.
            quality: "draft", "fast", "balanced" or "best", of a model that has such steps (of one that lacks it the
                best below); None takes what `choose_quality` says, or what the model's configuration asks for.
            strength: from 0.0, the photo as it was, to 1.0, the restored picture; a blend of the two.
            crispness: from 0.0, the restored picture nearest to the photo, to 1.0, which has crisper edges and textures
                at the price of some fidelity; see `with_crispness`.
            tile: side of the tiles in pixels; 0 restores the frame whole, None chooses by the memory at hand.
            precision: of the arithmetic: "auto", "float32", "bfloat16" or "float16".
            progress: called with (steps done, steps in all); what it raises ends the work and passes on.
            max_megapixels: larger pictures are refused before they are decoded.

        Returns:
            A PIL image for a PIL image, a path or a file; an array for an array.

        Raises:
            PictureError: if it cannot be read, or is too large.
            RestorationError: if memory does not suffice, or for a quality or a strength that is none.
            ModelError: for a crispness outside of [0, 1], or above 0 of a model without a crisp partner or at a quality
                that has none.
        """
        require_quality(quality)
        require_strength(strength)
        generator = self.with_crispness(crispness)
        generator._require(quality)
        blurred, original = images.read(image, max_megapixels=max_megapixels)
        restored = generator.restore(blurred, quality=quality, tile=tile, precision=precision, progress=progress)
        restored = with_strength(blurred, restored, strength)
        return (images.to_array if isinstance(image, np.ndarray) else images.to_image)(restored, original)

    def deblur_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        quality: str | None = None,
        strength: float = 1.0,
        crispness: float = 0.0,
        tile: int | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
        max_megapixels: float = 100,
    ) -> Path:
        """Restores a picture file into another, whose suffix chooses the format; arguments and errors as in `deblur`.

        The target appears whole or not at all. Metadata (EXIF, colour profile, resolution) go along.
        """
        require_quality(quality)
        require_strength(strength)
        generator = self.with_crispness(crispness)
        generator._require(quality)
        blurred, original = images.read(source, max_megapixels=max_megapixels)
        restored = generator.restore(blurred, quality=quality, tile=tile, precision=precision, progress=progress)
        restored = with_strength(blurred, restored, strength)
        del blurred
        return images.write(restored, original, Path(target))

    def restore(
        self,
        blurred: Tensor,
        *,
        quality: str | None = None,
        tile: int | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
    ) -> Tensor:
        """(N, 3, H, W) float32 in [-1, 1] to the same, tiled where that is needed; see `restoration.restore`.

        Args:
            quality: as `deblur` takes it.
        """
        self._require(quality)
        with evaluating(self):
            name = quality or self.config.quality
            if not name and (choice := self.choose_quality(blurred.shape[-2:], len(blurred), precision=precision)):
                name = choice.name
                log.info("%s", choice)
            step = step_of(self.network, name) if name else None
            return restore(self.network, blurred, tile=tile, precision=precision, quality=step, progress=progress)

    def choose_quality(self, size: Sequence[int], pictures: int = 1, *, precision: Precision = "auto") -> Choice | None:
        """The quality that `deblur` takes of itself: the best that is estimated to take at most a minute here.

            print(generator.choose_quality((4000, 6000)))    # quality 'draft', about 34 s; 'best' would take 470 s

        The speed of this machine is measured once, which takes a moment, and kept in the cache folder.

        Args:
            size: height and width, in pixels.
            pictures: of that size, that are restored one after another; one with an alpha channel counts as two.

        Returns:
            Its name and the seconds; None of a model that has no such steps.

        Raises:
            RestorationError: if the precision is not to be had.
        """
        device, dtype = placed(self.network, precision)
        return choose(self.network, size, pictures, device=device, dtype=dtype)

    @property
    def qualities(self) -> tuple[str, ...]:
        """Of a model that can restore in several steps, the quickest first; () of others."""
        return tuple(self.network.qualities) if isinstance(self.network, WindowedGenerator) else ()

    def with_quality(self, quality: str) -> "DeblurGenerator":
        """The same generator, weights and all, with a quality of its own; itself if it has no such steps.

            generator = DeblurGenerator.from_pretrained("maxim").with_quality("balanced")

        Raises:
            RestorationError: for a quality that is none.
        """
        self._require(quality)
        if step_of(self.network, quality) is None:
            return self
        name = f"{self.config.name or self.config.architecture}{AT_QUALITY}{quality}"[-LONGEST_NAME:]
        made = DeblurGenerator(replace(self.config, name=name, quality=quality), self.network)
        made.crisp, made._access = self.crisp, self._access
        return made.train(self.training)

    def with_crispness(self, crispness: float) -> "DeblurGenerator":
        """A generator between this one, at 0, and its crisp partner, at 1; this one is left as it is.

            generator = DeblurGenerator.from_pretrained().with_crispness(0.5)

        The weights are blended (`crispness.blended`). Some models hold their partner, as the default does, for quality
        "fast", at which they then restore; for others `from_pretrained(..., crisp=...)` names it, and it is loaded when
        it is first needed.

        Raises:
            ModelError: for a number outside of [0, 1]; for one above 0 if there is no partner, or if it cannot be
                loaded or is another network.
        """
        if not require_share(crispness):
            return self
        if not self.can_be_crisp:
            name = self.config.name or self.config.architecture
            raise ModelError(
                f"{name}: has no crisp partner to blend with; leave the crispness at 0, take the model "
                f"'{hub.DEFAULT_MODEL}', or name one that was trained from it (crisp=..., in the shell "
                "--crisp-model)"
            )
        if self.crisp is not None and (self._partner is None or self._partner[0] != self.crisp):
            partner = DeblurGenerator.from_pretrained(self.crisp, device="cpu", **self._access)
            require_partners(self.config, partner.config, of=self.config.name, partner=str(self.crisp))
            self._partner = (self.crisp, partner.network.state_dict())
        name = f"{self.config.name} at crispness {crispness:g}"[-LONGEST_NAME:]
        config = replace(self.config, name=name, quality="" if self.crisp is None else self.config.quality)
        weights = self._partner[1] if self.crisp is not None and self._partner else self._own_partner()
        made = DeblurGenerator(config, blended(self.network, weights, crispness))
        if self.crisp is None and isinstance(made.network, RefinedMaximGenerator):
            made.network.keep_to_fast()
        return made.train(self.training)

    @property
    def can_be_crisp(self) -> bool:
        """Whether there is a crisp partner: one that was named, or that the model holds itself."""
        return self.crisp is not None or bool(self._own_partner())

    def _require(self, quality: str | None) -> None:
        require_quality(quality)
        only = self.qualities[0] if len(self.qualities) == 1 else None
        if only and quality not in (None, only):
            raise ModelError(
                f"{self.config.name}: crispness is of quality '{only}', not of '{quality}'; omit one of the two"
            )

    def _own_partner(self) -> dict[str, Tensor]:
        return self.network.crisp_weights() if isinstance(self.network, RefinedMaximGenerator) else {}

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
            revision: branch, tag or commit of a hub repository; all files come from the one commit it stands for.
            subfolder: of the folder or repository that holds the model.
            variant: takes `model.<variant>.safetensors`.
            dtype: of the weights; None for float32, in which half-precision files are stored no worse than they are.
            device: None for the GPU if there is one, else the CPU.
            cache_dir, local_files_only, token, force_download: as huggingface_hub takes them.
            verify: restores the model's golden input, in float32, and compares the output with the golden one.
            crisp: the model that `crispness` blends with, one that was trained from this one; None for the partner that
                the model holds itself. It is loaded when it is first needed, with the same `cache_dir`,
                `local_files_only` and `token`.

        Returns:
            The generator, in evaluation mode.

        Raises:
            ModelError: if it cannot be found or reached, is not what its configuration says, or fails verification.
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
        config = hub.read_config(source)
        with Undrawn():  # no memory is taken, and nothing drawn, before all is known to fit
            network = build(config, f"{source.name}: {hub.CONFIG}")
        tensors = hub.read_tensors(source, variant, network.state_dict())
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:  # one by one: Module.to looks at every module of a network
            tensors = {key: laid(tensor, torch.device(device), dtype) for key, tensor in tensors.items()}
        except (RuntimeError, AssertionError) as reason:
            raise ModelError(f"device '{device}' cannot be used ({hub.first_line(reason)}); take 'cpu'") from None
        network.load_state_dict(tensors, strict=True, assign=True)
        return cls(config, network.requires_grad_(True)).eval()

    def verify(self, golden: hub.Golden, *, precision: Precision = "float32") -> hub.Match:
        """Restores a golden input and compares the output with the golden one.

        Args:
            precision: of the arithmetic; weights that are not in float32 compute in their own type.

        Raises:
            ModelError: if they differ by more than the golden tensors allow; says by how much, and which of the weights
                have another norm.
            RestorationError: if the precision is not to be had.
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
            max_shard_size: of a file, in bytes or as "5GB"; larger weights are spread over several, with an index.
            card: the README's text; None writes a plain one. Of a README that is there already what people wrote
                outside of the generated block stays, unless this text has no such block.

        Returns:
            The folder.

        Raises:
            ModelError: if it cannot be written; what was there before is then as it was.
        """
        require_weight_dtype(dtype)
        tensors = in_type(self.network.state_dict(), dtype)
        golden, tolerances = self.golden(tensors)
        hub.write_model(
            Path(folder),
            self.config,
            tensors,
            variant=variant,
            max_shard_size=max_shard_size,
            golden=golden,
            golden_notes=hub.golden_metadata(tensors, tolerances),
            card=card if card is not None else plain_card(self.config),
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
        """Saves the model and uploads it to a hub repository in one commit; creates the repository if need be.

        Can be repeated: what is there already makes no commit, and of an edited README only the generated block is
        renewed.

        Args:
            revision: the branch, which is made if need be; None for the main one.
            private: of a repository that is created; None leaves it to the owner's settings.
            create_pr: proposes the commit in a pull request.
            variant, dtype, max_shard_size: as `save_pretrained` takes them.
            card: the README's text; one without a generated block takes the place of whatever is there.
            tags: further words for the card, by which the hub's pages are searched.
            tag: of the commit, such as "v1"; one that is there already is never moved.

        Returns:
            The address of the commit or pull request.

        Raises:
            ModelError: if the hub refuses or cannot be reached, or the tag stands for another commit.
        """
        import tempfile

        text = hub.with_tags(card if card is not None else plain_card(self.config), list(tags))
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant, dtype=dtype, max_shard_size=max_shard_size, card=text)
            return hub.push(
                Path(folder),
                repo_id,
                revision=revision,
                private=private,
                create_pr=create_pr,
                commit_message=commit_message,
                token=token,
                tag=tag,
                card=text if CARD_BEGIN not in text else None,
            )

    def golden(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A small input and the output that weights give for it in float32 on a CPU, to check loaded models against.

        Returns:
            `input` and `output`; and by how much the output may differ elsewhere, for each precision.
        """
        wave = torch.linspace(0, 12, GOLDEN_SIDE)
        picture = torch.stack([torch.sin(wave[:, None] * (1 + k) + wave[None] ** 1.5) for k in range(3)])[None] * 0.9
        with torch.device("meta"):
            network = build(self.config, "golden").eval()
        tensors = {key: tensor.cpu() for key, tensor in in_type(tensors, torch.float32).items()}
        network.load_state_dict(tensors, assign=True)
        output = plainly(network, picture)
        return {"input": picture, "output": output}, {
            precision: min(2.0, max(GOLDEN_FLOORS[precision], GOLDEN_MARGIN * change))
            for precision in GOLDEN_FLOORS
            if math.isfinite(change := change_by_rounding(network, tensors, picture, output, DTYPES[precision]))
        }

    def __repr__(self) -> str:
        parameters = list(self.parameters())
        count = sum(parameter.numel() for parameter in parameters) / 1e6
        kinds = sorted({f"{str(parameter.dtype)[6:]} on {parameter.device}" for parameter in parameters})
        described = [self.config.name or self.config.architecture, f"{count:.2f} M parameters", *kinds]
        return f"DeblurGenerator({', '.join(described)})"


def laid(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """A weight where it is to be, floats in the type that they are to have, those of convolutions channels-last."""
    there = tensor.to(device, (dtype or torch.float32) if tensor.is_floating_point() else None)
    return there.contiguous(memory_format=torch.channels_last) if there.ndim == 4 else there


class Undrawn(TorchFunctionMode):
    """Where a network is built whose weights are to be loaded: on the meta device, and without its layers' own draws.

    As `torch.device("meta")` does it, but that their beginnings are not computed, which takes longer than the rest.
    """

    def __torch_function__(
        self, function: Any, kinds: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        if function in FACTORIES:
            options = {"device": "meta"} | {key: value for key, value in options.items() if value is not None}
        return function(*arguments, **options)


def build(config: GeneratorConfig, source: str) -> Generator:
    """The network of a configuration; errors name where it came from."""
    if config.architecture not in NETWORKS:
        raise ModelError(
            f"{source} asks for architecture {shown(config.architecture)}, which this version does not "
            f"know (it knows: {', '.join(NETWORKS)})"
        )
    try:
        return build_network(config.architecture, **config.options)
    except (ModelError, ValueError, TypeError) as reason:
        raise ModelError(f"{source}: {reason}") from None


def in_type(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The floats in another type; counts, such as batch normalisation's number of batches, as they are."""
    return {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def change_by_rounding(
    network: Generator, tensors: dict[str, Tensor], picture: Tensor, output: Tensor, dtype: torch.dtype
) -> float:
    """The largest change of an output if all weights and results within are off by as much as a type rounds them.

    It is computed in float32: arithmetic in half precision is slow on a CPU, or not to be had.
    """
    draw, error = torch.Generator().manual_seed(0), torch.finfo(dtype).eps / 2

    def rounded(value: Tensor) -> Tensor:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        return value * (1 + error * (2 * torch.rand(value.shape, generator=draw) - 1))

    network.load_state_dict({key: rounded(tensor) for key, tensor in tensors.items()}, assign=True)
    leaves = [part for part in network.modules() if not any(part.children())]
    hooks = [leaf.register_forward_hook(lambda _, __, result: rounded(result)) for leaf in leaves]
    try:
        return float((plainly(network, picture) - output).abs().max())
    finally:
        for hook in hooks:
            hook.remove()
        network.load_state_dict(tensors, assign=True)


@torch.inference_mode()
def plainly(network: Generator, picture: Tensor) -> Tensor:
    """The network's own way through a whole picture in float32, nothing of it folded or fused."""
    return cast(Tensor, network(picture)).clamp(-1, 1).contiguous()


def require_weight_dtype(dtype: torch.dtype) -> None:
    if dtype not in WEIGHT_DTYPES:
        raise ModelError(
            f"dtype {dtype} is not one that weights can have; take one of "
            f"{', '.join(str(kind) for kind in WEIGHT_DTYPES)}"
        )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) for a while, whatever the mode was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training

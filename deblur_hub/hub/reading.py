"""A found model's configuration and tensors, strictly."""

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..config import GeneratorConfig
from ..errors import ModelError, did_you_mean
from .cache import dropping_what_is_damaged
from .files import CONFIG, FLOATS, Source, checksum, finite, first_line, weights_file


@dropping_what_is_damaged
def read_config(source: Source) -> GeneratorConfig:
    """The configuration of a found model; `ModelError` if it is not one that this version knows."""
    try:
        text = (source.folder / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        raise ModelError(
            f"{source.name}: {CONFIG} cannot be read ({reason}); download or save the model again"
        ) from None
    return GeneratorConfig.from_json(text, source=f"{source.name}: {CONFIG}")


@dropping_what_is_damaged
def read_tensors(source: Source, variant: str | None, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a found model, exactly those that are expected.

    Args:
        expected: name -> tensor of the right shape, for instance on the meta device.

    Raises:
        ModelError: if the file is no safetensors file or fails its checksum; a tensor is missing, not expected, of
            another shape, holds values that are not finite numbers, or is not of floats where floats are expected, nor
            of the integers where a count is.
    """
    path = source.folder / weights_file(variant)
    what = f"{source.name}: {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
            check_shapes(what, shapes, expected)
            tensors = {key: file.get_tensor(key) for key in shapes}
    except (SafetensorError, OSError, ValueError) as reason:
        raise ModelError(
            f"{what} is not a safetensors file, or is cut short ({first_line(reason)}); download or save it again"
        ) from None
    if "sha256" in metadata and metadata["sha256"] != checksum(tensors):
        raise ModelError(f"{what} fails its checksum; download or save it again")
    for key, tensor in tensors.items():
        counts = not expected[key].is_floating_point()  # such as batch normalisation's number of batches
        if tensor.dtype not in ((expected[key].dtype,) if counts else FLOATS):
            wanted = str(expected[key].dtype)[6:] if counts else "floats"
            raise ModelError(
                f"{what}: tensor '{key}' is of type {str(tensor.dtype)[6:]}, not of {wanted}; save it again"
            )
        if not finite(tensor):
            raise ModelError(f"{what}: tensor '{key:.80}' holds values that are not finite; take an earlier checkpoint")
    return tensors


def check_shapes(what: str, shapes: dict[str, tuple[int, ...]], expected: dict[str, Tensor]) -> None:
    missing, surplus = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    if surplus:
        raise ModelError(
            f"{what} has {len(surplus)} tensor(s) that this network lacks, such as '{surplus[0]:.80}'"
            f"{did_you_mean(surplus[0], missing)}; the weights are of another architecture than {CONFIG}"
        )
    if missing:
        raise ModelError(
            f"{what} lacks {len(missing)} tensor(s), such as '{missing[0]}'; "
            f"the weights are of another architecture than {CONFIG}"
        )
    for key, shape in shapes.items():
        if shape != tuple(expected[key].shape):
            raise ModelError(
                f"{what}: tensor '{key}' is {list(shape)} where the network wants "
                f"{list(expected[key].shape)}; the weights are of another size than {CONFIG}"
            )

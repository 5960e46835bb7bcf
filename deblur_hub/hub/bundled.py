"""The released models that the package itself holds."""

from pathlib import Path

from .files import CONFIG

BUNDLED = Path(__file__).parents[1] / "weights"
DEFAULT_MODEL = "compact"


def list_models() -> list[str]:
    """The names of the released models that are bundled, the default first."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    return sorted(names, key=lambda name: name != DEFAULT_MODEL)


def bundled_folder(name: str) -> Path:
    return BUNDLED / name

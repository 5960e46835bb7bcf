"""Work on a GPU that a Space with ZeroGPU lends for one call."""

from collections.abc import Callable
from typing import Any

SECONDS = 60  # that a call is expected to take at most; the longer, the later a visitor's turn


def on_zero_gpu(function: Callable[..., Any], *, duration: int | Callable[..., int] = SECONDS) -> Callable[..., Any]:
    """The function as it is, or on a Space with ZeroGPU one that has a GPU for the call.

    There the call runs in a process of its own: arguments and result are pickled, so tensors belong on the CPU, and
    `progress`, which nobody would hear of there, is left out.

    Args:
        function: of a module, not of a call; it loads its model itself.
        duration: seconds that the GPU is asked for, or a function of the same arguments that gives them.
    """
    try:
        from spaces import GPU  # the hub installs it in every Space of Gradio
    except ImportError:
        return function
    lent = GPU(duration=duration)(function)
    if lent is function:  # a Space on other hardware
        return function
    return lambda *arguments, progress=None, **options: lent(*arguments, **options)

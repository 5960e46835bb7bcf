"""Which files of a run hold small pictures of one size, so many that they are restored in batches.

Whether a picture is restored alone or in a batch changes its last bits. So this is found out from all files of a run,
whichever process restores them.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import PictureError
from ..pictures import upright_size
from ..remote import is_remote
from ..restoration.together import BATCH

FEWEST = 4 * BATCH  # of one size, so that filling up the last batch costs little
SAMPLE_BYTES, MORE_BYTES = 8, 2**17  # a pixel in a file, at most, and all else in it: larger files are not opened

Job = tuple[Path, Path]  # a photo's file, and the file that its result goes to; or their places behind URIs


def grouped(jobs: Sequence[Job], pixels: int) -> tuple[list[Job], set[Path]]:
    """The jobs, those of one size next to each other, and the sources that are to be restored together.

    Args:
        pixels: of the largest picture that is. Files behind URIs never are: their sizes are not known before.
    """
    if not pixels or len(jobs) < FEWEST:
        return list(jobs), set()
    groups = defaultdict(list)
    for number, (source, _) in enumerate(jobs):
        if not is_remote(source):
            with suppress(OSError, PictureError):  # which is told when its turn comes
                if source.stat().st_size <= SAMPLE_BYTES * pixels + MORE_BYTES:
                    width, height = upright_size(source)
                    if width * height <= pixels:
                        groups[width, height].append(number)
    together = {number: group for group in groups.values() if len(group) >= FEWEST for number in group}
    order = dict.fromkeys(each for number in range(len(jobs)) for each in together.get(number, [number]))
    return [jobs[number] for number in order], {jobs[number][0] for number in together}

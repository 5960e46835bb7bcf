"""Many files, by one process or several: the next is decoded and the last one written while one is restored.

`pipeline`   the three threads, and what becomes of each file
`sizes`      which small pictures go together through the network
`journal`    which files are done, so that a run that was ended goes on where it was
"""

from .journal import Journals, fingerprint
from .pipeline import Outcome, restore_files
from .sizes import grouped

__all__ = ["Journals", "Outcome", "fingerprint", "grouped", "restore_files"]

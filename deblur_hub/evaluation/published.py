"""Scores as papers and reports print them, read from `published.toml`, and which of ours they can be compared with."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .tables import markdown

Group = Literal["comparable", "other", "resized"]
FULL = "1280x720"
MATLAB, CW, PER_CHANNEL, NOT_SAID = "MATLAB, 3-D", "CW-SSIM", "per channel", "not said"
SHORT = {MATLAB: "(M)", CW: "(CW)", PER_CHANNEL: "(C)"}
HEADINGS: dict[Group, str] = {
    "comparable": "May stand beside ours in the columns named, under --protocol {}",
    "other": "May not stand beside ours: the protocol is not known, or the figure is not reproduced",
    "resized": "May not stand beside any paper's: pictures made smaller first, and their blur with them",
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """One printed score, a [[score]] of the file."""

    method: str  # the network
    psnr: str  # as printed, with as many digits; a range where no mean is given
    source: str  # where it is printed
    year: int | None = None  # of the paper; None where there is none
    ssim: str = ""  # as printed; "" where nothing is
    dataset: str = "GoPro"  # test set, and what the network was trained on where tables differ in that
    which_ssim: str = NOT_SAID  # the definition that the authors' code computes
    size: str = FULL  # of the pictures when they were scored
    rounding: str = NOT_SAID  # of the restored samples before they were scored
    blur: str = NOT_SAID  # GoPro's folder of blurry pictures
    at_test: str = "one pass"  # what was done besides
    protocol: str = ""  # of ours under which a number may stand beside it; "" for none
    beside: tuple[str, ...] = ()  # the columns of ours that it may stand beside
    note: str = ""  # why it may not beside the others, and what contradicts it
    unverified: bool = False  # the figure is quoted from memory

    @property
    def group(self) -> Group:
        return "comparable" if self.protocol else "other" if self.size in (FULL, NOT_SAID) else "resized"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What we measure of authors' weights, in float32: a [[measured]] of the file."""

    printed: str  # the method in `PUBLISHED` whose weights they are
    how: str  # the quality, or what else is ours
    psnr: float
    ssim_matlab: float
    command: str  # that measures it again


DATA = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PUBLISHED = tuple(Published(**score | {"beside": tuple(score.get("beside", ()))}) for score in DATA["score"])
MEASURED = tuple(Measured(**score) for score in DATA["measured"])


def table(rows: Iterable[Published] = PUBLISHED) -> str:
    """All rows as Markdown tables that read well in a terminal, in groups by what they may stand beside."""
    rows, notes, blocks = tuple(rows), list[str](), []
    for group, title in HEADINGS.items():
        for protocol in dict.fromkeys(row.protocol for row in rows if row.group == group):
            chosen = [row for row in rows if (row.group, row.protocol) == (group, protocol)]
            beside = ["may stand beside"] if protocol else []
            header = ["method", *beside, "how", "printed in", "PSNR", "SSIM", "note"]
            lines = markdown(header, [cells(row, notes) for row in chosen], left=len(header) - 3)
            blocks.append(f"## {title.format(protocol.replace('gopro-gamma', 'gopro --blur gamma'))}\n\n{lines}")
    numbered = "\n".join(f"[{number}] {note}" for number, note in enumerate(notes, start=1))
    remarks = "\n".join(f"- {remark}" for remark in DATA["remarks"])
    return "\n\n".join([*blocks, measured_table(), "## Notes", numbered, remarks])


def measured_table() -> str:
    """What authors print of their weights, and what we measure of them."""
    lines = []
    for row in MEASURED:
        (printed,) = (found for found in PUBLISHED if found.method == row.printed and found.dataset == "GoPro")
        was, now = [f"{printed.psnr} dB, {printed.ssim}"], [f"{row.psnr:.2f} dB", f"{row.ssim_matlab:.4f} (M)"]
        lines.append([f"{row.printed} ({printed.year})", row.how, *was, *now, row.command])
    header = ["authors' weights", "how", "printed, of 1111", "PSNR, of 5", "SSIM, of 5", "command"]
    return f"## What we measure of authors' weights, on {DATA['measured_on']}\n\n{markdown(header, lines, left=3)}"


def cells(row: Published, notes: list[str]) -> list[str]:
    """A line of the table; its note is added to `notes`, once, and the line refers to it by number."""
    note = row.note
    if row.unverified:
        note = "unverified, quoted from memory" + (f"; {note}" if note else "")
    if note and note not in notes:
        notes.append(note)
    doubt = "?" if row.unverified else ""
    return [
        f"{row.method} ({row.year})" if row.year else row.method,
        *([", ".join(row.beside)] if row.protocol else []),
        how(row),
        row.source,
        f"{row.psnr} dB{doubt}",
        f"{row.ssim}{doubt} {SHORT.get(row.which_ssim, '')}".strip() if row.ssim else "-",
        f"[{notes.index(note) + 1}]" if note else "",
    ]


def how(row: Published) -> str:
    """What is known of the protocol beyond the heading and the columns."""
    known = [
        "" if row.dataset == "GoPro" else row.dataset.partition(", ")[2],
        "" if row.size in (FULL, "its own") else "size not said" if row.size == NOT_SAID else row.size,
        "" if row.blur == NOT_SAID else f"blur {row.blur}",
        "" if row.rounding == NOT_SAID else row.rounding,
        "" if row.at_test == "one pass" else row.at_test,
    ]
    return ", ".join(filter(None, known)) or NOT_SAID

"""What the page says: HTML in which everything that a stranger wrote is escaped."""

import html
from collections.abc import Iterable

from deblur_hub import DeblurHubError

from .choices import spoken
from .line import Job, Line
from .runs import Run
from .views import View

HEADER = """
<header class="masthead">
  <p class="wordmark"><span class="mark" aria-hidden="true"></span>deblur-hub</p>
  <h1>A sharper photo, at its full size.</h1>
  <p class="lede">Drop in a picture that shook; it comes back in the same size and format. It goes no further than the
  machine that runs this page, and is deleted there after an hour.</p>
</header>
"""

EXPECTATIONS = """
<section class="expect">
  <h2>What to expect</h2>
  <p><strong>Helps most</strong> with motion blur: a hand that shook, a camera that panned, a subject that moved.</p>
  <p><strong>Helps little</strong> with strong defocus, faces, tiny text and dark scenes with smeared lamps. What the
  blur has erased does not come back, and a sharp photo comes back almost as it was.</p>
</section>
"""


def viewer(source: str) -> str:
    """A comparison slider that follows the view in the element of an id."""
    return f'<div class="viewer" data-from="{source}" hidden></div>'


def view_data(view: View) -> str:
    return f'<div data-view="{html.escape(view.as_data())}"></div>'


def sentence(text: str) -> str:
    """A first letter that is large and a full stop, safe to show."""
    text = text.strip().rstrip(".")
    return html.escape(f"{text[:1].upper()}{text[1:]}.")


def trouble(error: DeblurHubError) -> str:
    """The error as it is; a file's name in it may hold anything."""
    return f'<p class="trouble" role="alert">{html.escape(str(error).rstrip("."))}.</p>'


def facts(run: Run) -> str:
    width, height = run.size
    rows = {
        "Picture": html.escape(run.name),
        "Size": f"{width}&thinsp;×&thinsp;{height} px",
        "Time": f"{run.seconds:.1f} s",
        "Model": html.escape(f"{run.choice.model}, {run.choice.quality}" if run.choice.quality else run.choice.model),
    }
    if run.request.crispness:
        rows["Crispness"] = f"{run.request.crispness:.0%}"
    return table(rows) + remarks(run.notes)


def table(rows: dict[str, str]) -> str:
    """Terms and values, which are HTML already."""
    listed = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in rows.items())
    return f'<dl class="facts">{listed}</dl>'


def remarks(notes: Iterable[str]) -> str:
    return "".join(f'<p class="note">{sentence(note)}</p>' for note in notes)


def standing(line: Line, job: Job, doing: str = "Restoring", done: float = 0.0, of: float = 1.0) -> str:
    """Where a job stands: its place in the line, or a bar with the share done and the seconds left.

    Args:
        done: of a larger task, and `of` the share of it that the job is.
    """
    count, seconds = line.before(job)
    share = done + of * job.share
    if count:
        places = "one picture" if count == 1 else f"{count} pictures"
        return bar(share, f"In line behind {places}, about {spoken(seconds)}")
    left = job.seconds_left()
    rest = f"about {spoken(left)} left" if left >= 0.5 else "nearly there"
    return bar(share, f"{doing} · {share:.0%} · {rest}")


def bar(share: float, text: str) -> str:
    percent = round(100 * share)
    return (
        f'<div class="work"><div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}"><span style="width: {100 * share:.1f}%"></span></div>'
        f"<p>{html.escape(text)}</p></div>"
    )

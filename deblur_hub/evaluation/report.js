"use strict";

// Zoom: the panes of a viewer show one region. `zoom` is 1 for the whole picture; (x, y) is the region's centre, 0 to 1.

const MOST = 8; // screen pixels for one of the picture
const PIXELS_FROM = 2; // from here on pixels are shown as squares

for (const viewer of document.querySelectorAll(".viewer")) {
  const panes = viewer.querySelector(".panes");
  const frames = [...viewer.querySelectorAll(".frame")];
  const pictures = [...viewer.querySelectorAll(".frame img")];
  const tools = viewer.querySelector(".tools");
  const shown = viewer.querySelector("output");
  const errors = viewer.querySelector('[data-do="errors"]');
  const fingers = new Map();
  let zoom = 1, x = 0.5, y = 0.5;

  const onePixel = () => (pictures[0].naturalWidth || 1) / frames[0].clientWidth / window.devicePixelRatio;
  const limit = (value, least, most) => Math.min(Math.max(value, least), most);

  function show() {
    zoom = limit(zoom, 1, Math.max(1, onePixel() * MOST));
    x = limit(x, 0.5 / zoom, 1 - 0.5 / zoom);
    y = limit(y, 0.5 / zoom, 1 - 0.5 / zoom);
    const move = `translate(${(0.5 - x * zoom) * 100}%, ${(0.5 - y * zoom) * 100}%) scale(${zoom})`;
    for (const picture of pictures) picture.style.transform = move;
    viewer.classList.toggle("zoomed", zoom > 1);
    viewer.classList.toggle("pixels", zoom / onePixel() >= PIXELS_FROM);
    shown.textContent = `${Math.round((zoom / onePixel()) * 100)} %`;
  }

  // Zooms so that what lies at (u, v) of a frame, 0 to 1, stays there.
  function zoomBy(factor, u = 0.5, v = 0.5) {
    const before = zoom;
    zoom = limit(zoom * factor, 1, Math.max(1, onePixel() * MOST));
    x += (u - 0.5) * (1 / before - 1 / zoom);
    y += (v - 0.5) * (1 / before - 1 / zoom);
    show();
  }

  function moveBy(u, v) {
    x += u / zoom;
    y += v / zoom;
    show();
  }

  function showErrors() {
    const on = errors.getAttribute("aria-pressed") !== "true";
    errors.setAttribute("aria-pressed", on);
    for (const map of viewer.querySelectorAll(".map")) map.hidden = !on;
    viewer.querySelector(".legend").hidden = !on;
  }

  const actions = {
    in: () => zoomBy(1.5),
    out: () => zoomBy(1 / 1.5),
    one: () => zoomBy(onePixel() / zoom),
    fit: () => zoomBy(1 / zoom),
    errors: showErrors,
  };
  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, "_": actions.out, "1": actions.one, "0": actions.fit,
    e: showErrors, E: showErrors,
    ArrowLeft: () => moveBy(-0.1, 0), ArrowRight: () => moveBy(0.1, 0),
    ArrowUp: () => moveBy(0, -0.1), ArrowDown: () => moveBy(0, 0.1),
    Escape: () => { actions.fit(); panes.blur(); },
  };

  tools.addEventListener("click", (event) => actions[event.target.dataset.do]?.());
  panes.addEventListener("keydown", (event) => {
    const arrow = event.key.startsWith("Arrow");
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key] || (arrow && zoom === 1)) return;
    event.preventDefault();
    keys[event.key]();
  });

  for (const frame of frames) {
    const place = (event) => {
      const box = frame.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    // A page full of pictures must scroll: the wheel zooms only where somebody has clicked before.
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== panes) return;
      event.preventDefault();
      const step = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      zoomBy(Math.exp(limit(-event.deltaY * step, -240, 240) / 400), ...place(event));
    }, { passive: false });
    frame.addEventListener("dblclick", (event) => {
      zoomBy(zoom > 1 ? 1 / zoom : Math.max(onePixel(), 2), ...place(event));
    });
    frame.addEventListener("pointerdown", (event) => {
      panes.focus({ preventScroll: true });
      fingers.set(event.pointerId, place(event));
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      fingers.set(event.pointerId, now);
      if (other) {
        const apart = ([u, v]) => Math.hypot((u - other[0]) * frame.clientWidth, (v - other[1]) * frame.clientHeight);
        moveBy((before[0] - now[0]) / 2, (before[1] - now[1]) / 2);
        zoomBy(apart(now) / Math.max(apart(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else if (zoom > 1) {
        moveBy(before[0] - now[0], before[1] - now[1]);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      frame.addEventListener(end, (event) => fingers.delete(event.pointerId));
    }
  }

  tools.hidden = false;
  pictures[0].addEventListener("load", show);
  window.addEventListener("resize", show);
  show();
}

// The table: numbers sort by what is behind them and begin with the largest, names with the first.

const body = document.querySelector(".rows tbody");
const heads = [...document.querySelectorAll(".rows thead th")];
const names = new Intl.Collator("en", { numeric: true });

for (const cell of body.querySelectorAll("[data-shown]")) {
  const figure = document.getElementById(`picture-${cell.dataset.shown}`);
  if (!figure) continue;
  const link = document.createElement("a");
  link.href = `#${figure.id}`;
  link.append(...cell.childNodes);
  cell.append(link);
}

function read(value) {
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : Number(value);
}

heads.forEach((head, column) => head.addEventListener("click", () => {
  const current = head.getAttribute("aria-sort");
  const ascending = current === "none" ? column === 0 : current === "descending";
  const key = (row) => row.cells[column].dataset.value;
  const rows = [...body.rows];
  rows.sort((a, b) => {
    if (column === 0) return names.compare(a.cells[0].textContent, b.cells[0].textContent);
    const [one, two] = [read(key(a)), read(key(b))];
    return one === two ? 0 : one - two;
  });
  if (!ascending) rows.reverse();
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}));

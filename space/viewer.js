// The comparison slider: two pictures in one place, at their own aspect, zoomed and moved together.
//
// <div class="viewer" data-from="ID"> shows the view that Python writes as JSON into the element ID (see views.py), and
// swaps pictures only when they have arrived, so that nothing flashes.

class Viewer {
  static all = new Map(); // by the id of the element with the data
  static NEAREST = 8; // times as large as a pixel of the screen
  static STEP = 0.02;

  constructor(root) {
    this.root = root;
    this.strength = 1;
    this.share = 0.5;
    this.zoom = 1; // 1 is the whole picture
    this.offset = { x: 0, y: 0 };
    this.pointers = new Map();
    root.innerHTML = `
      <div class="stage">
        <img class="before" alt="The blurry photo" draggable="false">
        <img class="after" alt="The restored photo" draggable="false">
        <span class="tag left"></span><span class="tag right"></span><span class="tag preview" hidden>Preview</span>
        <div class="handle" role="slider" tabindex="0" aria-valuemin="0" aria-valuemax="100"><span></span></div>
      </div>
      <div class="tools" role="group" aria-label="View">
        <button type="button" data-do="out" aria-label="Zoom out">−</button>
        <output aria-label="Zoom">100&nbsp;%</output>
        <button type="button" data-do="in" aria-label="Zoom in">+</button>
        <button type="button" data-do="fit" aria-label="Show the whole photo">Fit</button>
        <button type="button" data-do="actual" aria-label="Show the photo's own pixels">1:1</button>
        <button type="button" data-do="full" aria-label="Full screen">Full screen</button>
      </div>
      <div class="magnifiers" hidden>
        <p>Where most has changed, at 1:1</p>
        <button type="button" class="before" aria-label="Look closer, blurry"><img alt="Blurry, at 1:1"></button>
        <button type="button" class="after" aria-label="Look closer, restored">
          <img alt=""><img class="over" alt="Restored, at 1:1">
        </button>
      </div>`;
    this.stage = root.querySelector(".stage");
    this.before = root.querySelector(".stage .before");
    this.after = root.querySelector(".stage .after");
    this.handle = root.querySelector(".handle");
    root.querySelector(".tools").addEventListener("click", (event) => this.press(event.target.dataset.do));
    root.addEventListener("keydown", (event) => this.onKey(event));
    this.stage.addEventListener("pointerdown", (event) => this.onDown(event));
    this.stage.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      this.stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    this.stage.addEventListener("dblclick", (event) => this.toggle(event));
    this.stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    root.querySelectorAll(".magnifiers button").forEach((button) => button.addEventListener("click", () => this.lookAtSpot()));
    new ResizeObserver(() => this.render()).observe(this.stage);
  }

  // What is shown ---------------------------------------------------------------------------------------------------

  async show(view) {
    this.wanted = view;
    const sources = [view.before, view.after];
    await Promise.all(sources.map(arrived));
    if (this.wanted !== view) return; // something newer came meanwhile
    const other = !this.view || this.view.before !== view.before;
    const samePhoto = this.view && this.view.width === view.width && this.view.height === view.height;
    this.view = view;
    [this.before.src, this.after.src] = sources;
    this.closer = false;
    if (other && !samePhoto) {
      this.zoom = 1;
      this.share = view.start;
    }
    const [left, right] = this.root.querySelectorAll(".tag");
    [left.textContent, right.textContent] = view.labels;
    this.before.alt = `${view.labels[0]} photo`;
    this.after.alt = `${view.labels[1]} photo`;
    this.handle.setAttribute("aria-label", `${view.labels[0]} on the left, ${view.labels[1].toLowerCase()} on the right`);
    this.root.querySelector(".tag.preview").hidden = !view.preview;
    this.root.dataset.shown = view.after;
    for (const image of [this.before, this.after]) {
      image.style.width = `${view.width}px`;
      image.style.height = `${view.height}px`;
    }
    // Panoramas and towers get bars rather than a sliver of a window.
    this.stage.style.setProperty("--aspect", Math.min(4, Math.max(0.4, view.width / view.height)));
    this.showSpot(view.spot);
    this.render();
  }

  showSpot(spot) {
    const place = this.root.querySelector(".magnifiers");
    place.hidden = !spot;
    if (!spot) return;
    const [left, under, over] = place.querySelectorAll("img");
    left.src = under.src = spot.before;
    over.src = spot.after;
    for (const image of [left, under, over]) image.style.aspectRatio = `${spot.width} / ${spot.height}`;
  }

  get fitted() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    return Math.min(width / this.view.width, height / this.view.height);
  }

  get scale() { // CSS pixels for each pixel of the photo
    return this.fitted * this.zoom;
  }

  render() {
    if (!this.view || !this.stage.clientWidth) return;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const scale = this.scale;
    const place = (outer, inner, at) => (inner <= outer ? (outer - inner) / 2 : Math.min(0, Math.max(outer - inner, at)));
    this.offset.x = place(width, this.view.width * scale, this.offset.x);
    this.offset.y = place(height, this.view.height * scale, this.offset.y);
    const { x, y } = this.offset;
    const left = Math.max(0, x);
    const right = Math.min(width, x + this.view.width * scale);
    const top = Math.max(0, y);
    const at = left + this.share * (right - left);
    const density = window.devicePixelRatio || 1;
    for (const image of [this.before, this.after]) {
      image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
      image.style.imageRendering = scale * density >= 2 ? "pixelated" : "auto";
    }
    this.after.style.clipPath = `inset(0 0 0 ${Math.max(0, (at - x) / scale)}px)`;
    this.after.style.opacity = this.strength;
    this.root.querySelector(".over").style.opacity = this.strength;
    Object.assign(this.handle.style, { left: `${at}px`, top: `${top}px`, height: `${Math.min(height, y + this.view.height * scale) - top}px` });
    this.handle.setAttribute("aria-valuenow", Math.round(100 * this.share));
    this.root.querySelector("output").textContent = `${Math.round(100 * scale * density)} %`;
    this.stage.classList.toggle("zoomed", this.zoom > 1.001);
    this.loadCloser(scale * density);
  }

  async loadCloser(scale) {
    const { full_before, full_after, width } = this.view;
    if (this.closer || !full_before || scale * width <= 1.1 * this.before.naturalWidth) return;
    const view = this.view;
    this.closer = true;
    await Promise.all([full_before, full_after].map(arrived));
    if (this.view === view) [this.before.src, this.after.src] = [full_before, full_after];
  }

  // Looking closer --------------------------------------------------------------------------------------------------

  zoomTo(zoom, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const before = this.scale;
    const most = Math.max(1, Viewer.NEAREST / this.fitted / (window.devicePixelRatio || 1));
    this.zoom = Math.min(most, Math.max(Math.min(1, this.actual), zoom)); // small photos fit when enlarged
    const ratio = this.scale / before;
    this.offset = { x: x - (x - this.offset.x) * ratio, y: y - (y - this.offset.y) * ratio };
    this.render();
  }

  get actual() { // the zoom at which a pixel of the photo is one of the screen
    return 1 / this.fitted / (window.devicePixelRatio || 1);
  }

  toggle(event) {
    const frame = this.stage.getBoundingClientRect();
    this.zoomTo(this.zoom > 1.001 ? 1 : Math.max(2, this.actual), event.clientX - frame.left, event.clientY - frame.top);
  }

  lookAtSpot() {
    const { x, y, width, height } = this.view.spot;
    this.zoomTo(this.actual);
    const { clientWidth, clientHeight } = this.stage;
    this.offset = { x: clientWidth / 2 - (x + width / 2) * this.scale, y: clientHeight / 2 - (y + height / 2) * this.scale };
    this.render();
    this.stage.scrollIntoView({ block: "nearest" });
  }

  press(action) {
    const acts = {
      in: () => this.zoomTo(this.zoom * 1.5),
      out: () => this.zoomTo(this.zoom / 1.5),
      fit: () => this.zoomTo(1),
      actual: () => this.zoomTo(this.actual),
      full: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen?.()),
    };
    if (this.view) acts[action]?.();
  }

  onWheel(event) {
    // The page scrolls as ever; with Ctrl (a pinch on a touchpad), in full screen or when zoomed in, the wheel zooms.
    if (!this.view || !(event.ctrlKey || event.metaKey || document.fullscreenElement || this.zoom > 1.001)) return;
    event.preventDefault();
    const frame = this.stage.getBoundingClientRect();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 300), event.clientX - frame.left, event.clientY - frame.top);
  }

  // The handle and the hand -----------------------------------------------------------------------------------------

  moveTo(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.render();
  }

  slideTo(clientX) {
    const frame = this.stage.getBoundingClientRect();
    const left = Math.max(0, this.offset.x);
    const right = Math.min(frame.width, this.offset.x + this.view.width * this.scale);
    this.moveTo((clientX - frame.left - left) / (right - left));
  }

  onDown(event) {
    if (!this.view || event.button > 0) return;
    this.pointers.set(event.pointerId, event);
    this.stage.setPointerCapture(event.pointerId);
    this.slides = this.zoom <= 1.001 || this.handle.contains(event.target);
    if (this.slides) this.slideTo(event.clientX);
    if (event.pointerType === "mouse") this.handle.focus({ preventScroll: true });
    event.preventDefault();
  }

  onMove(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const others = [...this.pointers.values()].filter((other) => other.pointerId !== event.pointerId);
    if (others.length) {
      const distance = (one, two) => Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
      const frame = this.stage.getBoundingClientRect();
      const [other] = others;
      const [x, y] = [(event.clientX + other.clientX) / 2 - frame.left, (event.clientY + other.clientY) / 2 - frame.top];
      this.zoomTo((this.zoom * distance(event, other)) / Math.max(1, distance(last, other)), x, y);
    } else if (this.slides) {
      this.slideTo(event.clientX);
    } else {
      this.offset.x += event.clientX - last.clientX;
      this.offset.y += event.clientY - last.clientY;
      this.render();
    }
    this.pointers.set(event.pointerId, event);
  }

  onKey(event) {
    const inTools = event.target.closest(".tools, .magnifiers");
    if (!this.view || event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = (x, y) => {
      this.offset.x += x;
      this.offset.y += y;
      this.render();
    };
    const acts = {
      "+": () => this.press("in"),
      "=": () => this.press("in"),
      "-": () => this.press("out"),
      0: () => this.press("fit"),
      1: () => this.press("actual"),
      f: () => this.press("full"),
    };
    if (!inTools && event.shiftKey && this.zoom > 1) {
      Object.assign(acts, {
        ArrowLeft: () => pan(60, 0),
        ArrowRight: () => pan(-60, 0),
        ArrowUp: () => pan(0, 60),
        ArrowDown: () => pan(0, -60),
      });
    } else if (!inTools) {
      Object.assign(acts, {
        ArrowLeft: () => this.moveTo(this.share - Viewer.STEP),
        ArrowRight: () => this.moveTo(this.share + Viewer.STEP),
        PageDown: () => this.moveTo(this.share - 5 * Viewer.STEP),
        PageUp: () => this.moveTo(this.share + 5 * Viewer.STEP),
        Home: () => this.moveTo(0),
        End: () => this.moveTo(1),
      });
    }
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }
}

// When a picture can be shown; also if it cannot be loaded, so that the other side is.
function arrived(source) {
  const image = new Image();
  image.src = source;
  return image.decode().catch(() => {});
}

// Fills each viewer with what its data element says now and whenever that changes.
function followData() {
  for (const root of document.querySelectorAll(".viewer[data-from]")) {
    if (!Viewer.all.has(root.dataset.from) || Viewer.all.get(root.dataset.from).root !== root) {
      Viewer.all.set(root.dataset.from, new Viewer(root));
    }
    const viewer = Viewer.all.get(root.dataset.from);
    const data = document.querySelector(`#${root.dataset.from} [data-view]`)?.dataset.view;
    if (data && data !== viewer.data) {
      viewer.data = data;
      viewer.show(JSON.parse(data));
    }
    root.hidden = !viewer.data;
  }
}

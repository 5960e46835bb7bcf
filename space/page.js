// What Gradio leaves out: a photo dropped or pasted anywhere on the page, and a comparison slider for keyboards.
() => {
  const STEP = 0.02;

  function takeIn(files) {
    const input = document.querySelector("#photo input[type=file]");
    if (!input || !files || files.length === 0) return false;
    const one = new DataTransfer();
    one.items.add(files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  }

  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const intoZone = (event) => event.target.closest?.("#photo");
  let depth = 0; // dragenter and dragleave come once for every element on the way
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("photo-above", depth > 0);
  };
  document.addEventListener("dragenter", (event) => carriesFiles(event) && mark(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && mark(-1));
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener(
    "drop",
    (event) => {
      mark(-depth);
      if (!carriesFiles(event) || intoZone(event)) return;
      event.preventDefault();
      takeIn(event.dataTransfer.files);
    },
    true,
  );
  document.addEventListener("paste", (event) => takeIn(event.clipboardData?.files) && event.preventDefault());

  // The handle takes mouse drags only: the arrow keys make the drag that a mouse would have made.
  const sides = () => [...document.querySelectorAll("#slider .content img")];
  const place = () => {
    const clip = /inset\(\S+ \S+ \S+ ([\d.]+)%/.exec(sides()[1]?.style.clipPath ?? "");
    return clip ? Number(clip[1]) / 100 : 0.5;
  };

  function moveTo(handle, share) {
    const frame = sides()[1].getBoundingClientRect();
    const at = (clientX) => ({ clientX, clientY: frame.top + frame.height / 2, bubbles: true, view: window, button: 0 });
    const knob = handle.querySelector(".inner") ?? handle;
    const from = frame.left + place() * frame.width;
    knob.dispatchEvent(new MouseEvent("mousedown", at(from)));
    window.dispatchEvent(new MouseEvent("mousemove", at(frame.left + Math.min(1, Math.max(0, share)) * frame.width)));
    window.dispatchEvent(new MouseEvent("mouseup", at(from)));
  }

  function onKey(event) {
    const moves = {
      ArrowLeft: place() - STEP,
      ArrowRight: place() + STEP,
      PageDown: place() - 5 * STEP,
      PageUp: place() + 5 * STEP,
      Home: 0,
      End: 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    moveTo(event.currentTarget, moves[event.key]);
  }

  function describe() {
    const [blurred, restored] = sides();
    if (blurred && !blurred.alt) blurred.alt = "The blurred photo";
    if (restored && !restored.alt) restored.alt = "The restored photo";
    const handle = document.querySelector("#slider [data-testid=slider]");
    if (!handle) return;
    if (handle.getAttribute("role") !== "slider") {
      handle.setAttribute("role", "slider");
      handle.setAttribute("tabindex", "0");
      handle.setAttribute("aria-label", "Blurred on the left, restored on the right");
      handle.setAttribute("aria-valuemin", "0");
      handle.setAttribute("aria-valuemax", "100");
      handle.addEventListener("keydown", onKey);
    }
    const now = String(Math.round(100 * place()));
    if (handle.getAttribute("aria-valuenow") !== now) handle.setAttribute("aria-valuenow", now);
  }

  const slider = document.querySelector("#slider");
  if (slider) new MutationObserver(describe).observe(slider, { subtree: true, childList: true, attributes: true });
  document.querySelector("#facts")?.setAttribute("aria-live", "polite");
  document.querySelectorAll("#gallery button").forEach((button) => {
    button.setAttribute("aria-label", `Example: ${button.querySelector(".caption-label")?.textContent.trim()}`);
  });
  describe();
}

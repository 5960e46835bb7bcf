// What Gradio leaves out: a photo dropped or pasted anywhere on the page, and the strength without a way to the server.

function takeIn(files) {
  const zone = [...document.querySelectorAll(".drop-zone")].find((one) => one.offsetParent !== null);
  const input = zone?.querySelector("input[type=file]");
  if (!input || !files || files.length === 0) return false;
  const taken = new DataTransfer();
  for (const file of input.multiple ? files : [files[0]]) taken.items.add(file);
  input.files = taken.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

function takeDrops() {
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
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
      if (!carriesFiles(event) || event.target.closest?.(".drop-zone")) return;
      event.preventDefault();
      takeIn(event.dataTransfer.files);
    },
    true,
  );
  document.addEventListener("paste", (event) => takeIn(event.clipboardData?.files) && event.preventDefault());
}

function followStrength() {
  document.addEventListener("input", (event) => {
    if (!event.target.closest?.("#strength")) return;
    const viewer = Viewer.all.get("view");
    viewer.strength = Math.min(1, Math.max(0, Number(event.target.value) / 100));
    viewer.render();
  });
}

// A picture of the list of many is shown in its viewer.
function followList() {
  document.addEventListener("click", (event) => {
    const item = event.target.closest?.("#list [data-item]");
    if (!item) return;
    Viewer.all.get("many-view")?.show(JSON.parse(item.dataset.item));
    document.querySelector(".viewer[data-from=many-view]").hidden = false;
  });
}

function nameExamples() {
  document.querySelectorAll("#gallery button").forEach((button) => {
    button.setAttribute("aria-label", `Example: ${button.querySelector(".caption-label")?.textContent.trim()}`);
  });
}

function startPage() {
  takeDrops();
  followStrength();
  followList();
  const look = () => {
    followData();
    nameExamples();
  };
  // Gradio changes what is there rather than putting something new in its place.
  const changes = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-view"] };
  new MutationObserver(look).observe(document.querySelector("gradio-app") ?? document.body, changes);
  look();
}

// The page: takes a photo, has the worker restore it, shows both, and gives the result back.

const MOST_MEGAPIXELS = 40; // a browser's tab has a few GB, and a photo takes up to 30 bytes a pixel

const $ = (id) => document.getElementById(id);
let worker, photo, name, restored, turns = 0;

fetch("model.json")
  .then((answer) => answer.json())
  .then((notes) => {
    const quality = notes.quality ? `, quality ${notes.quality}` : "";
    $("model").textContent = `Model ${notes.model}${quality}; ${notes.source}; licence ${notes.licence}.`;
  })
  .catch(() => complain("The model's description cannot be read; serve this folder over HTTP and open it again."));

$("file").addEventListener("change", ({ target }) => {
  take(target.files[0]);
  target.value = ""; // or choosing the same photo again would be no change
});
for (const kind of ["dragover", "dragleave", "drop"])
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
$("cancel").addEventListener("click", () => {
  stop();
  $("said").textContent = "Cancelled.";
});
$("slider").addEventListener("input", () => $("view").style.setProperty("--cut", `${$("slider").value}%`));
$("strength").addEventListener("input", show);
$("download").addEventListener("click", download);

async function take(file) {
  if (!file) return;
  const turn = ++turns;
  stop();
  complain("");
  $("result").hidden = true;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return complain(`${file.name}: is not a picture that this browser opens; save it as JPEG or PNG.`);
  }
  if (turn !== turns) return;
  const { width, height } = bitmap;
  if (width * height > MOST_MEGAPIXELS * 1e6)
    return complain(
      `${file.name}: has ${(width * height / 1e6).toFixed(0)} megapixels, and a browser has memory for ` +
        `${MOST_MEGAPIXELS}; make it smaller, or install deblur-hub.`,
    );
  name = file.name.replace(/\.[^.]*$/, "");
  for (const canvas of [$("before"), $("after")]) Object.assign(canvas, { width, height });
  const context = $("before").getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  photo = context.getImageData(0, 0, width, height);
  restore(photo.data, width, height);
}

function restore(pixels, width, height) {
  const started = performance.now();
  $("working").hidden = false;
  $("progress").value = 0;
  $("said").textContent = "Loading the model ...";
  worker ??= new Worker("worker.js", { type: "module" });
  worker.onerror = () => fail("The photo cannot be restored: this browser does not start the worker; take a newer one.");
  worker.onmessage = ({ data: { share, result, wrong } }) => {
    if (wrong) return fail(wrong);
    if (share) {
      $("progress").value = share;
      const left = ((performance.now() - started) / 1000) * (1 / share - 1);
      $("said").textContent = `${Math.round(100 * share)} %, about ${Math.ceil(left)} s left`;
      return;
    }
    restored = result;
    $("working").hidden = true;
    show();
    $("said").textContent = `Restored in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
    $("result").hidden = false;
  };
  worker.postMessage({ pixels, width, height });
}

// A blend of the photo, at strength 0, and the restored picture, at 1.
function show() {
  const strength = $("strength").value / 100;
  $("share").textContent = `${$("strength").value} %`;
  const shown = new ImageData(new Uint8ClampedArray(photo.data), photo.width, photo.height);
  for (let at = 0; at < shown.data.length; at++)
    shown.data[at] = photo.data[at] + strength * (restored[at] - photo.data[at]); // rounds
  $("after").getContext("2d").putImageData(shown, 0, 0);
}

function download() {
  $("after").toBlob((blob) => {
    if (!blob) return complain("This browser cannot write a picture of this size; make it smaller.");
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(blob),
      download: `${name}-deblurred.png`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
}

function fail(sentence) {
  stop();
  complain(sentence);
}

function complain(sentence) {
  $("wrong").textContent = sentence;
}

function stop() {
  if (!$("working").hidden) {
    worker?.terminate(); // in the middle of a photo; else it has the model ready for the next one
    worker = undefined;
  }
  $("working").hidden = true;
  $("said").textContent = "";
}

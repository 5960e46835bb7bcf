// Restores a photo in windows or tiles, one after another, and tells after each how much is done.

import { cut, reflected } from "./plan.js";

const TILE = 512; // pixels
const MOST_THREADS = 8;

let loaded;

self.onmessage = async ({ data: { pixels, width, height } }) => {
  try {
    loaded ??= load();
    const { session, ort, notes } = await loaded;
    const plan = cut(height, width, notes, TILE);
    const sum = new Float32Array(3 * width * height);
    for (const [number, { rows, columns }] of plan.entries()) {
      const piece = new ort.Tensor("float32", read(pixels, width, height, rows, columns), [1, 3, rows.size, columns.size]);
      const { restored } = await session.run({ picture: piece });
      add(sum, width, height, await restored.getData(), rows, columns);
      piece.dispose();
      restored.dispose();
      self.postMessage({ share: (number + 1) / plan.length });
    }
    const result = new Uint8ClampedArray(pixels);
    const plane = width * height;
    for (let at = 0; at < plane; at++)
      for (let colour = 0; colour < 3; colour++) result[4 * at + colour] = 255 * sum[colour * plane + at]; // rounds
    self.postMessage({ result }, [result.buffer]);
  } catch (reason) {
    loaded = undefined;
    self.postMessage({ wrong: `The photo cannot be restored here (${reason.message ?? reason}).` });
  }
};

async function load() {
  const notes = await (await fetch("model.json")).json();
  const gpu = await navigator.gpu?.requestAdapter().catch(() => null);
  if (gpu)
    try {
      return { ...(await start("webgpu", "asyncify")), notes };
    } catch (reason) {
      console.warn("WebGPU does not run this model, WebAssembly will:", reason);
    }
  return { ...(await start("wasm", "")), notes };
}

async function start(provider, kind) {
  const ort = await import(`./runtime/ort.${provider}.bundle.min.mjs`);
  const wasm = `ort-wasm-simd-threaded${kind && `.${kind}`}.wasm`;
  ort.env.wasm.wasmPaths = { wasm: new URL(`runtime/${wasm}`, import.meta.url).href };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  ort.env.logLevel = "error";
  const executionProviders = provider === "wasm" ? ["wasm"] : [provider, "wasm"];
  return { ort, session: await ort.InferenceSession.create("model.onnx", { executionProviders }) };
}

function read(pixels, width, height, rows, columns) {
  const plane = rows.size * columns.size;
  const piece = new Float32Array(3 * plane);
  for (let y = 0; y < rows.size; y++) {
    const row = reflected(rows.start + y, height) * width;
    for (let x = 0; x < columns.size; x++) {
      const from = 4 * (row + reflected(columns.start + x, width));
      const to = y * columns.size + x;
      for (let colour = 0; colour < 3; colour++) piece[colour * plane + to] = pixels[from + colour] / 255;
    }
  }
  return piece;
}

function add(sum, width, height, piece, rows, columns) {
  const plane = rows.size * columns.size;
  for (let y = rows.from; y < rows.to; y++)
    for (let x = columns.from; x < columns.to; x++) {
      const weight = rows.weight(y) * columns.weight(x);
      const from = (y - rows.start) * columns.size + x - columns.start;
      for (let colour = 0; colour < 3; colour++)
        sum[(colour * height + y) * width + x] += weight * piece[colour * plane + from];
    }
}

const MOST_EQUAL = 3; // windows along a side, of which all are of one size

// How a picture is cut, along each axis: { start, size } is read, [from, to) is kept and weighs `weight` at each pixel.

export function cut(height, width, notes, tile) {
  const spans = notes.windows
    ? (length) => windows(length, JSON.parse(notes.windows))
    : (length) => tiles(length, tile, Number(notes.receptive_field), Number(notes.size_multiple));
  return spans(height).flatMap((rows) => spans(width).map((columns) => ({ rows, columns })));
}

// An index beyond the picture, reflected as often as needed.
export function reflected(at, length) {
  const period = Math.max(1, 2 * (length - 1));
  const place = ((at % period) + period) % period;
  return Math.min(place, period - place, length - 1);
}

// Overlapping windows, blended by ramps that add up to one: the plan of deblur_hub/networks/windows.py.
function windows(length, { side, overlap, multiple }) {
  const count = length <= side ? 1 : Math.ceil((length - overlap) / (side - overlap));
  let units = Math.ceil((length + (count - 1) * overlap) / multiple);
  if (count <= MOST_EQUAL) units = Math.ceil(units / count) * count;
  const sizes = Array.from({ length: count }, (_, at) => multiple * (Math.floor(units / count) + (at < units % count)));
  if (count === 1) return [{ start: -Math.floor((sizes[0] - length) / 2), size: sizes[0], from: 0, to: length, weight: () => 1 }];
  const twice = units * multiple - length;
  let before = 0;
  const starts = sizes.map((size, at) => (before += size) - size + Math.floor((-twice * at) / (count - 1)));
  return starts.map((start, number) => {
    const size = sizes[number];
    const end = start + size;
    const fadeIn = number ? starts[number - 1] + sizes[number - 1] - start : 0;
    const fadeOut = number + 1 < count ? end - starts[number + 1] : 0;
    const weight = (at) =>
      Math.min(1, at - start < fadeIn ? (at - start + 0.5) / fadeIn : 1, end - at <= fadeOut ? (end - at - 0.5) / fadeOut : 1);
    return { start, size, from: start, to: end, weight };
  });
}

// Tiles with margins as wide as the network sees, on its grid; they end where the picture ends.
function tiles(length, tile, reach, multiple) {
  const step = Math.max(multiple, Math.floor(tile / multiple) * multiple);
  const margin = Math.ceil(reach / multiple) * multiple;
  const found = [];
  for (let from = 0; from < length; from += step) {
    const to = Math.min(from + step, length);
    const start = Math.max(0, from - margin);
    found.push({ start, size: Math.min(length, to + margin) - start, from, to, weight: () => 1 });
  }
  return found;
}

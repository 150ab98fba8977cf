// Pictures of a sound: its waveform with the hit in it, and a strip of heat below.

const BAR = 2;
const GAP = 1;

function prepared(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  return { context, width, height, colour: (name) => style.getPropertyValue(name).trim() };
}

// `view` has start_seconds, end_seconds and peaks; the hit lies somewhere in it.
export function drawWaveform(canvas, view, hit) {
  const { context, width, height, colour } = prepared(canvas);
  const { peaks } = view;
  const loudest = Math.max(0.02, ...peaks);
  const place = (seconds) => ((seconds - view.start_seconds) / (view.end_seconds - view.start_seconds)) * width;
  const begin = place(hit.start_seconds);
  const end = Math.max(begin + 3, place(hit.end_seconds));
  context.fillStyle = colour("--span");
  context.beginPath();
  context.roundRect(begin, 0, end - begin, height, 4);
  context.fill();
  for (let left = 0; left < width; left += BAR + GAP) {
    const first = Math.floor((left / width) * peaks.length);
    const last = Math.max(first + 1, Math.floor(((left + BAR + GAP) / width) * peaks.length));
    const most = Math.max(...peaks.slice(first, last)) / loudest;
    const tall = Math.max(1.5, most ** 0.75 * (height - 8)); // so that what is quiet is seen too
    const within = left + BAR > begin && left < end;
    context.fillStyle = colour(within ? "--wave-hit" : "--wave");
    context.fillRect(left, (height - tall) / 2, BAR, tall);
  }
}

// From 0, what is usual in the sound, over 0.5, where it counts as heard, to 1.
export function drawHeat(canvas, values) {
  const { context, width, height, colour } = prepared(canvas);
  context.fillStyle = colour("--heat-none");
  context.fillRect(0, 0, width, height);
  context.fillStyle = colour("--heat");
  for (let left = 0; left < width; left += 1) {
    const first = Math.floor((left / width) * values.length);
    const last = Math.max(first + 1, Math.floor(((left + 1) / width) * values.length));
    const value = Math.max(...values.slice(first, last));
    context.globalAlpha = value < 0.5 ? value * 0.5 : 0.4 + 0.6 * (2 * value - 1);
    context.fillRect(left, 0, 1, height);
  }
  context.globalAlpha = 1;
}

// Numbers in words.

export function clock(seconds, { tenth = false } = {}) {
  const tenths = tenth ? Math.round(seconds * 10) : Math.round(seconds) * 10;
  const whole = Math.floor(tenths / 10);
  const part = tenth ? `.${tenths % 10}` : "";
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}${part}` : `${minutes}:${two(whole % 60)}${part}`;
}

export const span = (begin, end) => `${clock(begin, { tenth: true })} – ${clock(end, { tenth: true })}`;

export const percent = (probability) => {
  if (probability < 0.01) return "under 1 %";
  return probability > 0.99 ? "over 99 %" : `${Math.round(probability * 100)} %`;
};

// How sure the model is that a hit sounds like what was asked for, and the number that says so.
export function sureness(hit) {
  if (hit.probability === null || hit.probability === undefined) {
    return { word: "Similarity", number: hit.score.toFixed(2), level: 1 };
  }
  const number = percent(hit.probability);
  if (hit.heard === false) return { word: "Probably not", number, level: 0 };
  if (hit.probability >= 0.9) return { word: "Almost certain", number, level: 3 };
  if (hit.probability >= 0.6) return { word: "Likely", number, level: 2 };
  return { word: "Possible", number, level: 1 };
}

export function times(count) {
  return ["not heard", "once", "twice"][count] ?? `${count} times`;
}

export function made(tag, { text = null, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

// What numbers and queries mean, in words.

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

// Where the words sound. Whether they do is what the hit says, of a whole stretch; a moment is less sound, and may be
// far from sure where the stretch is not, so that this says nothing that the hit may deny.
export function moments(count) {
  if (!count) return "No moment stands out; nearest at ";
  return `Stands out ${["", "once", "twice"][count] ?? `${count} times`}: `;
}

// What people write may be of any length and direction, and stands in a sentence of ours.
function whole(words) {
  const letters = [...words];
  return `\u2068${letters.length > 80 ? `${letters.slice(0, 80).join("")}…` : words}\u2069`;
}

// What was asked for: words, a sound of some name, or both, and what it shall not be like.
export function about({ words, name, unlike }) {
  const wanted = [words && `“${whole(words)}”`, name && whole(name)].filter(Boolean).join(" and ");
  return unlike ? `${wanted}, not like “${whole(unlike)}”` : wanted;
}

// Why a file of the index gives no sound.
export const plain = (error) =>
  error.status === 404 ? "This file has changed or gone since it was indexed." : error.message;

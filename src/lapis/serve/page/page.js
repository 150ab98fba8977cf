// The page: what is asked for, kept in the address, and the results.

import { onDrop } from "/page/drop.js";
import { get, made } from "/page/elements.js";
import { Hit } from "/page/hit.js";
import { onKeys } from "/page/keyboard.js";
import { Refused, ask } from "/page/server.js";
import { about } from "/page/words.js";

const EXAMPLES = ["rain on a roof", "ein Hund bellt", "鸟儿在森林里歌唱", "pasos sobre grava", "火が燃えている", "a crowd of people"];
const RESULTS = 20;
const DRAWN_AT_ONCE = 2;

const [form, query, file, status, results] = ["search", "query", "file", "status", "results"].map(get);
const more = get("more");
const inputs = [...get("filters").querySelectorAll("input")];
const sounds = new Map(); // the files that entries of the browser's history search by
let model = null;
let asking = null;
let hits = [];
let search = new AbortController();
let sound = null; // the file to search by

// ---- searching

// The model, which is asked for again until the server tells.
const known = () => (asking ??= ask("/v1/models").then(({ data: [told] }) => {
  model = told;
  get("model").textContent = model.id;
  get("below-field").hidden = !model.folders;
  if (!model.can.includes("search")) {
    throw new Refused(404, "This server has no index to search in: start it with --index.");
  }
  return model;
}).catch((error) => {
  asking = null;
  throw error;
}));

function conditions() {
  const fields = {};
  for (const input of inputs) {
    const value = input.value.trim();
    if (!value || input.closest("[hidden]")) continue;
    if (input.name === "tags") fields.tags = value.split(",").map((tag) => tag.trim()).filter(Boolean);
    else fields[input.name] = input.type === "number" ? Number(value) : value;
  }
  const many = Object.keys(fields).length;
  get("filters-set").textContent = many ? ` (${many})` : "";
  return fields;
}

async function searched({ isNew = true } = {}) {
  search.abort();
  search = new AbortController();
  const { signal } = search;
  const asked = { words: query.value.trim(), file: sound };
  const begun = Boolean(asked.words || asked.file);
  get("welcome").hidden = begun;
  if (!begun) return cleared("");
  status.textContent = asked.file ? `Listening to ${about({ name: asked.file.name })}…` : "Searching…";
  results.setAttribute("aria-busy", "true");
  try {
    const { results: most, body_bytes } = await known();
    signal.throwIfAborted();
    const fields = conditions();
    if (isNew) keep(asked, fields);
    fields.limit = Math.min(RESULTS, most);
    if (asked.words) fields.query = asked.words;
    let found;
    if (asked.file) {
      if (asked.file.size + (1 << 16) > body_bytes) { // which would be broken off, and no reason heard
        const [has, takes] = [asked.file.size, body_bytes].map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`);
        throw new Refused(413, `${asked.file.name} has ${has}, and this server takes ${takes}: choose a part of it.`);
      }
      const body = new FormData();
      body.append("file", asked.file);
      for (const [name, value] of Object.entries(fields)) for (const one of [value].flat()) body.append(name, one);
      found = await ask("/v1/search", { form: body, signal });
    } else {
      found = await ask("/v1/search", { body: fields, signal });
    }
    show(found, { words: asked.words, name: asked.file?.name, unlike: fields.unlike, signal });
  } catch (error) {
    if (error.name === "AbortError") return;
    cleared("");
    failed(error);
  } finally {
    if (!signal.aborted) results.removeAttribute("aria-busy");
  }
}

function cleared(sentence) {
  hits = [];
  results.replaceChildren();
  results.removeAttribute("aria-busy");
  get("nothing").hidden = more.hidden = true;
  status.textContent = sentence;
}

function failed(error) {
  if (!(error instanceof Refused)) throw error;
  const sentence = error.message.replace(/^\w+(?=: )/, (name) => labelOf(name) ?? name);
  status.textContent = sentence[0].toUpperCase() + sentence.slice(1) + (/[.!?]$/.test(sentence) ? "" : ".");
}

// What the page calls a field of the server.
const labelOf = (name) => inputs.find((input) => input.name === name)?.closest("label").firstChild.data.trim();

function show(found, { signal, ...asked }) {
  for (const observer of [seen, sized]) observer.disconnect();
  line.length = 0;
  const words = asked.words || null;
  hits = found.data.map((hit) => new Hit(hit, { words, signal }));
  results.replaceChildren(...hits.map((hit) => hit.element));
  const none = found.nothing_matches || !hits.length;
  const nothing = get("nothing");
  nothing.hidden = !none;
  results.hidden = none;
  if (none) {
    const [title, why, button] = nothing.children;
    title.textContent = `Nothing here matches ${about(asked)}.`;
    const narrowed = Object.keys(conditions()).some((name) => name !== "unlike");
    const empty = narrowed ? "No sound is left by the filters." : "There is no sound in this index yet.";
    why.textContent = hits.length
      ? `By its calibration the model hears it in none of the ${hits.length} nearest sounds.`
      : empty;
    button.hidden = !hits.length;
    status.textContent = title.textContent;
  } else {
    const one = hits.length === 1 ? "1 sound" : `${hits.length} sounds`;
    const heard = hits.filter((hit) => hit.heard).length;
    const told = heard ? `${heard} of the ${hits.length} nearest ${heard === 1 ? "counts" : "count"} as a match` : one;
    status.textContent = asked.name ? `The ${one} nearest to ${about(asked)}` : `${told} for ${about(asked)}, the best first`;
    if (words && !model.calibrated) {
      status.textContent += ". This model has no calibration: it tells the order, not whether it is there.";
    }
  }
  const rest = hits.filter((hit) => hit.heard === false);
  more.hidden = none || !rest.length;
  more.textContent = `Show ${rest.length} more, probably not it`;
  results.classList.toggle("brief", !none && rest.length > 0);
  for (const hit of hits) {
    seen.observe(hit.element);
    sized.observe(hit.picture);
  }
}

function showAll() {
  const first = hits.find((hit) => !hit.element.getClientRects().length);
  get("nothing").hidden = true;
  more.hidden = true;
  results.hidden = false;
  results.classList.remove("brief");
  first?.play.focus();
}

// ---- the address, which a browser keeps and people pass on

function keep({ words, file: given }, fields) {
  const told = new URLSearchParams(words ? { q: words } : {});
  for (const [name, value] of Object.entries(fields)) told.set(name, [value].flat().join(", "));
  const hash = String(told) && `#${told}`;
  if (hash === location.hash && given === (sounds.get(history.state) ?? null)) return;
  const state = given && Date.now();
  if (given) sounds.set(state, given);
  history.pushState(state, "", location.pathname + hash);
}

function restore() {
  const told = new URLSearchParams(location.hash.slice(1));
  query.value = told.get("q") ?? "";
  for (const input of inputs) input.value = told.get(input.name) ?? "";
  hold(sounds.get(history.state) ?? null);
  searched({ isNew: false });
}
addEventListener("popstate", restore);

// ---- pictures are drawn when they come into sight

const line = [];
let drawing = 0;

async function drawNext() {
  if (drawing >= DRAWN_AT_ONCE || !line.length) return;
  drawing += 1;
  await line.shift().load().catch(() => {}); // the hit says why
  drawing -= 1;
  drawNext();
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((of) => of.isIntersecting)) {
    seen.unobserve(entry.target);
    const hit = hits.find((of) => of.element === entry.target);
    if (hit) line.push(hit);
  }
  for (let free = drawing; free < DRAWN_AT_ONCE; free += 1) drawNext();
}, { rootMargin: "200px" });

const sized = new ResizeObserver((entries) => {
  for (const entry of entries) hits.find((hit) => hit.picture === entry.target)?.draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => hits.forEach((hit) => hit.draw()));

// ---- what people do

form.addEventListener("submit", (event) => {
  event.preventDefault();
  searched();
});
get("filters").addEventListener("change", () => searched());
get("clear").addEventListener("click", () => {
  for (const input of inputs) input.value = "";
  conditions();
  searched();
});
more.addEventListener("click", showAll);
get("nothing").querySelector("button").addEventListener("click", () => {
  status.textContent = "The nearest sounds, though none counts as a match";
  showAll();
});

// Words that are written later are searched for together with the sound.
function hold(given) {
  sound = given;
  file.value = "";
  get("given-name").textContent = given ? `♪ ${given.name}` : "";
  get("given").hidden = !given;
  query.placeholder = given ? "Add words, if you like" : "Describe a sound, in any language";
}

function listenTo(given) {
  query.value = "";
  hold(given);
  searched();
}

file.addEventListener("change", () => file.files[0] && listenTo(file.files[0]));
get("forget").addEventListener("click", () => {
  hold(null);
  searched();
  query.focus();
});

onDrop(listenTo);
onKeys({ query, hits: () => hits });

// ---- the beginning

for (const words of EXAMPLES) {
  const example = made("button", { type: "button", text: words, dir: "auto" });
  example.addEventListener("click", () => {
    query.value = words;
    hold(null);
    searched();
  });
  get("examples").append(made("li", {}, example));
}

restore();
known().catch(failed);

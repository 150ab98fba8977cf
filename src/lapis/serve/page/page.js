// The page: a search, its results, and one player for all of them.

import { drawHeat, drawWaveform } from "/page/drawing.js";
import { Refused, ask } from "/page/server.js";
import { clock, made, span, sureness, times } from "/page/words.js";

const EXAMPLES = ["rain on a roof", "ein Hund bellt", "鸟儿在森林里歌唱", "pasos sobre grava", "火が燃えている", "a crowd of people"];
const RESULTS = 20;
const STEP_SECONDS = 2;
const DRAWN_AT_ONCE = 2;

const get = (id) => document.getElementById(id);
const [form, query, file, status, results] = ["search", "query", "file", "status", "results"].map(get);
const audio = get("audio");
const more = get("more");
let model = null;
let current = null; // the hit in the player
let hits = [];
let search = new AbortController();
let sound = null; // the file to search by

// ---- searching

function conditions() {
  const fields = {};
  for (const input of get("filters").querySelectorAll("input")) {
    const value = input.value.trim();
    if (!value || input.closest("[hidden]")) continue;
    if (input.name === "tags") fields.tags = value.split(",").map((tag) => tag.trim()).filter(Boolean);
    else fields[input.name] = input.type === "number" ? Number(value) : value;
  }
  const many = Object.keys(fields).length;
  get("filters-set").textContent = many ? ` (${many})` : "";
  return fields;
}

async function searched() {
  const words = query.value.trim();
  const fields = { ...conditions(), limit: Math.min(RESULTS, 100) };
  if (!words && !sound) return;
  search.abort();
  search = new AbortController();
  const { signal } = search;
  get("welcome").hidden = true;
  status.textContent = sound ? `Listening to ${sound.name}…` : "Searching…";
  results.setAttribute("aria-busy", "true");
  try {
    let found;
    if (sound) {
      const body = new FormData();
      body.append("file", sound);
      for (const [name, value] of Object.entries(fields)) for (const one of [value].flat()) body.append(name, one);
      found = await ask("/v1/search", { form: body, signal });
    } else {
      history.replaceState(null, "", `#q=${encodeURIComponent(words)}`);
      found = await ask("/v1/search", { body: { query: words, ...fields }, signal });
    }
    show(found, sound ? null : words);
  } catch (error) {
    if (error.name === "AbortError") return;
    hits = [];
    results.replaceChildren();
    get("nothing").hidden = more.hidden = true;
    failed(error);
  } finally {
    if (!signal.aborted) results.removeAttribute("aria-busy");
  }
}

function failed(error) {
  if (!(error instanceof Refused)) throw error;
  const sentence = error.message;
  status.textContent = sentence[0].toUpperCase() + sentence.slice(1) + (/[.!?]$/.test(sentence) ? "" : ".");
}

function show(found, words) {
  hits = found.data.map((hit) => new Hit(hit, words));
  results.replaceChildren(...hits.map((hit) => hit.element));
  const nothing = get("nothing");
  const none = found.nothing_matches || !hits.length;
  nothing.hidden = !none;
  results.hidden = none;
  const about = words === null ? `sounds like ${sound.name}` : `“${words}”`;
  if (none) {
    const [title, why, button] = nothing.children;
    title.textContent = words === null ? "Nothing here sounds like that." : `Nothing here matches ${about}.`;
    const narrowed = Object.keys(conditions()).length > 0;
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
    status.textContent = words === null ? `The ${one} most like ${sound.name}` : `${told} for ${about}, the best first`;
    if (words !== null && !model?.calibrated) {
      status.textContent += ". This model has no calibration: it tells the order, not whether it is there.";
    }
  }
  const rest = hits.filter((hit) => hit.heard === false);
  more.hidden = none || !rest.length;
  more.textContent = `Show ${rest.length} more, probably not it`;
  results.classList.toggle("brief", !none && rest.length > 0);
  for (const hit of hits) hit.watch();
}

function showAll() {
  const first = hits.find((hit) => !hit.element.getClientRects().length);
  get("nothing").hidden = true;
  more.hidden = true;
  results.hidden = false;
  results.classList.remove("brief");
  first?.play.focus();
}

// ---- a result

const line = [];
let drawing = 0;

async function drawNext() {
  if (drawing >= DRAWN_AT_ONCE || !line.length) return;
  drawing += 1;
  await line.shift().load().catch(() => {});
  drawing -= 1;
  drawNext();
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((of) => of.isIntersecting)) {
    seen.unobserve(entry.target);
    const hit = hits.find((of) => of.element === entry.target);
    if (hit) line.push(hit);
  }
  drawNext();
}, { rootMargin: "200px" });

class Hit {
  constructor(found, words) {
    Object.assign(this, { ...found, words, view: null, heat: null, loading: null });
    const { signal } = search;
    this.signal = signal;
    const cut = found.name.lastIndexOf("/") + 1;
    const when = span(found.start_seconds, found.end_seconds);
    const sure = sureness(found);
    this.play = made("button", { type: "button", class: "play" }, made("span", { class: "glyph" }));
    this.play.setAttribute("aria-label", `Play ${found.name} from ${clock(found.start_seconds)}`);
    this.when = made("p", { class: "when", text: when });
    this.wave = made("canvas", { class: "wave" });
    this.strip = made("canvas", { class: "strip" });
    this.head = made("span", { class: "head" });
    this.picture = made("div", { class: "picture", "aria-hidden": "true" }, this.wave, this.strip, this.head);
    this.where = made("div", { class: "where" });
    this.element = made(
      "li",
      { class: found.heard === false ? "hit unheard" : "hit" },
      made("div", { class: "top" },
        this.play,
        made("div", { class: "about" },
          made("h2", { dir: "auto" },
            made("span", { class: "folder", text: found.name.slice(0, cut) }), found.name.slice(cut)),
          this.when),
        made("p", { class: `sure level-${sure.level}` }, made("strong", { text: sure.word }), ` ${sure.number}`)),
      this.picture,
      this.where,
    );
    this.strip.hidden = true;
    this.head.hidden = true;
    if (words !== null) {
      this.locate = made("button", { type: "button", class: "locate", text: "Where does it sound?" });
      this.locate.setAttribute("aria-label", `Where does it sound in ${found.name}?`);
      this.locate.addEventListener("click", () => this.located());
      this.where.append(this.locate);
    }
    this.play.addEventListener("click", () => (current === this ? toggled() : start(this)));
    this.picture.addEventListener("click", (event) => {
      if (!this.view) return;
      const box = this.picture.getBoundingClientRect();
      const part = (event.clientX - box.left) / box.width;
      start(this, this.view.start_seconds + part * (this.view.end_seconds - this.view.start_seconds));
    });
  }

  watch() {
    seen.observe(this.element);
    sized.observe(this.picture);
  }

  // Its peaks, and the address of its sound, which may be good for an hour only.
  load({ again = false } = {}) {
    if (again) this.loading = null;
    this.loading ??= ask(`/v1/sounds/${this.id}/peaks?points=800&around_seconds=${this.start_seconds}`, {
      signal: again ? null : this.signal,
    }).then((view) => {
      this.view = view;
      this.when.textContent = `${span(this.start_seconds, this.end_seconds)} of ${clock(view.seconds)}`;
      this.draw();
    }, (error) => {
      this.loading = null;
      if (error.name !== "AbortError") this.where.replaceChildren(made("p", { class: "gone", text: plain(error) }));
      throw error;
    });
    return this.loading;
  }

  draw() {
    if (this.view) drawWaveform(this.wave, this.view, this);
    if (this.heat) drawHeat(this.strip, this.heat);
  }

  async located() {
    if (this.words === null || this.locate.disabled) return;
    this.locate.disabled = true;
    this.locate.textContent = "Listening…";
    try {
      await this.load();
      const { start_seconds, end_seconds } = this.view;
      const body = { id: this.id, texts: [this.words], heat: true, start_seconds };
      body.seconds = end_seconds - start_seconds;
      const [found] = (await ask("/v1/locate", { body, signal: this.signal })).found;
      this.heat = found.heat;
      this.strip.hidden = false;
      this.draw();
      const told = found.count ? `Heard ${times(found.count)}: ` : "Nowhere surely; nearest at ";
      const spans = found.count ? found.spans : [found.nearest];
      const said = made("p", { class: "spans", role: "status", text: told });
      for (const one of spans) {
        const text = span(one.begin_seconds, one.end_seconds);
        const jump = made("button", { type: "button", text, "aria-label": `Play from ${clock(one.begin_seconds)}` });
        jump.addEventListener("click", () => start(this, one.begin_seconds));
        said.append(jump);
      }
      const had = document.activeElement === document.body || this.where.contains(document.activeElement);
      this.where.replaceChildren(said);
      if (had) said.querySelector("button").focus();
    } catch (error) {
      this.locate.disabled = false;
      this.locate.textContent = "Where does it sound?";
      if (error.name !== "AbortError" && this.where.contains(this.locate)) {
        this.where.append(made("p", { class: "gone", text: plain(error) }));
      }
    }
  }
}

const plain = (error) => (error.status === 404 ? "This file has changed or gone since it was indexed." : error.message);

const sized = new ResizeObserver((entries) => {
  for (const entry of entries) hits.find((hit) => hit.picture === entry.target)?.draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => hits.forEach((hit) => hit.draw()));

// ---- the player

async function start(hit, seconds = hit.start_seconds) {
  const other = current !== hit;
  if (other && current) marked(current, false);
  current = hit;
  marked(hit, true);
  get("player").hidden = false;
  document.body.classList.add("has-player");
  get("playing").textContent = hit.name;
  try {
    if (!hit.view) await hit.load();
  } catch (error) {
    get("playing").textContent = `${hit.name}: ${plain(error)}`;
    return;
  }
  if (current !== hit) return;
  if (other || audio.error) {
    hit.retried = false;
    audio.src = hit.view.sound;
  }
  get("seek").max = hit.view.seconds;
  audio.currentTime = Math.max(0, seconds);
  await audio.play().catch((error) => {
    if (error.name !== "AbortError" && error.name !== "NotSupportedError") throw error; // what failed is told below
  });
}

function toggled() {
  if (!current) return;
  if (audio.paused) audio.play();
  else audio.pause();
}

function marked(hit, is) {
  hit.element.classList.toggle("current", is);
  hit.head.hidden = !is;
  if (!is) hit.element.classList.remove("sounding");
}

function follow() {
  if (!current?.view) return;
  const { currentTime } = audio;
  const { start_seconds, end_seconds, seconds } = current.view;
  const part = (currentTime - start_seconds) / (end_seconds - start_seconds);
  current.head.style.left = `${100 * Math.min(1, Math.max(0, part))}%`;
  get("seek").value = currentTime;
  get("seek").setAttribute("aria-valuetext", `${clock(currentTime)} of ${clock(seconds)}`);
  get("clock").textContent = `${clock(Math.floor(currentTime))} / ${clock(seconds)}`;
  if (!audio.paused) requestAnimationFrame(follow);
}

for (const name of ["play", "pause", "ended"]) {
  audio.addEventListener(name, () => {
    const sounding = !audio.paused && !audio.ended;
    document.body.classList.toggle("sounding", sounding);
    current?.element.classList.toggle("sounding", sounding);
    get("toggle").setAttribute("aria-label", sounding ? "Pause" : "Play");
    follow();
  });
}
audio.addEventListener("seeked", follow);
audio.addEventListener("error", async () => {
  if (!current || audio.error?.code === MediaError.MEDIA_ERR_ABORTED) return;
  const hit = current;
  if (hit.retried) {
    get("playing").textContent = `${hit.name}: it cannot be played`;
    return;
  }
  hit.retried = true; // its address may have been good for an hour only
  const at = audio.currentTime || hit.start_seconds;
  await hit.load({ again: true }).catch(() => {});
  if (current !== hit) return;
  audio.src = hit.view.sound;
  audio.currentTime = at;
  audio.play().catch(() => {});
});
get("toggle").addEventListener("click", toggled);
get("seek").addEventListener("input", (event) => {
  audio.currentTime = Number(event.target.value);
  follow();
});

// ---- what people do

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (query.value.trim()) forget();
  searched();
});
get("filters").addEventListener("change", searched);
get("clear").addEventListener("click", () => {
  for (const input of get("filters").querySelectorAll("input")) input.value = "";
  conditions();
  searched();
});
more.addEventListener("click", showAll);
get("nothing").querySelector("button").addEventListener("click", () => {
  status.textContent = "The nearest sounds, though none counts as a match";
  showAll();
});

function listenTo(given) {
  sound = given;
  query.value = "";
  history.replaceState(null, "", location.pathname);
  get("given-name").textContent = `♪ ${given.name}`;
  get("given").hidden = false;
  searched();
}

function forget() {
  sound = null;
  file.value = "";
  get("given").hidden = true;
}

file.addEventListener("change", () => file.files[0] && listenTo(file.files[0]));
get("forget").addEventListener("click", () => {
  forget();
  query.focus();
});

let over = 0;
const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => {
  if (!holds(event)) return;
  over += 1;
  get("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (holds(event)) over = Math.max(0, over - 1);
  get("drop").hidden = !over;
});
addEventListener("dragover", (event) => holds(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!holds(event)) return;
  event.preventDefault();
  over = 0;
  get("drop").hidden = true;
  const [given] = event.dataTransfer.files;
  if (given) listenTo(given);
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || get("key").open) return;
  const target = event.target;
  const typing = target instanceof HTMLInputElement && target.type !== "file";
  const at = hits.findIndex((hit) => hit.element.contains(target));
  const here = hits[at] ?? current;
  const focusOn = (number) => {
    const visible = hits.filter((hit) => hit.element.getClientRects().length);
    const shown = visible[Math.min(Math.max(number, 0), visible.length - 1)];
    if (!shown) return false;
    shown.play.focus();
    shown.element.scrollIntoView({ block: "nearest" });
    return true;
  };
  const done = (() => {
    if (event.key === "ArrowDown" && (target === query || !typing)) return focusOn(at + 1);
    if (event.key === "ArrowUp" && !typing) return at === 0 ? (query.focus(), true) : focusOn(at < 0 ? 0 : at - 1);
    if (event.key === "Escape" && !typing) return query.focus(), true;
    if (typing) return false;
    if (event.key === "/") return query.focus(), query.select(), true;
    if (event.key === "Enter" && at >= 0 && target === hits[at].play) return start(hits[at]), true;
    const pressed = target.closest("button, summary, a, label");
    if (event.key === " " && !pressed && current) return toggled(), true;
    if (event.key === "h" && here?.locate) return here.located(), true;
    const step = { ArrowLeft: -STEP_SECONDS, ArrowRight: STEP_SECONDS }[event.key];
    if (step && current?.view) {
      audio.currentTime = Math.min(Math.max(0, audio.currentTime + step), current.view.seconds);
      return true;
    }
    return false;
  })();
  if (done) event.preventDefault();
});

// ---- the beginning

for (const words of EXAMPLES) {
  const example = made("button", { type: "button", text: words, dir: "auto" });
  example.addEventListener("click", () => {
    query.value = words;
    forget();
    searched();
  });
  get("examples").append(made("li", {}, example));
}

ask("/v1/models").then(({ data: [told] }) => {
  model = told;
  get("model").textContent = told.id;
  get("below-field").hidden = !told.folders;
  if (!told.can.includes("search")) {
    status.textContent = "This server has no index to search in: start it with --index.";
    return;
  }
  const asked = new URLSearchParams(location.hash.slice(1)).get("q");
  if (asked) {
    query.value = asked;
    searched();
  }
}, failed);

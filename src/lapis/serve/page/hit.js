// A result: what was found, its picture, and where in its file the words sound.

import { drawHeat, drawWaveform } from "/page/drawing.js";
import { made } from "/page/elements.js";
import { follow, isHeld, start, toggle } from "/page/player.js";
import { ask } from "/page/server.js";
import { clock, moments, plain, span, sureness } from "/page/words.js";

const SPANS = 12;

export class Hit {
  // `words` are listened for; null where none were given.
  constructor(found, { words, signal }) {
    Object.assign(this, { ...found, words, signal, view: null, heat: null, loading: null, failedAt: null });
    const cut = found.name.lastIndexOf("/") + 1;
    const sure = sureness(found);
    this.play = made("button", { type: "button", class: "play" }, made("span", { class: "glyph" }));
    this.play.setAttribute("aria-label", `Play ${found.name} from ${clock(found.start_seconds)}`);
    this.when = made("p", { class: "when", text: span(found.start_seconds, found.end_seconds) });
    this.wave = made("canvas", { class: "wave" });
    this.strip = made("canvas", { class: "strip" });
    this.head = made("span", { class: "head" });
    this.picture = made("div", { class: "picture", "aria-hidden": "true" }, this.wave, this.strip, this.head);
    this.where = made("div", { class: "where" });
    this.wrong = made("p", { class: "wrong", role: "status" });
    this.element = made(
      "li",
      { class: found.heard === false ? "hit unheard" : "hit" },
      made("div", { class: "top" },
        this.play,
        made("div", { class: "about" },
          made("h2", { dir: "auto", title: found.name },
            made("span", { class: "folder", text: found.name.slice(0, cut) }), found.name.slice(cut)),
          this.when),
        made("p", { class: `sure level-${sure.level}` }, made("strong", { text: sure.word }), ` ${sure.number}`)),
      this.picture,
      this.where,
      this.wrong,
    );
    this.strip.hidden = true;
    this.head.hidden = true;
    if (words !== null) {
      this.locate = made("button", { type: "button", class: "locate", text: "Where does it sound?" });
      this.locate.setAttribute("aria-label", `Where does it sound in ${found.name}?`);
      this.locate.addEventListener("click", () => this.located());
      this.where.append(this.locate);
    }
    this.play.addEventListener("click", () => (isHeld(this) ? toggle() : start(this)));
    this.picture.addEventListener("click", (event) => {
      if (!this.view) return;
      const box = this.picture.getBoundingClientRect();
      const part = (event.clientX - box.left) / box.width;
      start(this, this.view.start_seconds + part * (this.view.end_seconds - this.view.start_seconds));
    });
  }

  // The address of its sound, which may be good for an hour only.
  get sound() {
    return this.view?.sound ?? `/v1/sounds/${this.id}`;
  }

  // Its peaks, and with them its length and the address of its sound.
  load({ again = false } = {}) {
    if (again) this.loading = null;
    this.loading ??= ask(`/v1/sounds/${this.id}/peaks?points=800&around_seconds=${this.start_seconds}`).then((view) => {
      this.view = view;
      this.when.textContent = `${span(this.start_seconds, this.end_seconds)} of ${clock(view.seconds)}`;
      this.wrong.textContent = "";
      this.draw();
      follow();
    }, (error) => {
      this.loading = null;
      this.wrong.textContent = plain(error);
      throw error;
    });
    return this.loading;
  }

  draw() {
    if (this.view) drawWaveform(this.wave, this.view, this);
    if (this.heat) drawHeat(this.strip, this.heat);
  }

  // Whether it is the one in the player.
  marked(is) {
    this.element.classList.toggle("current", is);
    this.head.hidden = !is;
    if (!is) this.element.classList.remove("sounding");
  }

  async located() {
    if (this.words === null || this.locate.disabled) return;
    this.locate.disabled = true;
    this.locate.textContent = "Listening…";
    try {
      await this.load();
      const { start_seconds, end_seconds } = this.view;
      const body = { id: this.id, texts: [this.words], heat: true, start_seconds, seconds: end_seconds - start_seconds };
      const [found] = (await ask("/v1/locate", { body, signal: this.signal })).found;
      this.heat = found.heat;
      this.strip.hidden = false;
      this.wrong.textContent = "";
      this.draw();
      this.#tell(found);
    } catch (error) {
      this.locate.disabled = false;
      this.locate.textContent = "Where does it sound?";
      if (error.name !== "AbortError") this.wrong.textContent = plain(error);
    }
  }

  #tell(found) {
    const spans = found.count ? found.spans : [found.nearest];
    const said = made("p", { class: "spans", role: "status", text: moments(found.count) });
    for (const one of spans.slice(0, SPANS)) {
      const text = span(one.begin_seconds, one.end_seconds);
      const jump = made("button", { type: "button", text, "aria-label": `Play from ${clock(one.begin_seconds)}` });
      jump.addEventListener("click", () => start(this, one.begin_seconds));
      said.append(jump);
    }
    if (spans.length > SPANS) said.append(`and ${spans.length - SPANS} times more`);
    const had = document.activeElement === document.body || this.where.contains(document.activeElement);
    this.where.replaceChildren(said);
    if (had) said.querySelector("button").focus();
  }
}

// What the page asks of its server. A key, where there is one, goes in a header and stays in this tab.

import { get } from "/page/elements.js";

const STORED = "lapis-key";
const AGAIN = 3;
const WRONG = "That is none of its keys.";
let waiting = null;

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const hasKey = () => sessionStorage.getItem(STORED) !== null;

export async function ask(path, { body = null, form = null, signal = null } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const key = sessionStorage.getItem(STORED);
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    if (body) headers["content-type"] = "application/json";
    const answer = await fetch(path, {
      method: body || form ? "POST" : "GET",
      headers,
      body: form ?? (body && JSON.stringify(body)),
      signal,
      credentials: "omit",
    }).catch(failedWith(form ? "The server does not answer, or the sound cannot be sent." : "The server does not answer."));
    if (answer.ok) return answer.json().catch(failedWith("The server's answer breaks off."));
    if (answer.status === 401) {
      await keyAsked(key);
      continue;
    }
    const told = await answer.json().catch(() => null);
    const later = Number(answer.headers.get("retry-after"));
    if ((answer.status === 429 || answer.status === 503) && later && later <= 5 && attempt < AGAIN) {
      await new Promise((done) => setTimeout(done, later * 1000));
      signal?.throwIfAborted();
      continue;
    }
    throw new Refused(answer.status, told?.error?.message || `The server answers ${answer.status}.`);
  }
}

const failedWith = (sentence) => (error) => {
  throw error.name === "AbortError" ? error : new Refused(0, sentence);
};

// One question for all requests that wait for it; `tried` is the key that was refused.
function keyAsked(tried) {
  waiting ??= new Promise((done, fail) => {
    const dialog = get("key");
    const value = get("key-value");
    get("key-wrong").textContent = tried ? WRONG : "";
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const key = value.value.trim();
      value.value = "";
      if (!/^[\x21-\x7e]+$/.test(key)) { // a header has no others
        get("key-wrong").textContent = WRONG;
        return;
      }
      sessionStorage.setItem(STORED, key);
      waiting = null;
      dialog.close();
      done();
    };
    dialog.onclose = () => {
      if (!waiting || dialog.open) return; // its event comes late
      waiting = null;
      fail(new Refused(401, "This server asks for a key."));
    };
    dialog.showModal();
    value.focus();
  });
  return waiting;
}

// What the page asks of its server. A key, where there is one, goes in a header and stays in this tab.

const STORED = "lapis-key";
const AGAIN = 3;
let waiting = null;

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

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
    }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer.");
    });
    if (answer.ok) return answer.json();
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
    throw new Refused(answer.status, told?.error?.message ?? `The server answers ${answer.status}.`);
  }
}

// One question for all requests that wait for it; `tried` is the key that was refused.
function keyAsked(tried) {
  waiting ??= new Promise((done) => {
    const dialog = document.getElementById("key");
    const value = document.getElementById("key-value");
    document.getElementById("key-wrong").textContent = tried ? "That is none of its keys." : "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(STORED, value.value.trim());
      value.value = "";
      waiting = null;
      dialog.close();
      done();
    }, { once: true });
    dialog.showModal();
    value.focus();
  });
  return waiting;
}

// One player for all results.

import { get } from "/page/elements.js";
import { hasKey } from "/page/server.js";
import { clock, plain } from "/page/words.js";

const audio = get("audio");
let loaded = null; // the hit whose sound the player has
let place = 0; // where it plays, or shall
let frame = 0;

export let current = null; // the hit that is to be heard

export async function start(hit, seconds = hit.start_seconds) {
  if (current !== hit) {
    audio.pause();
    current?.marked(false);
    current = hit;
    hit.marked(true);
    hit.failedAt = null;
    get("player").hidden = false;
    document.body.classList.add("has-player");
  }
  place = Math.max(0, seconds);
  get("playing").textContent = hit.name;
  try {
    if (hasKey()) await hit.load(); // which brings a ticket for the player
  } catch (error) {
    if (current === hit) tell(plain(error));
    return;
  }
  if (current === hit) play();
}

export function toggle() {
  if (!current) return;
  if (loaded !== current || audio.error) start(current, place);
  else if (audio.paused) play();
  else audio.pause();
}

export function step(seconds) {
  if (!current) return;
  place = Math.min(Math.max(0, place + seconds), total() || Infinity);
  if (loaded === current) audio.currentTime = place;
  follow();
}

export const isHeld = (hit) => hit === current && !audio.ended;

function play() {
  if (loaded !== current || audio.error) {
    loaded = current;
    audio.src = current.sound;
  }
  if (Math.abs(audio.currentTime - place) > 1e-3) audio.currentTime = place;
  audio.play().catch(() => {}); // what fails is told by its own event, and the button says what it does
}

const total = () => current?.view?.seconds ?? (Number.isFinite(audio.duration) ? audio.duration : 0);

const tell = (sentence) => {
  get("playing").textContent = `${current.name}: ${sentence}`;
};

// Where it plays, on the picture of the hit and in the player.
export function follow() {
  cancelAnimationFrame(frame);
  if (!current) return;
  if (loaded === current && audio.readyState && !audio.error) place = audio.currentTime;
  if (current.view) {
    const { start_seconds, end_seconds } = current.view;
    const part = (place - start_seconds) / (end_seconds - start_seconds);
    current.head.style.left = `${100 * Math.min(1, Math.max(0, part))}%`;
  }
  const seek = get("seek");
  seek.max = total();
  seek.value = place;
  seek.setAttribute("aria-valuetext", `${clock(place)} of ${clock(total())}`);
  get("clock").textContent = `${clock(Math.floor(place))} / ${clock(total())}`;
  if (!audio.paused) frame = requestAnimationFrame(follow);
}

for (const name of ["play", "pause", "ended"]) {
  audio.addEventListener(name, () => {
    const sounding = !audio.paused && !audio.ended;
    document.body.classList.toggle("sounding", sounding);
    loaded?.element.classList.toggle("sounding", sounding && loaded === current);
    get("toggle").setAttribute("aria-label", sounding ? "Pause" : "Play");
    follow();
  });
}
for (const name of ["seeked", "durationchange"]) audio.addEventListener(name, follow);

audio.addEventListener("error", async () => {
  const hit = current;
  if (loaded !== hit || audio.error?.code === MediaError.MEDIA_ERR_ABORTED) return;
  if (hit.failedAt !== null && Math.abs(place - hit.failedAt) < 1) {
    tell("it cannot be played");
    return;
  }
  hit.failedAt = place;
  try {
    await hit.load({ again: true }); // its address may have been good for an hour only
  } catch (error) {
    hit.failedAt = null;
    if (current === hit) tell(plain(error));
    return;
  }
  if (current === hit) play();
});
get("toggle").addEventListener("click", toggle);
get("seek").addEventListener("input", (event) => step(Number(event.target.value) - place));

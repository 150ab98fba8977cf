// All of the page without a mouse.

import { get } from "/page/elements.js";
import { current, start, step, toggle } from "/page/player.js";

const STEP_SECONDS = 2;

// `hits` gives the results as they are now.
export function onKeys({ query, hits }) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || get("key").open) return;
    if (done(event, { query, hits: hits() })) event.preventDefault();
  });
}

function done({ key, target }, { query, hits }) {
  const typing = target instanceof HTMLInputElement && !["file", "range"].includes(target.type);
  const at = hits.findIndex((hit) => hit.element.contains(target));
  if (key === "ArrowDown" && (target === query || !typing)) return focusOn(at + 1, hits);
  if (key === "ArrowUp" && !typing) return at === 0 ? focused(query) : focusOn(Math.max(0, at - 1), hits);
  if (key === "Escape" && !typing) return focused(query);
  if (typing) return false;
  if (key === "/") {
    query.select();
    return focused(query);
  }
  if (key === "Enter" && at >= 0 && target === hits[at].play) {
    start(hits[at]);
    return true;
  }
  if (key === " " && current && !target.closest("button, summary, a, label")) {
    toggle();
    return true;
  }
  const here = hits[at] ?? current;
  if (key === "h" && here?.locate) {
    here.located();
    return true;
  }
  const seconds = { ArrowLeft: -STEP_SECONDS, ArrowRight: STEP_SECONDS }[key];
  if (seconds && current) step(seconds);
  return Boolean(seconds && current);
}

function focused(element) {
  element.focus();
  return true;
}

// Those that are folded away are passed over.
function focusOn(number, hits) {
  const shown = hits.filter((hit) => hit.element.getClientRects().length);
  const hit = shown[Math.min(number, shown.length - 1)];
  if (!hit) return false;
  hit.play.focus();
  hit.element.scrollIntoView({ block: "nearest" });
  return true;
}

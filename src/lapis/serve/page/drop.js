// A file that is dropped anywhere on the page.

import { get } from "/page/elements.js";

const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let over = 0; // elements of the page that it is over

export function onDrop(take) {
  addEventListener("dragenter", (event) => holds(event) && hover(over + 1));
  addEventListener("dragleave", (event) => holds(event) && hover(over - 1));
  addEventListener("dragover", (event) => holds(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    hover(0);
    const [given] = event.dataTransfer.files;
    if (given) take(given);
  });
}

function hover(number) {
  over = Math.max(0, number);
  get("drop").hidden = !over;
}

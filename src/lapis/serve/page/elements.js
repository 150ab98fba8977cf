// Elements of the page, found and made.

export const get = (id) => document.getElementById(id);

export function made(tag, { text = null, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

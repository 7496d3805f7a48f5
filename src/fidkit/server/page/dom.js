// Elements made of text and attributes: what comes from documents or people is text, and never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes that start with "on" are listeners; those that are false, null or undefined are left out. */
export function h(tag, attributes = {}, ...children) {
  return made(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, tag), attributes, children);
}

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

/** Put children into a region in place of what is there. What had the focus has it again, by its data-key. */
export function fill(region, ...children) {
  const focused = region.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  region.replaceChildren(...present(children));
  if (focused !== undefined) {
    region.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

function present(children) {
  return children.flat(2).filter((child) => child !== undefined && child !== null && child !== false);
}

export const byId = (id) => document.getElementById(id);

// Builds the page's nodes. Text becomes text nodes and nothing else: no value is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Return an element: `h("a.link", {href, onclick, "aria-label": …}, child, …)`; children are nodes, text or lists. */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return filled(document.createElement(name), classes, attributes, children);
}

/** Return an SVG element, as `h` does. */
export function s(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return filled(document.createElementNS(SVG, name), classes, attributes, children);
}

/** Put these children in the place of all that the element has. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Return the address when it is one that a link may have: of this page, or http(s). */
export function safeAddress(address) {
  try {
    const url = new URL(address, location.href);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Return the text with what hides it or turns its neighbours around written out, as on the terminal: `\u202e`. */
function literal(text) {
  return text.replaceAll("\r\n", "\n").replace(UNSEEN, (one) => {
    const code = one.codePointAt(0).toString(16);
    return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
  });
}

function filled(element, classes, attributes, children) {
  element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "class") element.classList.add(...value.split(" ").filter(Boolean));
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name === "style") for (const [property, one] of Object.entries(value)) element.style.setProperty(property, one);
  else if (name === "value") element.value = value;
  else if (name === "href" && element instanceof HTMLElement) {
    const address = safeAddress(value);
    if (address !== null) element.setAttribute("href", address);
  } else if (name === "title" || name === "aria-label") element.setAttribute(name, literal(String(value)));
  else element.setAttribute(name, value === true ? "" : String(value));
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(literal(String(child)))));
}

// Elements without markup strings: what comes from a user or a model can only ever become text.

const ATTRIBUTES = new Set(['role', 'for', 'list', 'form', 'type', 'href', 'download']);

/** h('p', {class: 'hint', onclick: f}, 'text', node...): null and false children are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name.includes('-') || ATTRIBUTES.has(name)) element.setAttribute(name, value === true ? '' : value);
    else element[name] = value;
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

export const byId = (id) => document.getElementById(id);

const SVG = 'http://www.w3.org/2000/svg';

/** The same for drawings; attributes only. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  append(element, children);
  return element;
}

// One stroke each, on a grid of 24.
const PATHS = {
  lock: 'M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z',
  unlock: 'M7 11V8a5 5 0 0 1 9.6-2M5 11h14v9H5z',
  swap: 'M4 8h14l-3-3M20 16H6l3 3',
  close: 'M6 6l12 12M18 6L6 18',
  download: 'M12 4v11m-4-4l4 4 4-4M5 20h14',
  sun: 'M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5',
  moon: 'M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z',
  auto: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M14 5v14M16.5 6v12',
  key: 'M14.5 9.5a4.5 4.5 0 1 0-4.2 4.5L12 12.3h2V10.5zM14 12l6 6v2h-3l-5.5-5.5M8.5 8.5h.01',
  brush: 'M20 4c-5 2-9 6-10.5 9.5l1.5 1.5C14.5 13.5 18 9 20 4zM8.5 15C6 15 6 18 3.5 19c3 1.5 7.5 1 7.5-2z',
};

export function icon(name) {
  return svg('svg', { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true' }, svg('path', { d: PATHS[name] }));
}

/** A button with a drawing and a name for those who do not see it. */
export function iconButton(name, label, onclick) {
  return h('button', { type: 'button', class: 'quiet', title: label, 'aria-label': label, onclick }, icon(name));
}

export function debounce(milliseconds, run) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(run, milliseconds, ...args);
  };
}

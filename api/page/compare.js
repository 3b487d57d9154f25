// Two pictures over each other with a line to drag between them, and what differs in their settings.

import { showPicture } from '/page/api.js';
import { fill, h } from '/page/dom.js';
import { job } from '/page/jobs.js';
import { differences } from '/page/request.js';
import { toast } from '/page/toast.js';
import { settingsOf } from '/page/viewer.js';

let first = null;
const listeners = new Set();

export const chosenToCompare = () => first;
export const onChosen = (run) => listeners.add(run);

export function chooseToCompare(id, index) {
  const second = { id, index };
  const same = first && first.id === id && first.index === index;
  if (first && !same && job(first.id)) {
    compare(first, second);
    first = null;
  } else {
    first = same ? null : second;
    if (first) toast('Choose another picture to compare it with.');
  }
  for (const run of listeners) run();
}

function compare(left, right) {
  const sides = [left, right].map(({ id, index }) => ({ job: job(id), picture: job(id).images[index], settings: settingsOf(job(id), index) }));
  const [a, b] = sides;
  const above = showPicture(h('img', { alt: 'The second picture' }), b.picture.url);
  const edge = h('span', { class: 'compare-line' });
  const stack = h('div', { class: 'compare-stack' }, showPicture(h('img', { alt: 'The first picture' }), a.picture.url), above, edge);
  stack.style.aspectRatio = `${a.picture.width} / ${a.picture.height}`;
  stack.style.maxWidth = `min(100%, calc(62vh * ${a.picture.width / a.picture.height}))`;
  const slide = h('input', { type: 'range', min: 0, max: 100, value: 50, step: 0.5, class: 'compare-slide', 'aria-label': 'How much of the first picture is seen' });
  const move = () => {
    above.style.clipPath = `inset(0 0 0 ${slide.value}%)`;
    edge.style.left = `${slide.value}%`;
  };
  slide.addEventListener('input', move);
  stack.append(slide);
  const rows = differences(a.settings, b.settings);
  const dialog = h('dialog', { class: 'compare', 'aria-label': 'Compare', onclose: () => dialog.remove() },
    h('div', { class: 'row between' }, h('h2', {}, 'Compare'), h('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, 'Close')),
    stack,
    rows.length ? h('table', {}, h('thead', {}, h('tr', {}, h('th', {}, 'Differs'), h('th', {}, 'Left'), h('th', {}, 'Right'))),
      h('tbody', {}, rows.map(([name, from, to]) => h('tr', {}, h('th', { scope: 'row' }, name.replaceAll('_', ' ')), h('td', {}, from), h('td', {}, to)))))
      : h('p', { class: 'hint' }, a.picture.sha256 === b.picture.sha256 ? 'The same settings, and every byte is the same.' : 'The same settings.'));
  document.body.append(dialog);
  move();
  dialog.showModal();
  slide.focus();
}

// Every picture of one's own, newest first.

import { showPicture } from '/page/api.js';
import { chooseToCompare, chosenToCompare, onChosen } from '/page/compare.js';
import { byId, fill, h } from '/page/dom.js';
import { allJobs, isCell, loadPage, onJob } from '/page/jobs.js';
import { attempt } from '/page/toast.js';
import { openViewer } from '/page/viewer.js';

const grid = h('div', { class: 'grid', role: 'list' });
const more = h('button', { type: 'button', hidden: true }, 'Older pictures');
const search = h('input', { type: 'search', placeholder: 'Search in prompts', 'aria-label': 'Search in prompts' });
const nothing = h('p', { class: 'empty' }, 'Nothing painted yet.');
let cursor;
let begun = false;

function card(each, index) {
  const picture = each.images[index];
  const chosen = chosenToCompare()?.id === each.id && chosenToCompare()?.index === index;
  const open = h('button', { type: 'button', class: 'open', 'aria-label': each.request?.prompt?.slice(0, 120) || 'picture', onclick: () => openViewer(each.id, index) });
  const image = showPicture(h('img', { alt: '', loading: 'lazy', decoding: 'async' }), picture.url);
  image.style.aspectRatio = `${picture.width} / ${picture.height}`;
  open.append(image);
  return h('figure', { role: 'listitem', class: chosen ? 'chosen' : '' }, open,
    h('figcaption', {}, h('span', {}, each.request?.prompt ?? ''),
      h('button', { type: 'button', class: 'chip small', 'aria-pressed': String(chosen), onclick: () => chooseToCompare(each.id, index) }, 'Compare')));
}

let drawn = '';
function draw() {
  if (byId('gallery').hidden) return;
  const wanted = search.value.toLowerCase();
  const shown = allJobs().filter((each) => !isCell(each) && each.images?.length && (each.request?.prompt ?? '').toLowerCase().includes(wanted));
  const state = `${shown.map((each) => `${each.id}${each.images.length}`).join()} ${JSON.stringify(chosenToCompare())}`;
  more.hidden = !cursor;
  nothing.hidden = shown.length > 0;
  if (state === drawn) return;
  drawn = state;
  fill(grid, shown.flatMap((each) => each.images.map((_, index) => card(each, index))));
}

async function older() {
  await attempt(async () => { cursor = await loadPage(cursor); });
  draw();
}

export function start() {
  fill(byId('gallery'), h('div', { class: 'row between head' }, h('h1', {}, 'Gallery'), search), grid, nothing, h('div', { class: 'row center' }, more));
  more.addEventListener('click', older);
  search.addEventListener('input', draw);
  onJob(draw);
  onChosen(draw);
}

export function enter() {
  if (!begun) older();
  begun = true;
  draw();
}

/** Another key: begin again. */
export function reset() {
  cursor = undefined;
  begun = false;
}

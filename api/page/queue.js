// The own jobs that are not over, and how the last ones ended.

import { byId, fill, h } from '/page/dom.js';
import { allJobs, cancel, isCell, isOver, job, onJob, openJobs, shortTime, statusLine } from '/page/jobs.js';
import { attempt } from '/page/toast.js';
import { openViewer } from '/page/viewer.js';

const ENDED = 20;
const open = h('ol', { class: 'jobs' });
const over = h('ul', { class: 'jobs' });
const rows = new Map(); // id -> {element, bar, line}

function row(each) {
  const bar = h('div', { class: 'progress' }, h('span'));
  const line = h('span', { class: 'line' });
  const stop = h('button', { type: 'button', onclick: () => attempt(() => cancel(each.id)) }, 'Cancel');
  return { bar, line, element: h('li', {}, h('p', { class: 'job-prompt' }, each.request?.prompt || 'no prompt'),
    h('div', { class: 'row between' }, line, stop), bar) };
}

const ended = (each) => h('li', {}, h('p', { class: 'job-prompt' }, each.request?.prompt || 'no prompt'),
  h('div', { class: 'row between' },
    h('span', { class: 'line' }, each.status === 'succeeded' && each.finished_at ? `Done in ${shortTime(new Date(each.finished_at) - new Date(each.created_at))}` : statusLine(each)),
    each.images?.length ? h('button', { type: 'button', onclick: () => openViewer(each.id) }, 'Open') : null));

let drawn = '';
function draw() {
  if (byId('queue').hidden) return;
  const waiting = openJobs().filter((each) => !isCell(each));
  const done = allJobs().filter((each) => isOver(each) && !isCell(each)).slice(0, ENDED);
  const state = [...waiting, ...done].map((each) => each.id + isOver(each)).join();
  if (state !== drawn) {
    drawn = state;
    rows.clear();
    for (const each of waiting) rows.set(each.id, row(each));
    fill(open, waiting.length ? [...rows.values()].map((each) => each.element) : h('li', { class: 'empty' }, 'Nothing is waiting.'));
    fill(over, done.map(ended));
  }
  for (const [id, { bar, line }] of rows) {
    const each = job(id);
    line.textContent = statusLine(each);
    bar.firstChild.style.width = `${(each.progress?.fraction ?? 0) * 100}%`;
  }
}

export function start() {
  fill(byId('queue'), h('div', { class: 'head' }, h('h1', {}, 'Queue')), open, h('h2', {}, 'Lately'), over);
  onJob(draw);
}
export const enter = draw;

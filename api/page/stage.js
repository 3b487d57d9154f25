// The picture in the middle: the last finished one, or the one that is being painted, with its
// progress. It follows what was submitted from this page, not what other tabs do.

import { showPicture } from '/page/api.js';
import { byId, fill, h } from '/page/dom.js';
import { allJobs, cancel, isCell, isOver, job, onJob, openJobs, shortTime, statusLine } from '/page/jobs.js';
import { onChange, value } from '/page/request.js';
import { attempt } from '/page/toast.js';
import { openViewer } from '/page/viewer.js';

const STRIP = 12;
const ENLARGED = 2; // small pictures are shown larger, up to this
const TITLE = 'latentd';

let current = ''; // id of the job on the stage
let shownImage = 0;
let seed = null;

export const lastSeed = () => seed;

const image = h('img', { class: 'main', id: 'main-picture', alt: '', hidden: true });
const empty = h('p', { class: 'empty' }, 'Your picture will be here.');
const frame = h('div', { class: 'frame' }, image, empty);
const easel = h('div', { class: 'easel' });
const bar = h('div', { class: 'progress', role: 'progressbar', 'aria-label': 'Progress', 'aria-valuemin': 0, 'aria-valuemax': 100, hidden: true }, h('span'));
const line = h('p', { class: 'line', id: 'status-line' });
const buttons = h('div', { class: 'row' });
const many = h('div', { class: 'many', role: 'group', 'aria-label': 'Pictures of this job' });
const strip = h('div', { class: 'strip', role: 'group', 'aria-label': 'Latest pictures' });

function proportion(width, height) {
  frame.style.aspectRatio = `${width} / ${height}`;
  easel.style.maxWidth = `max(20rem, min(100%, ${width * ENLARGED}px, calc((100vh - 15rem) * ${width / height})))`;
}

/** A sheet is as large as it is; everything else as large as it was asked for. */
function shapeOf(each) {
  const picture = each?.images?.[shownImage];
  if (picture) return [picture.width, picture.height];
  const request = each?.request ?? {};
  const hires = request.hires;
  const scale = hires ? hires.scale ?? 1.5 : 1;
  return [hires?.width || (request.width ?? value('width')) * scale, hires?.height || (request.height ?? value('height')) * scale];
}

function showImage(each) {
  const picture = each?.images?.[Math.min(shownImage, (each.images?.length ?? 1) - 1)];
  image.hidden = !picture && !each?.preview;
  empty.hidden = Boolean(each);
  frame.classList.toggle('working', Boolean(each) && !isOver(each));
  if (picture) {
    showPicture(image, picture.url);
    image.alt = each.request?.prompt ?? '';
    image.classList.remove('rough');
  } else if (each?.preview) {
    image.dataset.path = '';
    image.src = each.preview;
    image.alt = 'What is there so far';
    image.classList.add('rough');
  }
  proportion(...shapeOf(each));
}

function doneLine(each) {
  const picture = each.images[shownImage] ?? each.images[0];
  const { queue_ms: queued = 0, ...work } = each.timings ?? {};
  const took = ['text_ms', 'sample_ms', 'decode_ms', 'encode_ms'].reduce((sum, name) => sum + (work[name] ?? 0), 0);
  const parts = [`${picture.width}×${picture.height}`, `seed ${picture.seed}`];
  if (picture.partial) parts.unshift('Stopped early');
  if (took) parts.push(shortTime(took) === '0 s' ? 'under 1 s' : shortTime(took));
  if (queued > 2000) parts.push(`waited ${shortTime(queued)}`);
  return parts.join(' · ');
}

function showProgress(each) {
  const busy = Boolean(each) && !isOver(each);
  const share = each?.progress?.fraction ?? 0;
  bar.hidden = !busy;
  bar.classList.toggle('waiting', each?.status === 'queued');
  bar.firstChild.style.width = `${share * 100}%`;
  bar.setAttribute('aria-valuenow', Math.round(share * 100));
  if (!each) line.textContent = '';
  else line.textContent = isOver(each) && each.images?.length ? doneLine(each) : statusLine(each); // its status may be known before its pictures
  const open = openJobs().filter((one) => !isCell(one)).length;
  const shown = busy && each.status === 'running' ? `${Math.round(share * 100)} % · ${TITLE}` : TITLE;
  document.title = shown;
  byId('queue-count').hidden = open === 0;
  byId('queue-count').textContent = open;
}

let drawnButtons = '';
function showButtons(each) {
  const state = each ? `${each.id} ${each.status} ${each.images?.length} ${shownImage}` : '';
  if (state === drawnButtons) return; // a button must not vanish under the finger
  drawnButtons = state;
  if (each && !isOver(each)) {
    fill(buttons,
      each.status === 'running' && h('button', { type: 'button', onclick: () => attempt(() => cancel(each.id, true)) }, 'Stop and keep'),
      h('button', { type: 'button', id: 'cancel', disabled: each.status === 'cancelling', onclick: () => attempt(() => cancel(each.id)) }, 'Cancel'));
  } else if (each?.images?.length) {
    fill(buttons, h('button', { type: 'button', onclick: () => openViewer(each.id, shownImage) }, 'Open'));
  } else fill(buttons);
  const pictures = each?.images ?? [];
  fill(many, pictures.length > 1 ? pictures.map((picture, at) => {
    const button = h('button', { type: 'button', class: 'thumb', 'aria-pressed': String(at === shownImage), 'aria-label': `Picture ${at + 1}, seed ${picture.seed}`,
      onclick: () => { shownImage = at; draw(); } });
    button.append(showPicture(h('img', { alt: '', loading: 'lazy' }), picture.url));
    return button;
  }) : []);
}

let drawnStrip = '';
function showStrip() {
  const latest = allJobs().filter((each) => each.images?.length && !isCell(each)).slice(0, STRIP);
  const state = latest.map((each) => each.id).join() + current;
  if (state === drawnStrip) return;
  drawnStrip = state;
  fill(strip, latest.length < 2 ? [] : latest.map((each) => {
    const button = h('button', { type: 'button', class: 'thumb', 'aria-pressed': String(each.id === current), 'aria-label': each.request?.prompt?.slice(0, 80) || 'picture',
      title: each.request?.prompt?.slice(0, 200), onclick: () => show(each.id) });
    button.append(showPicture(h('img', { alt: '', loading: 'lazy' }), each.images[0].url));
    return button;
  }));
}

function draw() {
  const each = job(current);
  showImage(each);
  showProgress(each);
  showButtons(each);
  showStrip();
}

export function show(id) {
  current = id;
  shownImage = 0;
  const each = job(id);
  if (each?.images?.length) seed = each.images[0].seed;
  draw();
}

/** A new job takes the stage unless another one of ours is being painted there. */
export function submitted(each) {
  const now = job(current);
  if (!now || isOver(now) || !now.own) show(each.id);
  else draw();
}

export function start() {
  fill(easel, frame, bar, h('div', { class: 'row between under' }, line, buttons), many);
  fill(byId('stage'), easel, strip);
  image.addEventListener('click', () => {
    if (job(current)?.images?.length) openViewer(current, shownImage);
  });
  onJob((each) => {
    const now = job(current);
    if (each.id === current && each.status === 'forgotten') current = '';
    if (!current && !isCell(each)) current = allJobs().find((one) => !isCell(one) && (one.images?.length || !isOver(one)))?.id ?? '';
    // The next one of ours takes the stage when its painting begins.
    if (each.own && each.status === 'running' && now && isOver(now) && each.id !== current) show(each.id);
    if (each.id === current && each.images?.length) seed = each.images[0].seed;
    draw();
  });
  onChange(() => {
    if (!job(current)) proportion(value('width'), value('height'));
  });
  setInterval(() => { // the estimate counts down between two steps
    const now = job(current);
    if (now && !isOver(now)) showProgress(now);
  }, 1000);
  draw();
}

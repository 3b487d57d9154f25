// Pictures on their way in, for whichever part of the page wants one: chosen, dropped or pasted,
// made a PNG, uploaded once, and kept small to be shown again by the id they got.

import { post } from '/page/api.js';
import { h } from '/page/dom.js';
import { attempt, toast } from '/page/toast.js';

const SIDE_MAX = 4096;
const THUMB_SIDE = 360;
const THUMBS_KEPT = 24;
const thumbs = new Map(); // id of an upload -> {small: canvas, width, height}

/** What becomes of a picture of another shape, for `choice`. */
export const FITS = [
  { value: 'stretch', label: 'Stretch', hint: 'the whole picture, out of proportion' },
  { value: 'crop', label: 'Crop', hint: 'in proportion, its edges are lost' },
  { value: 'pad', label: 'Pad', hint: 'in proportion, with borders' }];

export const pngOf = (canvas) => new Promise((done) => { canvas.toBlob(done, 'image/png'); });

/** On a canvas, with no side longer than `most`. */
function scaled(picture, most) {
  const scale = Math.min(1, most / Math.max(picture.width, picture.height));
  const canvas = Object.assign(document.createElement('canvas'), {
    width: Math.max(1, Math.round(picture.width * scale)), height: Math.max(1, Math.round(picture.height * scale)) });
  canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Any picture that the browser can read, as a PNG that the server takes: {id, canvas}, or null with the reason said. */
export async function upload(blob) {
  let canvas;
  try {
    canvas = scaled(await createImageBitmap(blob), SIDE_MAX);
  } catch {
    toast('This file is not a picture that your browser can read.');
    return null;
  }
  const answer = await attempt(async () => post('/v1/images', await pngOf(canvas)));
  if (!answer) return null;
  thumbs.delete(answer.id); // the newest stand last
  thumbs.set(answer.id, { small: scaled(canvas, THUMB_SIDE), width: canvas.width, height: canvas.height });
  if (thumbs.size > THUMBS_KEPT) thumbs.delete(thumbs.keys().next().value);
  return { id: answer.id, canvas };
}

/** A small one of the upload `id` under a name for those who do not see it. */
export function shown(id, name) {
  const known = thumbs.get(id);
  if (!known) return h('p', { class: 'hint' }, 'This picture was uploaded elsewhere; it is used, but cannot be shown.');
  const canvas = scaled(known.small, THUMB_SIDE);
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${name}, ${known.width} by ${known.height}`);
  return canvas;
}

/** The input behind labels that say "Choose a picture"; `take` gets the file. */
export function fileInput(id, take) {
  const file = h('input', { type: 'file', accept: 'image/*', id, class: 'hidden-file', onchange: () => {
    if (file.files[0]) take(file.files[0]);
    file.value = '';
  } });
  return file;
}

/** Pictures dropped on `element` are its own: elsewhere on the page they give their settings. */
export function takeDrops(element, take) {
  element.addEventListener('dragover', (event) => event.preventDefault());
  element.addEventListener('drop', (event) => {
    const dropped = event.dataTransfer?.files[0];
    if (!dropped) return;
    event.preventDefault();
    event.stopPropagation();
    document.dispatchEvent(new Event('dropped'));
    take(dropped);
  });
}

/** And so are those pasted while something in it has the focus. */
export function takePastes(element, take) {
  addEventListener('paste', (event) => {
    const pasted = event.clipboardData?.files[0];
    if (!pasted?.type.startsWith('image/') || !element.contains(document.activeElement)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    take(pasted);
  }, true);
}

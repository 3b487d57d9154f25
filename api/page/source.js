// The picture to begin with: chosen, dropped or taken from the gallery, uploaded once; how much of
// it is painted anew, and where.

import { post } from '/page/api.js';
import { choice, fold, slider } from '/page/controls.js';
import { fill, h } from '/page/dom.js';
import { editMask } from '/page/mask.js';
import { given, onChange, set } from '/page/request.js';
import { attempt, toast } from '/page/toast.js';

const SIDE_MAX = 4096;
let bitmap = null; // of the picture that init.image names, where this page has uploaded it
let strokes = [];
let element = null;

const canvasOf = (width, height) => Object.assign(document.createElement('canvas'), { width, height });
export const pngOf = (canvas) => new Promise((done) => { canvas.toBlob(done, 'image/png'); });

/** Any picture that the browser can read becomes a PNG that the server takes. */
async function asPng(blob) {
  let picture;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    toast('This file is not a picture that your browser can read.');
    return null;
  }
  const scale = Math.min(1, SIDE_MAX / Math.max(picture.width, picture.height));
  const canvas = canvasOf(Math.round(picture.width * scale), Math.round(picture.height * scale));
  canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
  bitmap = canvas;
  return pngOf(canvas);
}

export async function useAsSource(blob) {
  const png = await asPng(blob);
  if (!png) return;
  const uploaded = await attempt(() => post('/v1/images', png));
  if (!uploaded) return;
  strokes = [];
  set('init', { ...given('init'), image: { id: uploaded.id }, mask: undefined });
  element.open = true;
}

async function drawMask() {
  const result = await editMask(bitmap, strokes);
  if (!result) return;
  strokes = result.strokes;
  if (!result.mask) {
    set('init.mask', undefined);
    return;
  }
  const uploaded = await attempt(async () => post('/v1/images', await pngOf(result.mask)));
  if (uploaded) set('init.mask', { id: uploaded.id });
}

function preview() {
  if (!bitmap) return h('p', { class: 'hint' }, 'This picture was uploaded elsewhere; it is used, but cannot be shown.');
  const scale = Math.min(1, 360 / Math.max(bitmap.width, bitmap.height));
  const small = canvasOf(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  small.getContext('2d').drawImage(bitmap, 0, 0, small.width, small.height);
  small.setAttribute('role', 'img');
  small.setAttribute('aria-label', `Picture to begin with, ${bitmap.width} by ${bitmap.height}`);
  return small;
}

export function build() {
  const file = h('input', { type: 'file', accept: 'image/*', id: 'source-file', class: 'hidden-file', onchange: () => {
    if (file.files[0]) useAsSource(file.files[0]);
    file.value = '';
  } });
  const shown = h('div', { class: 'source' });
  const resize = choice('init.resize', 'If the shape differs', () => [
    { value: 'stretch', label: 'Stretch', hint: 'the whole picture, out of proportion' },
    { value: 'crop', label: 'Crop', hint: 'in proportion, its edges are lost' },
    { value: 'pad', label: 'Pad', hint: 'in proportion, with borders' }]);
  const settings = h('div', { hidden: true },
    slider('init.strength', 'How much is painted anew', { min: 0, max: 1, step: 0.05 }), resize.element);
  const blur = slider('init.mask_blur', 'Soft edge of the mask, pixels', { min: 0, max: 64, step: 1 });
  element = fold('From a picture', () => {
    if (!given('init')) return 'none';
    return given('init.mask') ? 'part of a picture' : 'whole picture';
  }, file, shown, settings, blur);
  element.dataset.pointer = '/init';
  onChange(() => {
    const id = given('init.image.id');
    settings.hidden = !given('init');
    blur.hidden = !given('init.mask');
    const state = `${id} ${Boolean(given('init.mask'))} ${strokes.length}`;
    if (shown.dataset.state === state) return;
    shown.dataset.state = state;
    if (!given('init')) {
      bitmap = null;
      fill(shown, h('label', { class: 'button', for: 'source-file' }, 'Choose a picture'),
        h('p', { class: 'hint' }, 'Or take one from the gallery, or drop a file here.'));
      return;
    }
    fill(shown, preview(), h('div', { class: 'row' },
      bitmap && h('button', { type: 'button', id: 'mask-open', onclick: drawMask }, given('init.mask') ? 'Change the mask' : 'Paint a mask'),
      given('init.mask') && h('button', { type: 'button', onclick: () => { strokes = []; set('init.mask', undefined); } }, 'No mask'),
      h('label', { class: 'button', for: 'source-file' }, 'Another'),
      h('button', { type: 'button', onclick: () => set('init', undefined) }, 'Remove')));
  });
  element.addEventListener('dragover', (event) => event.preventDefault());
  element.addEventListener('drop', (event) => {
    const dropped = event.dataTransfer?.files[0];
    if (!dropped) return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere on the page a dropped picture gives its settings
    document.dispatchEvent(new Event('dropped'));
    useAsSource(dropped);
  });
  return element;
}

// The picture to begin with: chosen, dropped or taken from the gallery; how much of it is painted
// anew, and where.

import { post } from '/page/api.js';
import { choice, fold, slider } from '/page/controls.js';
import { fill, h } from '/page/dom.js';
import { FITS, fileInput, pngOf, shown, takeDrops, upload } from '/page/picture.js';
import { given, onChange, set } from '/page/request.js';
import { attempt } from '/page/toast.js';

let own = null; // {id, canvas} of the picture this page has uploaded last; a mask is painted on it
let strokes = [];
let element = null;

export async function useAsSource(blob) {
  const uploaded = await upload(blob);
  if (!uploaded) return;
  own = uploaded;
  strokes = [];
  set('init', { ...given('init'), image: { id: own.id }, mask: undefined });
  element.open = true;
}

async function drawMask() {
  const { editMask } = await import('/page/mask.js'); // not before somebody paints one
  const result = await editMask(own.canvas, strokes);
  if (!result) return;
  strokes = result.strokes;
  if (!result.mask) {
    set('init.mask', undefined);
    return;
  }
  const uploaded = await attempt(async () => post('/v1/images', await pngOf(result.mask)));
  if (uploaded) set('init.mask', { id: uploaded.id });
}

export function build() {
  const file = fileInput('source-file', useAsSource);
  const place = h('div', { class: 'source' });
  const resize = choice('init.resize', 'If the shape differs', () => FITS);
  const settings = h('div', { hidden: true },
    slider('init.strength', 'How much is painted anew', { min: 0, max: 1, step: 0.05 }), resize.element);
  const blur = slider('init.mask_blur', 'Soft edge of the mask, pixels', { min: 0, max: 64, step: 1 });
  element = fold('From a picture', () => {
    if (!given('init')) return 'none';
    return given('init.mask') ? 'part of a picture' : 'whole picture';
  }, file, place, settings, blur);
  element.dataset.pointer = '/init';
  onChange(() => {
    const id = given('init.image.id');
    settings.hidden = !given('init');
    blur.hidden = !given('init.mask');
    const state = `${id} ${Boolean(given('init.mask'))} ${strokes.length}`;
    if (place.dataset.state === state) return;
    place.dataset.state = state;
    if (!given('init')) {
      own = null;
      fill(place, h('label', { class: 'button', for: 'source-file' }, 'Choose a picture'),
        h('p', { class: 'hint' }, 'Or take one from the gallery, or drop a file here.'));
      return;
    }
    fill(place, shown(id, 'Picture to begin with'), h('div', { class: 'row' },
      own?.id === id && h('button', { type: 'button', id: 'mask-open', onclick: drawMask }, given('init.mask') ? 'Change the mask' : 'Paint a mask'),
      given('init.mask') && h('button', { type: 'button', onclick: () => { strokes = []; set('init.mask', undefined); } }, 'No mask'),
      h('label', { class: 'button', for: 'source-file' }, 'Another'),
      h('button', { type: 'button', onclick: () => set('init', undefined) }, 'Remove')));
  });
  takeDrops(element, useAsSource);
  return element;
}

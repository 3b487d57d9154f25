// Larger than the model was made for: a second pass, and deep shrink.

import { choice, fold, objectSwitch, slider } from '/page/controls.js';
import { h } from '/page/dom.js';
import { given, value } from '/page/request.js';

const UPSCALERS = {
  'latent-bislerp': 'smooth; the usual choice', 'latent-bicubic': 'crisper than bislerp', 'latent-bilinear': 'soft',
  'latent-nearest-exact': 'keeps the first pass closest', 'latent-area': 'softest',
  'pixel-lanczos': 'through pixels: slower, sharp edges', 'pixel-bicubic': 'through pixels', 'pixel-bilinear': 'through pixels, soft',
};

function grown() {
  const side = (name) => given(`hires.${name}`) ?? Math.round((value(name) * value('hires.scale')) / 8) * 8;
  return `${side('width')}×${side('height')}`;
}

export function build() {
  const upscaler = choice('hires.upscaler', 'Enlarged by', () =>
    Object.entries(UPSCALERS).map(([name, hint]) => ({ value: name, label: name, hint })));
  return fold('High resolution', () => {
    const parts = [];
    if (given('hires')) parts.push(`second pass to ${grown()}`);
    if (given('deep_shrink')) parts.push('deep shrink');
    return parts.join(', ') || 'off';
  },
  objectSwitch('hires', 'Second pass',
    h('p', { class: 'hint' }, 'Paints at the size above, enlarges, and paints over it: more detail, without doubled subjects.'),
    slider('hires.scale', 'Enlargement', { min: 1, max: 3, step: 0.05, high: 4 }),
    slider('hires.strength', 'How much is painted anew', { min: 0, max: 1, step: 0.05 }), upscaler.element),
  objectSwitch('deep_shrink', 'Deep shrink',
    h('p', { class: 'hint' }, 'Plans the picture at a lower resolution first: for large sizes in one pass.'),
    slider('deep_shrink.factor', 'Factor', { min: 1, max: 4, step: 0.25, high: 9 }),
    slider('deep_shrink.end', 'Until this share of the steps', { min: 0, max: 1, step: 0.05 })));
}

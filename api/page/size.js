// The sizes that the model was made for, as little frames of their shape, and any other by number.

import { byId, fill, h, iconButton, svg } from '/page/dom.js';
import { onChange, set, value } from '/page/request.js';
import { onServer, server } from '/page/server.js';

const FRAME = 18;
const SIDES = { min: 64, max: 4096, step: 8 };

function shape(width, height) {
  const scale = FRAME / Math.max(width, height);
  const w = Math.round(width * scale);
  const h_ = Math.round(height * scale);
  return svg('svg', { class: 'shape', width: FRAME + 2, height: FRAME + 2, 'aria-hidden': 'true' },
    svg('rect', { x: 1 + (FRAME - w) / 2, y: 1 + (FRAME - h_) / 2, width: w, height: h_, rx: 2 }));
}

const choose = (width, height) => {
  set('size', undefined);
  set('width', width);
  set('height', height);
};

function side(path, label) {
  const input = h('input', { type: 'number', id: `size-${path}`, ...SIDES, 'aria-label': label, inputMode: 'numeric' });
  input.addEventListener('input', () => {
    if (Number.isFinite(input.valueAsNumber)) set(path, input.valueAsNumber);
  });
  onChange(() => {
    if (input.valueAsNumber !== value(path)) input.value = value(path);
  });
  return h('span', { 'data-pointer': `/${path}` }, input);
}

/** What one should know about the chosen size, in a line. */
function advise(width, height, known) {
  if (known?.note) return `${known.note}: beyond what the model was trained on. High resolution helps, below.`;
  const native = server.sizes.filter((size) => !size.note);
  if (known || !native.length) return '';
  if (width % 64 || height % 64) return 'Sides that are multiples of 64 come out best.';
  const most = Math.max(...native.map((size) => size.width * size.height));
  const least = Math.min(...native.map((size) => size.width * size.height));
  if (width * height > most * 1.1) return 'Larger than the model was trained on: subjects may double. High resolution helps, below.';
  if (width * height < least * 0.6) return 'Smaller than the model was trained on: details may suffer.';
  return '';
}

export function start() {
  const presets = h('div', { class: 'presets', role: 'group', 'aria-label': 'Sizes of this model' });
  const hint = h('p', { class: 'hint', 'aria-live': 'polite' });
  fill(byId('sizes'), presets, h('div', { class: 'sides' },
    side('width', 'Width'), h('span', { 'aria-hidden': 'true' }, '×'), side('height', 'Height'),
    iconButton('swap', 'Swap width and height', () => choose(value('height'), value('width')))), hint);
  const draw = () => {
    const [width, height] = [value('width'), value('height')];
    fill(presets, server.sizes.map((size) => h('button', {
      type: 'button', class: 'size', title: size.note ? `${size.width}×${size.height}, ${size.note}` : `${size.width}×${size.height}`,
      'aria-pressed': String(size.width === width && size.height === height), onclick: () => choose(size.width, size.height),
    }, shape(size.width, size.height), h('span', {}, `${size.width}×${size.height}`))));
  };
  let drawn = '';
  onChange(() => {
    const [width, height] = [value('width'), value('height')];
    const known = server.sizes.find((size) => size.width === width && size.height === height);
    hint.textContent = advise(width, height, known);
    const state = JSON.stringify([server.sizes, width, height]);
    if (state !== drawn) {
      const focused = document.activeElement?.classList.contains('size') ? [...presets.children].indexOf(document.activeElement) : -1;
      draw();
      presets.children[focused]?.focus();
    }
    drawn = state;
  });
  onServer(draw);
}

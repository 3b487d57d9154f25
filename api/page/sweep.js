// A grid of pictures over the values of up to three fields; the server paints it as one job with a
// labelled sheet.

import { fold } from '/page/controls.js';
import { h } from '/page/dom.js';
import { byDefault, given, onChange, set } from '/page/request.js';

export const CELLS_MAX = 64;
const FIELDS = ['cfg_scale', 'steps', 'sampler', 'scheduler', 'seed', 'prompt', 'negative_prompt', 'clip_skip',
  'loras.0.weight', 'init.strength', 'hires.strength', 'hires.scale', 'guidance.rescale', 'variation.strength'];
const AXES = [['x', 'Across'], ['y', 'Down'], ['z', 'Pages']];

/** "7, 9" to [7, 9]; a comma inside a value is written "\,". Numbers only for fields that are. */
export function parseValues(text, name) {
  const words = text.split(/(?<!\\),/).map((word) => word.replaceAll('\\,', ',').trim()).filter(Boolean);
  const isText = typeof byDefault(name) === 'string' || /prompt|sampler|scheduler|model|vae/.test(name);
  return words.map((word) => {
    if (isText) return word;
    if (word === 'true' || word === 'false') return word === 'true';
    return Number.isSafeInteger(Number(word)) || !/^\d+$/.test(word) ? (Number.isFinite(Number(word)) ? Number(word) : word) : word;
  });
}

const written = (values) => values.map((each) => String(each).replaceAll(',', '\\,')).join(', ');

export function cells() {
  const sweep = given('sweep');
  return sweep ? Object.values(sweep).reduce((product, axis) => product * Math.max(1, axis.values?.length ?? 0), 1) : 1;
}

function axis(key, label) {
  const name = h('input', { type: 'text', list: 'sweep-fields', placeholder: 'field', 'aria-label': `${label}: field`, autocomplete: 'off', spellcheck: false });
  const values = h('input', { type: 'text', placeholder: 'values, with commas', 'aria-label': `${label}: values`, autocomplete: 'off', spellcheck: false });
  const take = () => {
    const sweep = { ...given('sweep') };
    const field = name.value.trim();
    const list = parseValues(values.value, field);
    if (field && list.length) sweep[key] = { field, values: list };
    else delete sweep[key];
    set('sweep', Object.keys(sweep).length ? sweep : undefined);
  };
  name.addEventListener('input', take);
  values.addEventListener('input', take);
  onChange(() => {
    const now = given(`sweep.${key}`);
    if (now && (name.value.trim() !== now.field || JSON.stringify(parseValues(values.value, now.field)) !== JSON.stringify(now.values))) {
      name.value = now.field;
      values.value = written(now.values);
    }
    const halfway = document.activeElement === name || document.activeElement === values;
    if (!now && !halfway && !(name.value && !values.value)) {
      name.value = '';
      values.value = '';
    }
  });
  return h('div', { class: 'axis', 'data-pointer': `/sweep/${key}` }, h('span', { class: 'axis-name' }, label), name, values);
}

export function build() {
  const count = h('p', { class: 'hint', 'aria-live': 'polite' });
  const folded = fold('Sweep', () => (given('sweep') ? `${cells()} cells` : 'off'),
    h('p', { class: 'hint' }, 'Paints a sheet over the values of up to three fields, from the same seed.'),
    h('datalist', { id: 'sweep-fields' }, FIELDS.map((name) => h('option', { value: name }))),
    AXES.map(([key, label]) => axis(key, label)), count);
  folded.dataset.pointer = '/sweep';
  onChange(() => {
    count.textContent = cells() > CELLS_MAX ? `${cells()} cells; a sheet has at most ${CELLS_MAX}.` : '';
  });
  return folded;
}

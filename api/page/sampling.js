// How the picture is sampled: sampler and scheduler with what they are good for, steps, guidance,
// CLIP skip, seed.

import { choice, field, fold, slider } from '/page/controls.js';
import { fill, h, icon } from '/page/dom.js';
import { lastSeed } from '/page/stage.js';
import { given, onChange, set, value } from '/page/request.js';
import { advice, model, modelChanged, onServer, server } from '/page/server.js';

const labelOf = (list, name) => list.find((each) => each.name === name)?.label ?? name;

/** The advised ones first, then all others. */
function grouped(list, advised) {
  const option = (each, group) => ({ value: each.name, label: each.label ?? each.name, hint: each.hint, group });
  const first = advised.map((name) => list.find((each) => each.name === name)).filter(Boolean);
  if (!first.length) return list.map((each) => option(each));
  return [...first.map((each) => option(each, 'Advised for this model')),
    ...list.filter((each) => !first.includes(each)).map((each) => option(each, 'All others'))];
}

/** Seeds may be larger than a JavaScript number holds: then they stay text. */
function parseSeed(text) {
  if (!/^\d{1,20}$/.test(text)) return undefined;
  return Number.isSafeInteger(Number(text)) ? Number(text) : text;
}

function seed() {
  const input = h('input', { id: 'seed', type: 'text', inputMode: 'numeric', autocomplete: 'off', placeholder: 'random' });
  const lock = h('button', { type: 'button', class: 'quiet', id: 'seed-lock' });
  const isLocked = () => given('seed') !== undefined && given('seed') !== -1;
  input.addEventListener('input', () => set('seed', parseSeed(input.value.trim())));
  lock.addEventListener('click', () => set('seed', isLocked() ? undefined : lastSeed() ?? Math.floor(Math.random() * 2 ** 32)));
  onChange(() => {
    const now = isLocked() ? String(given('seed')) : '';
    if (input.value.trim() !== now && document.activeElement !== input) input.value = now;
    input.title = lastSeed() === null ? '' : `The last one was ${lastSeed()}`;
    const label = isLocked() ? 'Let the seed change each time' : 'Keep the last seed';
    if (lock.title === label) return;
    fill(lock, icon(isLocked() ? 'lock' : 'unlock'));
    lock.title = label;
    lock.setAttribute('aria-label', label);
    lock.setAttribute('aria-pressed', String(isLocked()));
  });
  return h('div', { class: 'field', 'data-pointer': '/seed' },
    h('label', { for: 'seed' }, 'Seed'), h('div', { class: 'with-button' }, input, lock));
}

function models() {
  const select = h('select', { id: 'model', onchange: async () => {
    set('model', select.value === server.models.find((each) => each.default)?.id ? undefined : select.value);
    await modelChanged();
  } });
  const element = field('model', 'Model', select);
  onServer(() => {
    element.hidden = server.models.length < 2;
    fill(select, server.models.map((each) => h('option', { value: each.id }, each.title && each.title !== each.id ? `${each.id} · ${each.title}` : each.id)));
    select.value = model()?.id ?? '';
  });
  return element;
}

export function build() {
  const sampler = choice('sampler', 'Sampler', () => grouped(server.samplers, advice().samplers));
  const scheduler = choice('scheduler', 'Scheduler', () => grouped(server.schedulers, advice().schedulers));
  onServer(() => {
    sampler.update();
    scheduler.update();
  });
  return fold('Sampling',
    () => `${labelOf(server.samplers, value('sampler'))}, ${value('steps')} steps, CFG ${value('cfg_scale')}${given('seed') === undefined ? '' : ', seed kept'}`,
    models(), h('div', { class: 'two' }, sampler.element, scheduler.element),
    slider('steps', 'Steps', { min: 1, max: 60, step: 1, high: 150 }),
    slider('cfg_scale', 'CFG scale', { min: 1, max: 15, step: 0.5, low: 0, high: 30, hint: 'How closely the prompt is followed; 1 leaves the negative prompt out and takes half the time.' }),
    h('div', { class: 'two' }, slider('clip_skip', 'CLIP skip', { min: 1, max: 4, step: 1, high: 12 }), seed()));
}

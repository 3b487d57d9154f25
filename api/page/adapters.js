// Adapters that are merged for this picture: strength, trigger words, and the few-steps recipe where
// an adapter has one.

import { fold } from '/page/controls.js';
import { fill, h, iconButton } from '/page/dom.js';
import { hasTag, toggleTag } from '/page/prompt.js';
import { given, onChange, set, value } from '/page/request.js';
import { onServer, server } from '/page/server.js';

const chosen = () => given('loras') ?? [];
const change = (loras) => set('loras', loras.length ? loras : undefined);

/** Equal strength in both networks is the usual case: one slider then. */
function strength(at) {
  const lora = chosen()[at];
  const now = lora.weight ?? 1;
  const put = (weight) => change(chosen().map((each, index) => (index === at ? { ...each, weight } : each)));
  const number = h('input', { type: 'number', min: -4, max: 4, step: 0.05, value: now, 'aria-label': `Strength of ${lora.name}` });
  const range = h('input', { type: 'range', min: -1, max: 2, step: 0.05, value: now, tabIndex: -1, 'aria-label': `Strength of ${lora.name}, slider` });
  range.addEventListener('input', () => { number.value = range.value; put(range.valueAsNumber); });
  number.addEventListener('input', () => {
    if (!Number.isFinite(number.valueAsNumber)) return;
    range.value = number.value;
    put(number.valueAsNumber);
  });
  return [range, number];
}

function row(lora, at) {
  const known = server.adapters.find((each) => each.name === lora.name);
  const words = known?.trigger_words ?? [];
  const about = known ? `${known.kind}, rank ${known.rank}` : 'not on this server';
  return h('li', { class: 'adapter', 'data-pointer': `/loras/${at}` },
    h('div', { class: 'adapter-head' }, h('strong', {}, lora.name), h('small', {}, about),
      iconButton('close', `Remove ${lora.name}`, () => change(chosen().filter((_, index) => index !== at)))),
    h('div', { class: 'strength' }, strength(at)),
    words.length ? h('div', { class: 'chips' }, words.slice(0, 24).map((word) => h('button', {
      type: 'button', class: 'chip small', 'aria-pressed': String(hasTag(word)),
      onclick: () => toggleTag(word, !hasTag(word)), title: 'A word this adapter was trained with',
    }, word))) : null);
}

export function build() {
  const list = h('ul', { class: 'adapters' });
  const add = h('select', { 'aria-label': 'Add an adapter', onchange: () => {
    if (add.value) change([...chosen(), { name: add.value, weight: 1 }]);
    add.value = '';
  } });
  const hyper = h('div');
  const folded = fold('Adapters', () => {
    const names = chosen().map((each) => each.name);
    return given('hyper') ? ['few steps', ...names].join(', ') : names.join(', ') || 'none';
  }, list, add, hyper);
  folded.dataset.pointer = '/loras';

  let drawn = '';
  const draw = () => {
    // The strengths are left out: redrawing would take the slider from under the finger.
    const state = JSON.stringify([server.adapters, chosen().map((each) => [each.name, (server.adapters.find((known) => known.name === each.name)?.trigger_words ?? []).map(hasTag)]), given('hyper')]);
    if (state === drawn) return;
    drawn = state;
    fill(list, chosen().map(row));
    const free = server.adapters.filter((each) => !chosen().some((lora) => lora.name === each.name));
    fill(add, h('option', { value: '' }, server.adapters.length ? 'Add an adapter…' : 'This server has no adapters'),
      free.map((each) => h('option', { value: each.name }, each.name)));
    add.disabled = !free.length;
    const recipes = server.adapters.filter((each) => each.recipe);
    fill(hyper, recipes.length ? recipe(recipes) : null);
    folded.classList.toggle('muted', !server.adapters.length && !chosen().length);
  };
  onServer(draw);
  onChange(draw);
  return folded;
}

/** The recipe decides steps, sampler, scheduler and guidance: what was set of them would win. */
function recipe(recipes) {
  const box = h('input', { type: 'checkbox', role: 'switch', checked: Boolean(given('hyper')), onchange: () => {
    for (const path of ['steps', 'sampler', 'scheduler', 'cfg_scale']) set(path, undefined);
    set('hyper', box.checked ? true : undefined);
  } });
  return h('div', { 'data-pointer': '/hyper' },
    h('label', { class: 'switch' }, box, h('span', {}, 'Few steps, by recipe')),
    h('p', { class: 'hint' }, value('hyper') ? 'Steps, sampler, scheduler and guidance follow the recipe unless you set them.' : recipes[0].recipe));
}

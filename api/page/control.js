// ControlNets: up to three, each with a picture that the new one follows. Their places are built once
// and show what the request has at that index, so that a unit which goes lets the others move up.

import { choice, field, fold, slider } from '/page/controls.js';
import { fill, h, iconButton } from '/page/dom.js';
import { FITS, fileInput, shown, takeDrops, takePastes, upload } from '/page/picture.js';
import { given, onChange, set, value } from '/page/request.js';
import { onServer, server } from '/page/server.js';
import { toast } from '/page/toast.js';

const UNITS_MAX = 3;

// By name of the preprocess: what it is, of which models' names (docs/control.md, asked from the top),
// and its numbers with their usual values and bounds (runtime/image/hint.h).
const PREPROCESSES = {
  none: { label: 'None', hint: 'The picture is a finished hint.' },
  scribble: { label: 'Scribble', hint: 'Strong lines.', of: /scribble|soft_?edge/, high: ['How strong', 32, 255] },
  canny: { label: 'Canny', hint: 'Edges.', of: /canny|edges/, low: ['Lower threshold', 100, 255], high: ['Upper threshold', 200, 255] },
  lineart: { label: 'Line art', hint: 'Dark lines on bright paper.', of: /line_?art/ },
  invert: { label: 'Invert', hint: 'A clean drawing, dark on white.' },
  threshold: { label: 'Threshold', hint: 'White where every colour is brighter.', high: ['Brighter than', 127, 255] },
  luminance: { label: 'Luminance', hint: 'Grey.', of: /recolor|brightness/ },
  blur: { label: 'Blur', hint: 'Softened.', of: /blur/, high: ['Softness, pixels', 9, 64] },
  tile: { label: 'Tile', hint: 'Its colours in coarse, the details anew.', of: /tile/, high: ['Side of a square, pixels', 1, 8] },
  inpaint: { label: 'Inpaint', hint: 'With a hole where the mask of “From a picture” is.', of: /inpaint/ },
};
const MODES = [
  { value: 'balanced', label: 'Balanced', hint: 'both alike' },
  { value: 'prompt', label: 'Prompt first', hint: 'less of it in the finer parts' },
  { value: 'control', label: 'ControlNet first', hint: 'it acts beside the positive prompt alone' }];
const PASSES = [{ value: 'both', label: 'Both' }, { value: 'first', label: 'First' }, { value: 'second', label: 'Second' }];

const units = () => given('control') ?? [];
const change = (next) => set('control', next.length ? next : undefined);
/** What becomes undefined is left out. */
const patch = (at, more) => change(units().map((unit, index) => (index !== at ? unit
  : Object.fromEntries(Object.entries({ ...unit, ...more }).filter(([, each]) => each !== undefined)))));
const suggested = (name = '') => Object.entries(PREPROCESSES).find(([, each]) => each.of?.test(name.toLowerCase()))?.[0];
const preprocessOf = (at) => PREPROCESSES[value(`control.${at}.preprocess`)] ?? {};
let element = null;

function add(name) {
  change([...units(), { model: name, ...(suggested(name) && { preprocess: suggested(name) }) }]);
}

async function follow(at, blob) {
  const uploaded = await upload(blob);
  if (uploaded && at < units().length) patch(at, { image: { id: uploaded.id } });
}

/** For the first unit that has none yet; a new one if all have. */
export async function useAsHint(blob) {
  const free = units().findIndex((unit) => !unit.image);
  const name = server.controlnets[0]?.name;
  if (free < 0 && (!name || units().length === UNITS_MAX)) {
    toast(name ? `There are ${UNITS_MAX} ControlNets already.` : 'This server has no ControlNets.');
    return;
  }
  if (free < 0) add(name);
  element.open = true;
  await follow(free < 0 ? units().length - 1 : free, blob);
}


/** The preprocess follows the name until another is chosen than the one the name before asked for. */
function takeModel(at, name) {
  const unit = units()[at];
  const untouched = (unit.preprocess ?? 'none') === (suggested(unit.model) ?? 'none');
  patch(at, { model: name, ...(untouched && { preprocess: suggested(name), low: undefined, high: undefined }) });
}

function model(at) {
  const select = h('select', { onchange: () => takeModel(at, select.value) });
  const update = () => {
    const now = given(`control.${at}.model`) ?? '';
    const names = server.controlnets.map((each) => each.name);
    const known = names.map((name) => [name, name]);
    const options = names.includes(now) ? known : [[now, `${now} (not on this server)`], ...known];
    const signature = JSON.stringify(options);
    if (select.dataset.signature !== signature) {
      select.dataset.signature = signature;
      fill(select, options.map(([name, label]) => h('option', { value: name }, label)));
    }
    select.value = now;
  };
  onServer(update);
  onChange(update);
  return field(`control.${at}.model`, 'Model', select);
}

/** A preprocess's number under the name that it has there. */
function number(at, key) {
  const path = `control.${at}.${key}`;
  const about = () => preprocessOf(at)[key];
  const whole = slider(path, '', { min: 0, max: 255, step: 1, usual: () => about()?.[1] });
  const [label, input, range] = whole.querySelectorAll('label, input');
  onChange(() => {
    whole.hidden = !about() && given(path) === undefined;
    const [name, , max] = about() ?? [key, 0, 255];
    label.textContent = name;
    range.setAttribute('aria-label', `${name}, slider`);
    input.max = max;
    range.max = max;
    range.value = value(path) ?? about()?.[1] ?? 0; // it may have been held below by the one before
  });
  return whole;
}

function preprocess(at) {
  const whole = choice(`control.${at}.preprocess`, 'Preprocess',
    () => Object.entries(PREPROCESSES).map(([name, each]) => ({ value: name, label: each.label, hint: each.hint }))).element;
  // Numbers belong to one preprocess.
  whole.querySelector('select').addEventListener('change', () => patch(at, { low: undefined, high: undefined }));
  return whole;
}

function picture(at) {
  const id = `control-file-${at}`;
  const place = h('div', { class: 'source', tabIndex: -1 });
  onChange(() => {
    const now = given(`control.${at}.image.id`);
    const state = `${now} ${Boolean(given('init'))}`;
    if (place.dataset.state === state) return;
    place.dataset.state = state;
    if (!now) {
      fill(place, h('div', { class: 'row' }, h('label', { class: 'button', for: id }, 'Choose a picture')),
        h('p', { class: 'hint' }, given('init') ? 'Without one, the picture to begin with is followed.' : 'Or drop or paste one here, or take one from the gallery.'));
      return;
    }
    fill(place, shown(now, `Picture for ControlNet ${at + 1}`), h('div', { class: 'row' },
      h('label', { class: 'button', for: id }, 'Another'),
      h('button', { type: 'button', onclick: () => patch(at, { image: undefined }) }, 'Remove the picture')));
  });
  return h('div', { 'data-pointer': `/control/${at}/image` }, fileInput(id, (file) => follow(at, file)), place);
}

function more(at) {
  const path = (name) => `control.${at}.${name}`;
  const passes = choice(path('passes'), 'In which passes', () => PASSES).element;
  onChange(() => { passes.hidden = !given('hires') && given(path('passes')) === undefined; });
  const whole = fold('More', () => {
    const parts = [];
    if (value(path('start')) > 0 || value(path('end')) < 1) parts.push(`${value(path('start'))} to ${value(path('end'))}`);
    for (const [name, list] of [['mode', MODES], ['resize', FITS], ['passes', PASSES]]) {
      if (given(path(name)) !== undefined) parts.push(list.find((each) => each.value === given(path(name)))?.label.toLowerCase());
    }
    return parts.join(', ');
  },
  h('p', { class: 'hint' }, 'It acts in this part of the steps, 0 to 1:'),
  h('div', { class: 'two' }, slider(path('start'), 'From', { min: 0, max: 1, step: 0.05 }), slider(path('end'), 'Until', { min: 0, max: 1, step: 0.05 })),
  choice(path('mode'), 'Who has more say', () => MODES).element,
  choice(path('resize'), 'If the shape differs', () => FITS).element, passes);
  whole.classList.add('inner');
  return whole;
}

function unit(at, adder) {
  const name = `ControlNet ${at + 1}`;
  const whole = h('div', { class: 'unit', role: 'group', 'aria-label': name, 'data-pointer': `/control/${at}`, hidden: true },
    h('div', { class: 'adapter-head' }, h('strong', {}, name), h('small'),
      iconButton('close', `Remove ${name}`, () => {
        change(units().filter((_, index) => index !== at));
        adder.focus();
      })),
    picture(at), h('div', { class: 'two' }, model(at), preprocess(at)), number(at, 'low'), number(at, 'high'),
    slider(`control.${at}.weight`, 'Strength', { min: 0, max: 2, step: 0.05 }), more(at));
  onChange(() => { whole.hidden = at >= units().length; });
  takeDrops(whole, (file) => follow(at, file));
  takePastes(whole, (file) => follow(at, file));
  return whole;
}

export function build() {
  const adder = h('select', { 'aria-label': 'Add a ControlNet', onchange: () => {
    if (adder.value) add(adder.value);
    adder.value = '';
  } });
  element = fold('ControlNet', () => units().map((each) => each.model).join(', ') || 'none',
    Array.from({ length: UNITS_MAX }, (_, at) => unit(at, adder)), adder);
  element.dataset.pointer = '/control';
  takeDrops(element, useAsHint);
  onServer(() => fill(adder, h('option', { value: '' }, server.controlnets.length ? 'Add a ControlNet…' : 'This server has no ControlNets'),
    server.controlnets.map((each) => h('option', { value: each.name }, each.name))));
  const update = () => { adder.disabled = !server.controlnets.length || units().length >= UNITS_MAX; };
  onServer(update);
  onChange(update);
  return element;
}

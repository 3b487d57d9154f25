// Controls bound to a path of the request, and where the server's refusals of that path appear.

import { h } from '/page/dom.js';
import { byDefault, given, onChange, set, value } from '/page/request.js';

let serial = 0;
const pointerOf = (path) => `/${path.replaceAll('.', '/')}`;

/** A labelled place for a control, with a line for what the server says about it. */
export function field(path, label, control, hint) {
  const id = control.id || `control-${(serial += 1)}`;
  control.id = id;
  return h('div', { class: 'field', 'data-pointer': pointerOf(path) },
    h('label', { for: id }, label), control, hint);
}

/** Number with a slider beside it; the number may go where the slider does not. `usual()` is the value of a field
 * whose default is not one number. */
export function slider(path, label, { min, max, step, low = min, high = max, hint, usual }) {
  const range = h('input', { type: 'range', min, max, step, 'aria-label': `${label}, slider`, tabIndex: -1 });
  const number = h('input', { type: 'number', min: low, max: high, step: 'any', inputMode: 'decimal' });
  const put = (wanted) => set(path, wanted === usual?.() ? undefined : wanted);
  const take = (input) => {
    if (input.value !== '' && Number.isFinite(input.valueAsNumber)) put(input.valueAsNumber);
  };
  range.addEventListener('input', () => take(range));
  number.addEventListener('input', () => take(number));
  number.addEventListener('change', () => {
    if (number.value === '') set(path, undefined);
  });
  number.addEventListener('keydown', (event) => { // step 'any' would count by 1
    if (event.key !== 'ArrowUp' && event.key !== 'ArrowDown') return;
    event.preventDefault();
    const next = Number(number.value) + (event.key === 'ArrowUp' ? step : -step);
    put(Math.min(number.max, Math.max(number.min, Number(next.toFixed(4)))));
  });
  onChange(() => {
    const now = value(path) ?? usual?.() ?? min;
    range.value = now;
    if (document.activeElement !== number || number.valueAsNumber !== now) number.value = now;
  });
  const whole = field(path, label, number, hint && h('p', { class: 'hint' }, hint));
  whole.classList.add('slider');
  number.after(range);
  return whole;
}

/** options(): [{value, label, hint, group}]; the hint of the chosen one stands below. */
export function choice(path, label, options) {
  const select = h('select', { onchange: () => set(path, select.value || undefined) });
  const hint = h('p', { class: 'hint' });
  const update = () => {
    const items = options();
    const now = value(path) ?? '';
    const wanted = items.some((item) => item.value === now) ? items : [{ value: now, label: String(now) }, ...items];
    const groups = [...new Set(wanted.map((item) => item.group))];
    const signature = JSON.stringify(wanted);
    if (select.dataset.signature !== signature) { // redrawing would close an open list
      select.dataset.signature = signature;
      select.replaceChildren(...groups.flatMap((group) => {
        const inside = wanted.filter((item) => item.group === group).map((item) => h('option', { value: item.value }, item.label));
        return group ? [h('optgroup', { label: group }, inside)] : inside;
      }));
    }
    select.value = now;
    hint.textContent = wanted.find((item) => item.value === now)?.hint ?? '';
  };
  onChange(update);
  return { element: field(path, label, select, hint), update };
}

/** A switch for an object whose presence turns something on. */
export function objectSwitch(path, label, ...inner) {
  const box = h('input', { type: 'checkbox', role: 'switch', onchange: () => set(path, box.checked ? {} : undefined) });
  const inside = h('div', { class: 'inside' }, inner);
  onChange(() => {
    box.checked = Boolean(given(path));
    inside.hidden = !box.checked;
  });
  return h('div', { class: 'switch-group', 'data-pointer': pointerOf(path) },
    h('label', { class: 'switch' }, box, h('span', {}, label)), inside);
}

export function check(path, label) {
  const box = h('input', { type: 'checkbox', role: 'switch', onchange: () => set(path, box.checked) });
  onChange(() => { box.checked = Boolean(value(path)); });
  return h('div', { 'data-pointer': pointerOf(path) }, h('label', { class: 'switch' }, box, h('span', {}, label)));
}

/** A folded part of the page; `summary()` says in a few words what is set inside. */
export function fold(title, summary, ...inner) {
  const said = h('span', { class: 'said' });
  const element = h('details', { class: 'fold' },
    h('summary', {}, h('span', {}, title), said), h('div', { class: 'fold-body' }, inner));
  const update = () => { said.textContent = summary(); };
  onChange(update);
  return element;
}

export const isDefault = (path) => given(path) === undefined || given(path) === byDefault(path);

// ---- Refusals ----------------------------------------------------------------------------------

export function clearErrors() {
  for (const old of document.querySelectorAll('.refusal')) old.remove();
  for (const place of document.querySelectorAll('.wrong')) place.classList.remove('wrong');
}

/** Each message beside the control it is about; those without a control are returned. */
export function showErrors(errors) {
  clearErrors();
  const homeless = [];
  let first = null;
  for (const error of errors) {
    let place = null;
    for (let at = error.pointer ?? ''; at && !place; at = at.slice(0, at.lastIndexOf('/'))) {
      place = document.querySelector(`[data-pointer="${CSS.escape(at)}"]`);
    }
    if (!place) {
      homeless.push(error.message);
      continue;
    }
    place.classList.add('wrong');
    place.append(h('p', { class: 'error refusal', role: 'alert' }, error.message));
    first ??= place;
  }
  for (let outer = first?.closest('details'); outer; outer = outer.parentElement.closest('details')) outer.open = true;
  first?.scrollIntoView({ block: 'nearest' });
  return homeless;
}

// A few words become a full prompt: the server's TIPO model adds what usually goes with them. The
// text is replaced as if it had been typed, so that undo brings the old one back.

import { post } from '/page/api.js';
import { h } from '/page/dom.js';
import { replacePrompt } from '/page/prompt.js';
import { given, value } from '/page/request.js';
import { may, server } from '/page/server.js';
import { attempt, toast } from '/page/toast.js';

const LENGTHS = [
  ['very_short', 'a little', '6 to 18 tags'], ['short', 'some', '18 to 36 tags'],
  ['long', 'much', '36 to 54 tags'], ['very_long', 'all it can', '54 to 72 tags'],
];

async function extend(select) {
  const length = select.value;
  select.value = '';
  if (!length) return;
  const before = value('prompt');
  const request = { prompt: before, syntax: value('syntax'), tipo: { length } };
  if (given('model')) request.model = given('model');
  if (given('wildcards')) request.wildcards = given('wildcards');
  select.disabled = true;
  select.options[0].textContent = 'Extending\u2026';
  const answer = await attempt(() => post('/v1/prompt/extend', request));
  select.disabled = false;
  select.options[0].textContent = 'Extend';
  if (!answer) return;
  if (value('prompt') !== before) toast('The prompt was changed meanwhile and stays as it is.');
  else if (answer.prompt === before) toast('The TIPO model had nothing to add.');
  else replacePrompt(answer.prompt);
}

const select = h('select', { 'aria-label': 'Extend the prompt', title: 'The TIPO model adds what goes with your words; undo takes it back',
  onchange: () => extend(select) },
h('option', { value: '' }, 'Extend'), LENGTHS.map(([key, text, title]) => h('option', { value: key, title }, `Extend: ${text}`)));
const element = h('span', { class: 'chip pick' }, select);

/** The chip, where the server has such a model and the key may use it. */
export const chip = () => (server.tipo && may('generate') ? element : null);

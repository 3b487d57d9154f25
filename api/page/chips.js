// Short ways to the tags that a model was trained to know: quality, rating, year. Quality is a
// field of the request where the model has presets, else plain words; rating and year stand in the
// prompt, where one sees them.

import { byId, fill, h } from '/page/dom.js';
import * as extend from '/page/extend.js';
import { hasTag, toggleTag } from '/page/prompt.js';
import { given, onChange, set, value } from '/page/request.js';
import { advice, onServer } from '/page/server.js';

const RATINGS = ['general', 'sensitive', 'questionable', 'explicit'];
const YEAR_FIRST = 2005;
const YEAR_LAST = 2023; // of the range that NovelAI Diffusion V2 knows
const PLAIN_QUALITY = ['best quality', 'very aesthetic'];

const chip = (label, pressed, title, onclick) =>
  h('button', { type: 'button', class: 'chip', 'aria-pressed': String(pressed), title, onclick }, label);

function quality() {
  const presets = advice().quality;
  if (!presets.length) {
    return PLAIN_QUALITY.map((tag) => chip(tag, hasTag(tag), 'Adds these words to the prompt', () => toggleTag(tag, !hasTag(tag))));
  }
  return presets.map((preset) => {
    const now = given('quality_tags');
    const pressed = now === preset.name || (now === true && preset.default);
    return chip(presets.length > 1 ? `Quality ${preset.name}` : 'Quality', pressed, preset.text,
      () => set('quality_tags', pressed ? undefined : preset.name));
  });
}

function undesired() {
  const presets = advice().undesired;
  if (!presets.length) return null;
  return picker('Avoid', value('undesired') === 'none' ? '' : value('undesired'),
    presets.map((preset) => [preset.name, preset.name, preset.text]), (name) => set('undesired', name || undefined));
}

/** A chip that opens a list; `chosen` "" is none. */
function picker(label, chosen, options, onPick) {
  const select = h('select', { 'aria-label': label, onchange: () => onPick(select.value) },
    h('option', { value: '' }, label), options.map(([key, text, title]) => h('option', { value: key, title }, text)));
  select.value = chosen;
  return h('span', { class: `chip pick${chosen ? ' on' : ''}` }, select);
}

function words(label, prefix, all) {
  const tags = all.map((each) => `${prefix}${each}`);
  const chosen = tags.find(hasTag) ?? '';
  return picker(label, chosen, tags.map((tag, at) => [tag, `${label}: ${all[at]}`]), (tag) => {
    if (chosen) toggleTag(chosen, false);
    if (tag) toggleTag(tag, true);
  });
}

export function start() {
  const years = Array.from({ length: YEAR_LAST - YEAR_FIRST + 1 }, (_, at) => String(YEAR_LAST - at));
  let drawn = '';
  const draw = () => {
    // Typing changes the prompt at every key; the chips only when one of their tags does.
    const state = JSON.stringify([advice(), extend.chip() !== null, given('quality_tags'), given('undesired'), value('prompt').split(/\s*,\s*/)
      .filter((tag) => PLAIN_QUALITY.includes(tag) || /^(rating:|year )/.test(tag))]);
    if (state === drawn) return;
    drawn = state;
    fill(byId('chips'), extend.chip(), quality(), undesired(), words('Rating', 'rating:', RATINGS), words('Year', 'year ', years));
  };
  onServer(draw);
  onChange(draw);
}

// The two prompts: text, its tokens, weights by keyboard, completion. They are the page's centre.

import { complete } from '/page/complete.js';
import { byId, h } from '/page/dom.js';
import { fold } from '/page/controls.js';
import { onPlan } from '/page/plan.js';
import { given, onChange, set, value } from '/page/request.js';
import { nudge } from '/page/weights.js';

const CHUNK = 75; // tokens that the text encoder reads at once

/** Replace a part of a field as if it had been typed, so that undo works. */
function edit(area, start, end, text) {
  area.focus();
  area.setSelectionRange(start, end);
  if (!document.execCommand('insertText', false, text)) area.setRangeText(text, start, end, 'end');
}

function grow(area) {
  if (CSS.supports('field-sizing', 'content')) return; // the style sheet does it
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight + 2}px`;
}

function bind(area, path) {
  area.addEventListener('input', () => {
    set(path, area.value || undefined);
    grow(area);
  });
  area.addEventListener('keydown', (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!direction || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const next = nudge(area.value, area.selectionStart, area.selectionEnd, direction, value('syntax'));
    if (!next) return;
    edit(area, 0, area.value.length, next.text);
    area.setSelectionRange(next.start, next.end);
  });
  complete(area, (start, end, text) => edit(area, start, end, text));
  onChange(() => {
    const now = given(path) ?? '';
    if (area.value !== now) area.value = now;
    grow(area);
  });
}

/** Tokens of a text as a number and a thin line that fills chunk by chunk. */
function meter(element, tokens) {
  const most = (tokens ?? []).reduce((a, b) => (b.total > a.total ? b : a), { total: 0, chunks: [0] });
  const last = most.chunks.at(-1) ?? 0;
  const bar = h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', {}));
  bar.firstChild.style.width = `${Math.min(100, (last / CHUNK) * 100)}%`;
  const words = most.chunks.length > 1 ? `${most.total} tokens in ${most.chunks.length} chunks` : `${most.total} of ${CHUNK} tokens`;
  element.replaceChildren(bar, words);
}

/** Another text for the whole prompt, that undo takes back. */
export function replacePrompt(text) {
  const area = byId('prompt');
  edit(area, 0, area.value.length, text);
}

const escaped = (tag) => tag.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Add a tag to the prompt, or take it out again; the rest stays as it was written. */
export function toggleTag(tag, wanted) {
  const text = byId('prompt').value;
  const without = text.replace(new RegExp(`(^|,)[^\\S\\n]*${escaped(tag)}[^\\S\\n]*(?=,|\\n|$)`, 'g'), '')
    .replace(/^[^\S\n]*,[^\S\n]*/, '');
  if (!wanted) set('prompt', without);
  else if (without.trim() === '') set('prompt', tag);
  else set('prompt', `${without.replace(/[\s,]+$/, '')}, ${tag}`);
}

export const hasTag = (tag) => value('prompt').split(/\s*,\s*/).includes(tag);

export function start() {
  const prompt = byId('prompt');
  bind(prompt, 'prompt');
  const negative = h('textarea', { id: 'negative', rows: 2, spellcheck: false, autocomplete: 'off',
    placeholder: 'What should not be in it', 'aria-describedby': 'negative-tokens', 'aria-label': 'Negative prompt' });
  const tokens = h('div', { class: 'tokens', id: 'negative-tokens' });
  const folded = fold('Negative prompt', () => value('negative_prompt') || 'nothing',
    h('div', { class: 'field', 'data-pointer': '/negative_prompt' }, negative, tokens));
  folded.classList.add('negative');
  byId('prompt-tokens').parentElement.after(folded);
  bind(negative, 'negative_prompt');
  meter(byId('prompt-tokens'), []);
  meter(tokens, []);
  onPlan((plan) => {
    meter(byId('prompt-tokens'), plan?.tokens?.prompt);
    meter(tokens, plan?.tokens?.negative_prompt);
  });
  if (given('negative_prompt')) folded.open = true;
}

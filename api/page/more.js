// Fields that have no control of their own, as JSON: nothing of a dropped picture's settings is
// hidden, and everything of the interface can be reached.

import { choice, fold } from '/page/controls.js';
import { h } from '/page/dom.js';
import { body, onChange, replace } from '/page/request.js';
import { onServer, server } from '/page/server.js';

const SHOWN_ELSEWHERE = new Set(['prompt', 'negative_prompt', 'model', 'width', 'height', 'size', 'images', 'steps', 'cfg_scale',
  'sampler', 'scheduler', 'seed', 'clip_skip', 'loras', 'hyper', 'quality_tags', 'undesired', 'init', 'control', 'hires', 'deep_shrink', 'sweep']);

const split = () => {
  const rest = {};
  const shown = {};
  for (const [name, inner] of Object.entries(body())) (SHOWN_ELSEWHERE.has(name) ? shown : rest)[name] = inner;
  return { rest, shown };
};

export function build() {
  const area = h('textarea', { rows: 4, spellcheck: false, id: 'more-fields', class: 'mono', placeholder: '{"guidance": {"rescale": 0.7}}', 'aria-label': 'More fields as JSON' });
  const wrong = h('p', { class: 'error', hidden: true });
  area.addEventListener('input', () => {
    let parsed = {};
    try {
      parsed = area.value.trim() ? JSON.parse(area.value) : {};
      if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed)) throw new Error('this must be an object: {"field": value}');
      wrong.hidden = true;
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
      return;
    }
    replace({ ...split().shown, ...parsed }, parsed.output ?? null);
  });
  onChange(() => {
    const { rest } = split();
    let same = false;
    try {
      same = JSON.stringify(area.value.trim() ? JSON.parse(area.value) : {}) === JSON.stringify(rest);
    } catch { same = document.activeElement === area; /* half typed */ }
    if (!same && document.activeElement !== area) area.value = Object.keys(rest).length ? JSON.stringify(rest, null, 2) : '';
  });
  const format = choice('output.format', 'File', () => server.formats.map((name) => ({ value: name === 'png' ? '' : name, label: { jpeg: 'JPEG', webp: 'WebP' }[name] ?? 'PNG' })));
  onServer(() => {
    format.element.hidden = server.formats.length < 2;
    format.update();
  });
  return fold('Everything else', () => Object.keys(split().rest).join(', ') || 'as the model wants it',
    format.element, h('p', { class: 'hint' }, 'Any other field of a request, as JSON: guidance, syntax, variation, sampler_options and so on.'), area, wrong);
}

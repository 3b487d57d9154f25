// Completion of the tag under the caret. The list follows the caret; arrows choose, Enter or Tab
// take, Escape closes. Embeddings are completed from what the server has.

import { get } from '/page/api.js';
import { debounce, h } from '/page/dom.js';
import { server, model } from '/page/server.js';
import { value } from '/page/request.js';

const WAIT_MS = 120;
const ROWS = 8;
const LETTERS_MIN = 2;

/** Where the caret is drawn: the text up to it, set again in a hidden twin of the field. */
function caretPlace(area) {
  const style = getComputedStyle(area);
  const twin = h('div', { class: 'twin' });
  for (const name of ['font', 'letterSpacing', 'padding', 'border', 'lineHeight', 'boxSizing', 'tabSize']) twin.style[name] = style[name];
  twin.style.width = `${area.clientWidth}px`;
  const mark = h('span', {}, '\u00a0');
  twin.append(area.value.slice(0, area.selectionStart), mark);
  area.parentElement.append(twin);
  const place = { left: mark.offsetLeft, top: mark.offsetTop + mark.offsetHeight - area.scrollTop };
  twin.remove();
  return place;
}

/** The beginning of a tag before the caret: [its text, where it starts]. */
function beginning(area) {
  if (area.selectionStart !== area.selectionEnd) return ['', 0];
  const before = area.value.slice(0, area.selectionStart);
  const start = before.search(/[^,\n(){}[\]|]*$/);
  const word = before.slice(start);
  const blanks = word.length - word.trimStart().length;
  return [word.trimStart(), start + blanks];
}

export function complete(area, insert) {
  const list = h('ul', { class: 'completions', role: 'listbox', id: `${area.id}-tags`, hidden: true });
  let items = [];
  let chosen = -1;
  let asking = new AbortController();
  for (const [name, text] of [['role', 'combobox'], ['aria-autocomplete', 'list'], ['aria-expanded', 'false'], ['aria-controls', list.id]]) {
    area.setAttribute(name, text);
  }
  area.after(list);

  function close() {
    asking.abort();
    list.hidden = true;
    items = [];
    area.setAttribute('aria-expanded', 'false');
    area.removeAttribute('aria-activedescendant');
  }

  function choose(index) {
    chosen = (index + items.length) % items.length;
    [...list.children].forEach((row, at) => row.setAttribute('aria-selected', at === chosen));
    list.children[chosen].scrollIntoView({ block: 'nearest' });
    area.setAttribute('aria-activedescendant', list.children[chosen].id);
  }

  function take(item) {
    const [, start] = beginning(area);
    const end = area.selectionStart;
    const follows = /^\s*[,)\]}|]/.test(area.value.slice(end));
    close();
    insert(start, end, item.text + (follows ? '' : ', '));
    area.dispatchEvent(new Event('input'));
    close();
  }

  function show(found) {
    items = found;
    if (!items.length || document.activeElement !== area) {
      close();
      return;
    }
    list.replaceChildren(...items.map((item, at) => h('li', {
      role: 'option', id: `${list.id}-${at}`, class: item.category,
      onpointerdown: (event) => { event.preventDefault(); take(item); },
    }, h('span', {}, item.renamed ?? item.name.replaceAll('_', ' ')),
    h('small', {}, item.alias ? `${item.alias.replaceAll('_', ' ')} · ` : '', item.count ? item.count.toLocaleString('en') : item.category))));
    list.hidden = false;
    const place = caretPlace(area);
    list.style.left = `${Math.max(0, Math.min(place.left, area.clientWidth - list.offsetWidth))}px`;
    list.style.top = `${area.offsetTop + Math.min(place.top, area.clientHeight)}px`;
    area.setAttribute('aria-expanded', 'true');
    choose(0);
  }

  const ask = debounce(WAIT_MS, async () => {
    const [word] = beginning(area);
    if (word.length < LETTERS_MIN || word.length > 60) {
      close();
      return;
    }
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const low = word.toLowerCase();
    const own = server.embeddings.filter((each) => each.name.toLowerCase().startsWith(low) && each.name !== word)
      .map((each) => ({ name: each.name, text: each.name, category: 'embedding' }));
    const query = new URLSearchParams({ q: word, limit: ROWS, syntax: value('syntax'), ...(model() && { model: model().id }) });
    try {
      const { tags } = await get(`/v1/tags?${query}`, { signal });
      const found = [...own, ...tags].slice(0, ROWS);
      if (!signal.aborted) show(found.length === 1 && found[0].text === word ? [] : found);
    } catch {
      if (!signal.aborted) show(own); // completion is a courtesy: no sentence about its absence
    }
  });

  area.addEventListener('input', (event) => {
    if (event.isTrusted) ask();
  });
  area.addEventListener('blur', close);
  area.addEventListener('keydown', (event) => {
    if (list.hidden || event.isComposing || event.ctrlKey || event.metaKey) return;
    if (event.key === 'ArrowDown') choose(chosen + 1);
    else if (event.key === 'ArrowUp') choose(chosen - 1);
    else if (event.key === 'Enter' || event.key === 'Tab') take(items[chosen]);
    else if (event.key === 'Escape') close();
    else {
      if (event.key.startsWith('Arrow') || event.key === 'Home' || event.key === 'End') close();
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  });
}

// Who one is to the server (a key), and light or dark.

import { get, key, listen } from '/page/api.js';
import { byId, fill, h, icon } from '/page/dom.js';
import { server, onServer } from '/page/server.js';

const THEME = 'latentd.theme';
const THEMES = ['auto', 'light', 'dark'];
const DRAWINGS = { auto: 'auto', light: 'sun', dark: 'moon' };

function theme() {
  const button = h('button', { type: 'button', class: 'quiet' });
  const apply = (name) => {
    document.documentElement.dataset.theme = name;
    fill(button, icon(DRAWINGS[name]));
    button.title = `Colours: ${name}`;
    button.setAttribute('aria-label', button.title);
  };
  button.addEventListener('click', () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    localStorage.setItem(THEME, next);
    apply(next);
  });
  const kept = localStorage.getItem(THEME);
  apply(THEMES.includes(kept) ? kept : 'auto');
  return button;
}

/** Asks for a key; `onKey` when there is another one. */
function askForKey(onKey) {
  if (document.querySelector('dialog.key')) return;
  const input = h('input', { type: 'password', id: 'key-input', autocomplete: 'off', placeholder: 'ldk_…', spellcheck: false });
  const remember = h('input', { type: 'checkbox', role: 'switch' });
  const wrong = h('p', { class: 'error', role: 'alert', hidden: true });
  const dialog = h('dialog', { class: 'key', 'aria-label': 'Key', onclose: () => dialog.remove() });
  const take = async (text) => {
    const before = key.get();
    key.set(text, remember.checked);
    if (text) {
      try {
        await get('/v1/models'); // a wrong one is told here, not at the next picture
      } catch (error) {
        key.set(before, false);
        wrong.textContent = error.status === 401 ? 'The server does not know this key.' : error.message;
        wrong.hidden = false;
        return;
      }
    }
    dialog.close();
    onKey();
  };
  fill(dialog, h('form', { method: 'dialog', onsubmit: (event) => { event.preventDefault(); take(input.value.trim()); } },
    h('h2', {}, 'Key'), h('p', { class: 'hint' }, 'Your jobs and pictures are those of your key. It is kept in this browser and sent to this server only.'),
    h('div', { class: 'field' }, h('label', { for: 'key-input' }, 'Key'), input, wrong),
    h('label', { class: 'switch' }, remember, h('span', {}, 'Keep it when the tab is closed')),
    h('div', { class: 'row end' },
      key.get() && h('button', { type: 'button', onclick: () => take('') }, 'Forget the key'),
      h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
      h('button', { type: 'submit', class: 'primary' }, 'Use it'))));
  document.body.append(dialog);
  dialog.showModal();
}

export function start(onKey) {
  const account = h('button', { type: 'button', class: 'quiet', id: 'key-button', title: 'Key', 'aria-label': 'Key', onclick: () => askForKey(onKey) }, icon('key'));
  const name = h('span', { class: 'who' });
  fill(byId('bar-end'), name, theme(), account);
  onServer(() => { name.textContent = server.me && !server.me.anonymous ? server.me.name ?? '' : ''; });
  listen('unauthorized', () => askForKey(onKey));
}

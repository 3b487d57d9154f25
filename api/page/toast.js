import { byId, h } from '/page/dom.js';

const SHOWN_MS = 6000;

/** A sentence at the edge of the page that goes by itself. */
export function toast(text) {
  const element = h('p', { class: 'toast' }, text);
  byId('toasts').append(element);
  setTimeout(() => element.remove(), SHOWN_MS);
}

/** Run something that may be refused; the refusal becomes a sentence. */
export async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    if (error.status === undefined) throw error; // ours: the console must see it
    if (error.status !== 401) toast(error.message);
    return undefined;
  }
}

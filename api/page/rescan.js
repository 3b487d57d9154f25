// The folders once more, for an admin: what came, went and changed, and what cannot be used and why.

import { post } from '/page/api.js';
import { fill, h } from '/page/dom.js';
import { load } from '/page/server.js';
import { attempt } from '/page/toast.js';

const KINDS = { models: ['model', 'models'], adapters: ['adapter', 'adapters'], embeddings: ['embedding', 'embeddings'], vaes: ['VAE', 'VAEs'], controlnets: ['ControlNet', 'ControlNets'], wildcards: ['wildcard list', 'wildcard lists'] };
const DONE = { added: 'Came', removed: 'Went', changed: 'Changed' };
const REFUSED_SHOWN = 20;

const unusable = (found) => Object.keys(KINDS).reduce((sum, kind) => sum + (found[kind]?.unusable ?? 0), 0);
const counted = (count, [one, many]) => `${count} ${count === 1 ? one : many}`;

/** "Came: 1 model, 2 adapters. Went: 1 VAE." */
function sentence(found) {
  const told = Object.entries(DONE).map(([what, verb]) => {
    const kinds = Object.entries(KINDS).filter(([kind]) => found[kind]?.[what]).map(([kind, names]) => counted(found[kind][what], names));
    return kinds.length ? `${verb}: ${kinds.join(', ')}.` : '';
  });
  const refused = unusable(found);
  return [told.filter(Boolean).join(' ') || 'Nothing has changed.', refused ? `Refused: ${counted(refused, ['file', 'files'])}.` : ''].filter(Boolean).join(' ');
}

function refusals(found) {
  const shown = [...(found.refused ?? [])].sort((a, b) => a.name.localeCompare(b.name)).slice(0, REFUSED_SHOWN);
  const more = unusable(found) - shown.length;
  return h('ul', { class: 'notes' }, shown.map((each) => h('li', {}, h('b', {}, each.name), ` (${each.kind}): ${each.reason}`)),
    more > 0 && h('li', {}, `and ${more} more; the log names them.`));
}

export function build() {
  const said = h('div', { class: 'hint', id: 'rescan-said', role: 'status' });
  let looking = false;
  const look = () => attempt(async () => {
    if (looking) return; // the button stays pressable, so that the keyboard does not lose its place
    looking = true;
    fill(said, 'Looking…');
    try {
      const found = await post('/v1/admin/rescan');
      await load(); // every list of the page
      fill(said, h('p', {}, sentence(found)), refusals(found));
    } catch (error) {
      fill(said);
      throw error;
    } finally {
      looking = false;
    }
  });
  return [h('div', { class: 'row' }, h('button', { type: 'button', id: 'rescan', onclick: look }, 'Look for new files')), said];
}

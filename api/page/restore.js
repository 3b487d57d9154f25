// Taking up settings: from a picture dropped or pasted anywhere on the page, or from the gallery.

import { call, get, pictureType } from '/page/api.js';
import { byId } from '/page/dom.js';
import { clearErrors } from '/page/controls.js';
import { leaves, replace } from '/page/request.js';
import { model, modelChanged, server } from '/page/server.js';
import { attempt, toast } from '/page/toast.js';

const LISTED = 5;
const UPLOADS_LISTED = 1000; // the most that the server names

/** The server's own name of a sampler or schedule that another program wrote ("DPM++ 2M", "Karras"). */
function ownName(list, name) {
  const same = (text) => text.toLowerCase() === name.toLowerCase();
  return list.find((each) => each.name === name)?.name ?? list.find((each) => [each.name, each.label ?? '', ...each.aliases ?? []].some(same))?.name ?? name;
}

/** Units lose a picture that is not on this server (any more); sentences that say so. */
async function forgetLostPictures(settings) {
  const units = settings.control ?? [];
  if (!units.length) return [];
  const held = (await attempt(() => get('/v1/images')))?.images;
  const ids = new Set(held?.map((each) => each.id));
  const isWhole = held && held.length < UPLOADS_LISTED; // otherwise the server says so when it is asked to paint
  const lost = [];
  units.forEach((unit, at) => {
    if (isWhole && unit.image?.id && !ids.has(unit.image.id)) delete unit.image;
    if (!unit.image && !settings.init) lost.push(`the picture of ControlNet ${at + 1} must be chosen again`);
  });
  return lost;
}

export async function restore(taken, origin, notes = []) {
  const settings = structuredClone(taken);
  clearErrors();
  const before = model()?.id;
  const known = !settings.model || server.models.some((each) => each.id === settings.model);
  for (const [path, list] of [['sampler', server.samplers], ['scheduler', server.schedulers]]) {
    if (typeof settings[path] === 'string') settings[path] = ownName(list, settings[path]);
  }
  const lost = await forgetLostPictures(settings);
  const { model: wanted, ...rest } = settings;
  const isDefault = server.models.find((each) => each.default)?.id === wanted;
  replace(known && wanted && !isDefault ? settings : rest);
  if (model()?.id !== before) await modelChanged();
  const missing = known ? [] : [`this server has no model ${wanted}`];
  const said = [...missing, ...lost, ...notes].slice(0, LISTED);
  toast(`${leaves(settings).size} settings taken ${origin}${said.length ? `; ${said.join('; ')}` : ''}.`);
}

export async function restoreFile(file) {
  const info = await attempt(async () => (await call('POST', '/v1/png-info', { body: file, type: pictureType(file) })).json());
  if (!info) return;
  if (!info.request || !Object.keys(info.request).length) {
    toast('This picture says nothing about its settings. Drop it on “From a picture” to begin with it.');
    return;
  }
  location.hash = '#create';
  await restore(info.request, `from the picture (${info.source})`, info.notes?.map(String) ?? []);
}

export function start() {
  const veil = byId('drop');
  let depth = 0; // enter and leave come for every element on the way
  const hide = () => { depth = 0; veil.hidden = true; };
  const hasFile = (event) => [...event.dataTransfer?.types ?? []].includes('Files');
  addEventListener('dragenter', (event) => {
    if (!hasFile(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener('dragleave', () => {
    depth -= 1;
    if (depth <= 0) hide();
  });
  addEventListener('dragover', (event) => {
    if (hasFile(event)) event.preventDefault();
  });
  addEventListener('drop', (event) => {
    hide();
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    restoreFile(file);
  });
  document.addEventListener('dropped', hide); // taken by another place of the page
  addEventListener('paste', (event) => {
    const file = event.clipboardData?.files[0];
    if (file?.type.startsWith('image/')) restoreFile(file);
  });
}
